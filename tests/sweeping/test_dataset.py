"""The dataset of a sweep: numbers, rows and curves of all runs that are done."""

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


def execute_plan(plan, folder, members=None):
    """Execute the runs of a plan in this process."""
    with SweepFolder(folder).lock(plan):
        for member in plan.members if members is None else members:
            running.run(running.Job(member.scenario), run_path(folder, member.id), BARE)


@pytest.mark.slow
def test_numbers_and_curves_are_at_the_position_of_their_run(tmp_path):
    plan = small_plan(("t_end", "1.0,3.0"), ("step_size", "0.1,0.2"), seeds=2)
    execute_plan(plan, tmp_path)
    ds = gflow.load_sweep(tmp_path)
    assert dict(ds.final_loss.sizes) == {"t_end": 2, "step_size": 2, "seed": 2}
    for member in plan.members:
        run = gflow.load_run(run_path(tmp_path, member.id))
        at_run = ds.sel(member.point)
        (row,) = run.summary["descent"]
        assert at_run.final_loss == run.summary["final_loss"]
        assert at_run.descent_final_loss == row["final_loss"]
        assert at_run.largest_gap == row["largest_gap"]
        assert at_run.certificate_holds == 1
        assert str(at_run.run.values) == member.id
        np.testing.assert_array_equal(at_run.loss, run.result.loss)
        np.testing.assert_array_equal(at_run.mode_residuals, run.result.mode_residuals)
    assert ds.loss.attrs["long_name"] == "loss"
    assert all({"long_name", "units"} <= set(v.attrs) for v in ds.variables.values())
    table = gflow.load_sweep(tmp_path, curves=False).to_dataframe()
    assert len(table) == 8
    assert table.loc[(3.0, 0.2, 1), "final_loss"] == float(ds.final_loss[1, 1, 1])
    assert xr.load_dataset(write_sweep(tmp_path)).identical(ds)
    axes = ds.isel(seed=0).plot("t_end", "final_loss", hue="step_size")
    np.testing.assert_array_equal(axes.lines[1].get_ydata(), ds.final_loss[:, 1, 0])
    assert callable(ds.plot.scatter)  # xarray's own


def test_values_of_runs_that_are_not_done_are_nan(tmp_path):
    plan = small_plan(("step_size", "0.1,0.2"), seeds=2)
    execute_plan(plan, tmp_path, plan.members[:3])
    (run_path(tmp_path, plan.members[0].id) / "result.nc").write_bytes(b"\x89HDF")
    with pytest.warns(UserWarning, match=r"damaged run .*; delete its folder and resume the sweep"):
        ds = gflow.load_sweep(tmp_path)
    assert ds.state.values.tolist() == [["damaged", "done"], ["done", "missing"]]
    assert np.isnan(ds.final_loss.values).tolist() == [[True, False], [False, True]]
    assert np.isnan(ds.loss.values).all(axis=-1).tolist() == [[True, False], [False, True]]


def test_sweep_without_a_completed_run_has_states_only(tmp_path):
    plan = small_plan(seeds=2)
    execute_plan(plan, tmp_path, [])
    ds = gflow.load_sweep(tmp_path)
    assert ds.state.values.tolist() == ["missing", "missing"]
    assert set(ds) == {"state", "run"}
    with pytest.raises(InputError, match="there is no variable 'final_loss'"):
        sweep_figure(ds, "seed", "final_loss")


def test_several_rows_have_a_dimension(tmp_path):
    plan = small_plan(("step_sizes", "0.1,0.2,0.4"), seeds=2)
    execute_plan(plan, tmp_path)
    ds = gflow.load_sweep(tmp_path)
    assert ds.largest_gap.dims == ("seed", "step_size")
    run = gflow.load_run(run_path(tmp_path, plan.members[1].id))
    for row in run.summary["descent"]:
        assert ds.largest_gap.sel(seed=1, step_size=row["step_size"]) == row["largest_gap"]
    assert ds.final_loss.dims == ("seed",)
    table = gflow.load_sweep(tmp_path, curves=False).to_dataframe()
    assert len(table) == 2  # one row a run, whatever rows the runs have
    for i, row in enumerate(run.summary["descent"], 1):
        assert table.loc[1, f"step_size_{i}"] == row["step_size"]
        assert table.loc[1, f"largest_gap_{i}"] == row["largest_gap"]
        assert table.loc[1, f"descent_final_loss_{i}"] == row["final_loss"]
    assert table.dtypes[["stable_1", "certificate_holds", "final_bound_holds"]].eq(bool).all()


@pytest.mark.slow
def test_runs_of_a_single_width_and_seed(tmp_path):
    keys = "data=synthetic samples=4 inputs=3 epochs=6 points=3 test_samples=3 rtol=1e-3"
    sets = [tuple(word.split("=")) for word in keys.split()]
    plan = make_plan("wide-network", [*sets, ("width", "8,16")], seeds=2)
    execute_plan(plan, tmp_path)
    ds = gflow.load_sweep(tmp_path)
    assert ds.peak_distance.dims == ("width", "seed")
    assert ds.descent_distance.dims == ("width", "seed", "epoch")
    for member in plan.members:
        curve = ds.descent_distance.sel(member.point)
        assert float(curve.max()) == float(ds.peak_distance.sel(member.point))
        run = gflow.load_run(run_path(tmp_path, member.id)).result
        np.testing.assert_array_equal(curve, run.descent_distance[0, 0])


def test_zipped_axes_share_a_dimension(tmp_path):
    plan = small_plan(("t_end", "1.0,3.0"), ("step_size", "0.1,0.2"))
    assert plan.shape == (2, 2)
    plan = make_plan("kernel", list(plan_sets()), [["t_end", "step_size"]])
    execute_plan(plan, tmp_path)
    ds = gflow.load_sweep(tmp_path)
    assert ds.final_loss.dims == ("t_end",)
    assert ds.step_size.dims == ("t_end",)
    figure = sweep_figure(ds, "step_size", "final_loss")
    assert figure.axes[0].lines[0].get_xdata().tolist() == [0.1, 0.2]


def plan_sets():
    words = "data=synthetic samples=8 test_samples=4 inputs=3 points=4 t_end=1,3 step_size=0.1,0.2"
    return (tuple(word.split("=")) for word in words.split())


@pytest.mark.parametrize(
    ("change", "message"),
    [({"kind": "other"}, "must name its kind"), ({"descent": 3}, "must have a list of rows")],
)
def test_run_with_a_damaged_summary_is_omitted(change, message, tmp_path):
    plan = small_plan(seeds=2)
    execute_plan(plan, tmp_path)
    file = run_path(tmp_path, plan.members[0].id) / "summary.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.warns(UserWarning, match=f"damaged run .*summary.json: .*{message}"):
        ds = gflow.load_sweep(tmp_path)
    assert ds.state.values.tolist() == ["damaged", "done"]
    assert np.isnan(ds.final_loss.values).tolist() == [True, False]


def test_running_sweep_can_be_loaded(workers, tmp_path):
    plan = small_plan(seeds=3)
    done_counts = []

    def show(progress):
        done_counts.append(int((gflow.load_sweep(tmp_path, curves=False).state == "done").sum()))

    run_sweep(plan, tmp_path, workers, show=show)
    assert done_counts[-1] == 3
    assert done_counts == sorted(done_counts)
