"""Differences of runs, against values worked out by hand."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from gflow.errors import InputError
from gflow.reporting.comparison import compare_runs, comparison_of, labels_of
from gflow.runs import Run

TIMES = np.linspace(0.0, 2.0, 5)


def made(name, values=None, times=TIMES, **summary):
    """Return a run in memory with one curve over time."""
    values = np.square(times) if values is None else values
    ds = xr.Dataset({"loss": ("time", values, {"long_name": "loss"})}, {"time": times})
    ds["spectrum"] = (("time", "mode"), np.stack([values, 2 * values], axis=1))
    rows = [{"step_size": s, "largest_gap": s, "stable": True} for s in summary.pop("sizes", ())]
    whole = {"kind": "flow-and-descent", "descent": rows, "final_loss": 0.5, "cost": {}} | summary
    manifest = {"gflow": "0.1.0", "packages": {"numpy": "2"}}
    return Run(Path(name), {"depth": 2, "data": "iris"}, manifest, whole, ds)


def test_equal_runs_do_not_differ():
    compared = comparison_of([made("a"), made("b")])
    assert compared.labels == ("a", "b")
    assert compared.scenario == compared.versions == compared.numbers == {}
    assert compared.equal_numbers == 1
    assert [curve.values for curve in compared.curves] == [(0.0,), (0.0,)]


def test_difference_of_a_curve_is_relative_to_the_largest_value_of_the_first():
    compared = comparison_of([made("a"), made("b", TIMES**2 + 1), made("c", 3 * TIMES**2)])
    by_name = {curve.name: curve.values for curve in compared.curves}
    assert by_name["loss"] == (1 / 4, 2.0)  # the largest value of t² is 4
    assert by_name["spectrum"] == (2 / 8, 2.0)


def test_curves_at_other_times_are_compared_where_both_are_defined():
    fine = np.linspace(0.0, 1.0, 101)
    (loss, _) = comparison_of([made("a"), made("b", 2 * fine, fine)]).curves
    # At t = 0, 0.5 and 1 of the first: t² against 2t, relative to the largest t² there.
    assert loss.values == (pytest.approx(max(0.0, 0.75, 1.0) / 1.0),)
    apart = comparison_of([made("a"), made("b", times=TIMES + 10)])
    assert apart.curves == ()


def test_values_that_are_not_finite_are_left_out():
    values = TIMES**2
    broken = np.where(TIMES > 1, np.nan, values + 1)
    loss = comparison_of([made("a"), made("b", broken)]).curves[-1]
    assert loss.values == (1.0,)  # the largest t² up to t = 1 is 1


def test_numbers_and_keys_that_differ():
    other = made("b", final_loss=0.25, sizes=(0.1, 0.2))
    other.scenario["depth"] = 3
    other.manifest["packages"] = {"numpy": "3"}
    compared = comparison_of([made("a", sizes=(0.1, 0.2)), other])
    assert compared.scenario == {"depth": (2, 3)}
    assert compared.versions == {"numpy": ("2", "3")}
    assert compared.numbers == {"final_loss": (0.5, 0.25)}


@pytest.mark.parametrize(
    ("sizes", "name"), [((0.1, 0.3), "row 2"), ((0.1, 0.2), None)], ids=["other", "same"]
)
def test_rows_are_matched_by_label_or_else_by_place(sizes, name):
    compared = comparison_of([made("a", sizes=(0.1, 0.2)), made("b", sizes=sizes)])
    expected = {} if name is None else {f"largest_gap ({name})": (0.2, 0.3)}
    found = {k: v for k, v in compared.numbers.items() if k.startswith("largest_gap")}
    assert found == expected


def test_labels_tell_runs_apart():
    assert labels_of([Path("a/b/run"), Path("a/c/run")]) == ("b/run", "c/run")
    assert labels_of([Path("a/1/x"), Path("a/2")]) == ("x", "2")
    assert labels_of([Path("x"), Path("x")]) == ("x (1)", "x (2)")


def test_one_run_is_no_comparison(tmp_path):
    with pytest.raises(InputError, match="at least two runs, got 1"):
        compare_runs([tmp_path])
