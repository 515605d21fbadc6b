"""Figures of networks of several widths."""

import numpy as np
import pytest

from gflow import plots
from tests.plots.results import dataset, drawn, labels


def test_medians_over_seeds_are_drawn_for_every_width():
    ds = dataset("wide-network")
    axes = drawn("wide-network")["distance"].axes[0]
    for i, width in enumerate(ds["width"].values):
        (line,) = (line for line in axes.lines if line.get_label() == f"m = {width}")
        medians = np.median(ds["descent_distance"].values[i], axis=0)
        np.testing.assert_allclose(line.get_ydata(), medians)


def test_marked_peaks_are_those_of_the_table():
    ds = dataset("wide-network")
    axes = drawn("wide-network")["distance"].axes[0]
    marked = [line.get_ydata() for line in axes.lines if line.get_marker() == "v"]
    expected = np.median(ds["descent_distance"].values.max(axis=2), axis=1)
    np.testing.assert_allclose(np.ravel(marked), expected)
    texts = {text.get_text() for text in axes.texts}
    assert {f"{height:.3g}" for height in expected} <= texts
    # A peak is marked where its curve has it, not between the peaks of seeds.
    epochs = [float(line.get_xdata()[0]) for line in axes.lines if line.get_marker() == "v"]
    medians = np.median(ds["descent_distance"].values, axis=1)
    assert epochs == ds["epoch"].values[medians.argmax(axis=1)].tolist()


def test_titles_say_whether_a_power_falls_or_grows():
    ds = dataset("wide-network")
    for sign, word in ((-1, "falls"), (1, "grows")):
        turned = ds.assign(fit_slope=sign * abs(ds["fit_slope"]))
        title = plots.figures(turned, only=["peak"])["peak"].get_suptitle()
        assert f"kernel {word} as width^(" in title
    # The fitted lines are within the axes.
    axes = drawn("wide-network")["kernel_drift"].axes[1]
    lines = np.concatenate([line.get_ydata() for line in axes.lines if line.get_lw() == 1])
    low, high = axes.get_ylim()
    assert low < lines.min() < lines.max() < high


def test_peaks_have_their_fitted_slopes():
    ds = dataset("wide-network")
    slope = float(ds["fit_slope"].sel(fit="descent_peak"))
    (text,) = (t for t in labels(drawn("wide-network")["peak"]) if "kernel, descent" in t)
    assert text.startswith(f"network to kernel, descent: slope {slope:.2f}")


@pytest.mark.slow
def test_descents_that_diverged_at_every_width_are_not_drawn():
    assert not np.isfinite(dataset("diverged")["descent_distance"].values.max(axis=2)).any()
    texts = labels(drawn("diverged")["peak"])
    assert not any("kernel, descent" in text for text in texts)
    assert any("kernel, flow" in text for text in texts)
