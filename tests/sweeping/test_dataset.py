"""The dataset of a sweep: what is in it, from what is done, and how it is drawn."""

import json

import numpy as np
import pytest
import xarray as xr

import gflow
from gflow.errors import InputError
from gflow.plots.sweeps import sweep_figure
from gflow.runs import runner as running
from gflow.sweeping.dataset import write_sweep
from gflow.sweeping.engine import run_sweep
from gflow.sweeping.folder import SweepFolder, run_path
from gflow.sweeping.plan import make_plan
from tests.sweeping.conftest import small_plan

BARE = running.RunOptions(draw=False)


def run_here(plan, folder, members=None):
    """The runs of a plan in this process."""
    with SweepFolder(folder).lock(plan):
        for member in plan.members if members is None else members:
            running.run(running.Job(member.scenario), run_path(folder, member.id), BARE)


def test_numbers_and_curves_stand_where_their_runs_do(tmp_path):
    plan = small_plan(("t_end", "1.0,3.0"), ("step_size", "0.1,0.2"), seeds=2)
    run_here(plan, tmp_path)
    ds = gflow.load_sweep(tmp_path)
    assert dict(ds.final_loss.sizes) == {"t_end": 2, "step_size": 2, "seed": 2}
    for member in plan.members:
        run = gflow.load_run(run_path(tmp_path, member.id))
        one = ds.sel(member.point)
        (row,) = run.summary["descent"]
        assert one.final_loss == run.summary["final_loss"]
        assert one.descent_final_loss == row["final_loss"]
        assert one.largest_gap == row["largest_gap"]
        assert one.certificate_holds == 1
        assert str(one.run.values) == member.id
        np.testing.assert_array_equal(one.loss, run.result.loss)
        np.testing.assert_array_equal(one.mode_residuals, run.result.mode_residuals)
    assert ds.loss.attrs["long_name"] == "loss"
    assert all({"long_name", "units"} <= set(v.attrs) for v in ds.variables.values())
    table = gflow.load_sweep(tmp_path, curves=False).to_dataframe()
    assert len(table) == 8
    assert table.loc[(3.0, 0.2, 1), "final_loss"] == float(ds.final_loss[1, 1, 1])
    xr.testing.assert_identical(xr.load_dataset(write_sweep(tmp_path)), ds)


def test_what_is_not_done_is_nan_and_said(tmp_path):
    plan = small_plan(("step_size", "0.1,0.2"), seeds=2)
    run_here(plan, tmp_path, plan.members[:3])
    (run_path(tmp_path, plan.members[0].id) / "result.nc").write_bytes(b"\x89HDF")
    with pytest.warns(UserWarning, match=r"damaged run .*; delete its folder and resume the sweep"):
        ds = gflow.load_sweep(tmp_path)
    assert ds.state.values.tolist() == [["damaged", "done"], ["done", "missing"]]
    assert np.isnan(ds.final_loss.values).tolist() == [[True, False], [False, True]]
    assert np.isnan(ds.loss.values).all(axis=-1).tolist() == [[True, False], [False, True]]


def test_a_sweep_of_which_nothing_is_done_is_a_dataset_too(tmp_path):
    plan = small_plan(seeds=2)
    run_here(plan, tmp_path, [])
    ds = gflow.load_sweep(tmp_path)
    assert ds.state.values.tolist() == ["missing", "missing"]
    assert set(ds) == {"state", "run"}
    with pytest.raises(InputError, match="there is no variable 'final_loss'"):
        sweep_figure(ds, "seed", "final_loss")


def test_tables_of_several_rows_get_a_dimension(tmp_path):
    plan = small_plan(("step_sizes", "0.1,0.2,0.4"), seeds=2)
    run_here(plan, tmp_path)
    ds = gflow.load_sweep(tmp_path)
    assert ds.largest_gap.dims == ("seed", "step_size")
    run = gflow.load_run(run_path(tmp_path, plan.members[1].id))
    for row in run.summary["descent"]:
        assert ds.largest_gap.sel(seed=1, step_size=row["step_size"]) == row["largest_gap"]
    assert ds.final_loss.dims == ("seed",)


def test_widths_are_one_a_run_and_seeds_too(tmp_path):
    keys = "data=synthetic samples=4 inputs=3 epochs=6 points=3 test_samples=3 rtol=1e-3"
    sets = [tuple(word.split("=")) for word in keys.split()]
    plan = make_plan("wide-network", [*sets, ("width", "8,16")], seeds=2)
    run_here(plan, tmp_path)
    ds = gflow.load_sweep(tmp_path)
    assert ds.peak_distance.dims == ("width", "seed")
    assert ds.descent_distance.dims == ("width", "seed", "epoch")
    for member in plan.members:
        curve = ds.descent_distance.sel(member.point)
        assert float(curve.max()) == float(ds.peak_distance.sel(member.point))
        run = gflow.load_run(run_path(tmp_path, member.id)).result
        np.testing.assert_array_equal(curve, run.descent_distance[0, 0])


def test_zipped_axes_are_one_dimension(tmp_path):
    plan = small_plan(("t_end", "1.0,3.0"), ("step_size", "0.1,0.2"))
    assert plan.shape == (2, 2)
    plan = make_plan("kernel", list(plan_sets()), [["t_end", "step_size"]])
    run_here(plan, tmp_path)
    ds = gflow.load_sweep(tmp_path)
    assert ds.final_loss.dims == ("t_end",)
    assert ds.step_size.dims == ("t_end",)
    figure = sweep_figure(ds, "step_size", "final_loss")
    assert figure.axes[0].lines[0].get_xdata().tolist() == [0.1, 0.2]


def plan_sets():
    words = "data=synthetic samples=8 test_samples=4 inputs=3 points=4 t_end=1,3 step_size=0.1,0.2"
    return (tuple(word.split("=")) for word in words.split())


@pytest.mark.parametrize(
    ("change", "says"),
    [({"kind": "other"}, "must name its kind"), ({"descent": 3}, "must have a list of rows")],
)
def test_a_run_whose_summary_is_damaged_is_left_out(change, says, tmp_path):
    plan = small_plan(seeds=2)
    run_here(plan, tmp_path)
    file = run_path(tmp_path, plan.members[0].id) / "summary.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.warns(UserWarning, match=f"damaged run .*summary.json: .*{says}"):
        ds = gflow.load_sweep(tmp_path)
    assert ds.state.values.tolist() == ["damaged", "done"]
    assert np.isnan(ds.final_loss.values).tolist() == [True, False]


def test_a_sweep_by_the_engine_is_read_while_it_goes_on(workers, tmp_path):
    plan = small_plan(seeds=3)
    seen = []

    def show(progress):
        seen.append(int((gflow.load_sweep(tmp_path, curves=False).state == "done").sum()))

    run_sweep(plan, tmp_path, workers, show=show)
    assert seen[-1] == 3
    assert seen == sorted(seen)
