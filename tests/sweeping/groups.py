"""Groups of runs for tests: their plan, their execution in this process, and their results."""

import itertools

import numpy as np

import gflow
from gflow.execution import current
from gflow.sweeping import task
from gflow.sweeping.folder import SweepFolder, run_path, run_states
from gflow.sweeping.grouping import GroupFolder, units_of_work
from gflow.sweeping.plan import make_plan


def linear_plan(*sets, **options):
    """Return a plan of runs of the two-layer network that differ in their start."""
    fixed = "samples=60 depth=2 t_end=4.0 points=4 step_size=0.2 rtol=1e-6"
    specs = dict(word.split("=") for word in fixed.split()) | dict(sets)
    return make_plan("deep-linear", list(specs.items()), **options)


def result_arrays(folder, plan):
    """Return all arrays of all runs, which were solved in ensembles."""
    arrays = {}
    for member in plan.members:
        run = gflow.load_run(run_path(folder, member.id))
        arrays |= {(member.id, name): v.values for name, v in run.result.variables.items()}
        assert "one ensemble" in run.summary["cost"]["reason"]
    return arrays


def assert_same_bits(actual, expected):
    assert actual.keys() == expected.keys()
    for key, values in actual.items():
        np.testing.assert_array_equal(expected[key], values, err_msg=str(key))


def requests_of(plan, folder, every=60.0):
    return [
        task.RunRequest(
            m.id, str(run_path(folder, m.id)), m.scenario.resolved(), checkpoint_every=every
        )
        for m in plan.members
    ]


def execute_only_group(plan, folder, every=60.0):
    """Execute the only group of a sweep in this process."""
    SweepFolder(folder).path.mkdir(parents=True, exist_ok=True)
    (unit,) = units_of_work(plan, folder, run_states(folder, plan), 1)
    GroupFolder(unit.folder).create(unit.members)
    by_id = {request.id: request for request in requests_of(plan, folder, every)}
    return task.execute_unit([by_id[m.id] for m in unit.members], folder=str(unit.folder))


def stop_group_at(check, monkeypatch):
    """Stop the next group at this one of its checks."""
    checks = itertools.count(1)

    def check_stop(sweep_id):
        if next(checks) == check:
            stop()

    monkeypatch.setattr(task, "_check_stop", check_stop)


def stop():
    """Stop the group that is being executed."""
    current().checkpointer.stop("the test")
