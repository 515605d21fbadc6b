"""The setting of ‖∇L‖² along descent: it has the numbers of the study, and measures its error."""

import numpy as np
import pytest

from gflow.errors import InputError
from gflow.scenario import validate
from gflow.studies.implicit_regularization import implicit_regularization

SMALL = {"samples": 12, "width": 6, "depth": 1, "t_end": 2.0, "points": 5}
SIZES = [0.2, 0.1]


def make(**keys):
    base = {"setting": "implicit-regularization", "data": "digits", "step_sizes": SIZES}
    return validate({**base, **SMALL, **keys}, "a test")


@pytest.fixture(scope="module")
def outcome():
    return make().run(lambda name, t_end: None)


@pytest.mark.slow
def test_arrays_are_those_of_the_study(outcome):
    ds, setup = outcome.dataset, make().setup()
    result = implicit_regularization(setup.flow, setup.y0, 2.0, SIZES, points=5)
    np.testing.assert_allclose(ds["squared_gradient"], result.slopes)
    for i in range(len(SIZES)):
        np.testing.assert_allclose(ds["descent_squared_gradient"][i], result.descent_slopes[i])
        np.testing.assert_allclose(ds["modified_squared_gradient"][i], result.modified_slopes[i])
        np.testing.assert_allclose(ds["descent_ratio"][i], result.descent_ratios[i])
        np.testing.assert_allclose(ds["modified_ratio"][i], result.modified_ratios[i])
    np.testing.assert_allclose(ds["largest_gap"], result.study.gaps)
    np.testing.assert_allclose(ds["modified_gap"], result.study.modified_gaps)


def test_summary_has_a_ratio_for_each_step_size(outcome):
    for i, row in enumerate(outcome.summary["step_sizes"]):
        ratios = outcome.dataset["descent_ratio"].values[i, 1:]
        ratios = np.sort(ratios[np.isfinite(ratios)])  # the last loss is below the flow's
        assert row["median_ratio"] == ratios[(len(ratios) - 1) // 2]
        assert row["modified_median_ratio"] == pytest.approx(row["median_ratio"], abs=0.01)
    assert outcome.summary["parameters"] == 64 * 6 + 6 + 60 + 10
    assert "‖∇L‖²" in outcome.dataset["largest_gap"].attrs["long_name"]


@pytest.mark.slow
def test_step_sizes_by_default_are_four_below_the_stability_limit():
    rows = make(step_sizes=None, points=3).run(lambda name, t_end: None).summary["step_sizes"]
    assert len(rows) == 4
    assert all(row["stable"] for row in rows)


def test_error_is_always_measured():
    with pytest.raises(InputError, match="leave out --no-estimate-error"):
        make(estimate_error=False).run(lambda name, t_end: None)
