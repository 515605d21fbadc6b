"""Figures of kernel flow."""

import numpy as np

from gflow import plots
from tests.plots.results import dataset, drawn, labels


def test_residual_is_drawn_below_its_bound():
    lines = {line.get_label(): line for line in drawn("kernel")["residual"].axes[0].lines}
    (residual,) = (line for label, line in lines.items() if label.startswith("gradient flow"))
    (bound,) = (line for label, line in lines.items() if label.startswith("bound"))
    np.testing.assert_array_equal(residual.get_ydata(), dataset("kernel")["residual_norm"])
    assert (residual.get_ydata() <= bound.get_ydata() * (1 + 1e-9)).all()


def test_modes_are_drawn_with_the_largest_eigenvalue_first():
    texts = labels(drawn("kernel")["residual"], 1)
    numbers = [int(text.removeprefix("mode ")) for text in texts]
    assert numbers[0] == 1
    assert numbers == sorted(numbers)


def test_eigenvalues_are_drawn_by_mode():
    axes = drawn("kernel")["learning"].axes[0]
    (line,) = (line for line in axes.lines if str(line.get_label()).startswith("eigenvalue"))
    eigenvalues = dataset("kernel")["kernel_eigenvalues"].values
    np.testing.assert_array_equal(line.get_ydata(), eigenvalues[eigenvalues > 0])


def test_modes_that_fall_before_the_first_time_have_no_number_far_below():
    ds = dataset("kernel").copy()
    ds["mode_residuals"][1:] = 1e-30
    axes = plots.figures(ds, only=["residual"])["residual"].axes[1]
    low, high = axes.get_ylim()
    numbers = [text for text in axes.texts if text.get_text().isdigit()]
    assert not numbers
    later = drawn("kernel")["residual"].axes[1].texts  # as the modes are, each has its number
    numbers = [text for text in later if text.get_text().isdigit()]
    assert numbers
    assert all(low <= text.get_position()[1] <= high for text in numbers)
