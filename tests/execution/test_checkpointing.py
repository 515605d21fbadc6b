"""A run that is stopped anywhere and resumed ends with the same numbers, to the last bit."""

import click
import numpy as np
import pytest
import torch

import gflow
from gflow.cli.options import model_options
from gflow.errors import InputError, Interrupted
from gflow.execution import checkpointing, current, using
from gflow.execution.checkpointing import Checkpoint, Checkpointer
from gflow.losses import SquaredDistance
from gflow.runs import folder as store
from gflow.runs.checkpoints import FolderCheckpointStore
from gflow.scenario import load_scenario, read_scenario, setting_model
from gflow.studies.central_path import central_path
from gflow.studies.oscillation import oscillating_descent
from tests.cli.test_main import SCENARIOS, small
from tests.helpers import randn, slow_except, times


class StopsAfterSteps(Checkpointer):
    """Writes a checkpoint at every step, and stops after a number of steps."""

    def __init__(self, checkpoint_store, steps):
        super().__init__(checkpoint_store, every=0.0)
        self._remaining_steps = steps

    def step(self, state):
        self._remaining_steps -= 1
        if self._remaining_steps <= 0:
            self._stop_reason = "SIGTERM"
        super().step(state)


@pytest.fixture
def folder(tmp_path):
    return store.RunFolder(tmp_path / "run")


def stop_and_resume(work, folder, steps):
    """Stop and resume work() until it ends; return its result and the number of stops."""
    stops = 0
    while True:
        checkpointer = StopsAfterSteps(FolderCheckpointStore(folder), steps)
        try:
            with using(checkpointer=checkpointer):
                return work(), stops
        except Interrupted:
            checkpointer.flush()
            stops += 1
            steps += 1 + steps // 4


def small_scenario(name):
    """Return a small scenario made from its command-line options."""
    source, *options = small(name)
    model = setting_model(read_scenario(source)["setting"])
    command = click.Command(source, params=model_options(model, {}))
    given = command.make_context(source, options).params
    return load_scenario(source, {k: v for k, v in given.items() if v is not None})


def no_progress(name, t_end):
    return None


@pytest.mark.parametrize("name", slow_except(SCENARIOS, "deep-linear", "kernel"))
def test_every_scenario_resumes_to_the_same_last_bit(name, folder):
    scenario = small_scenario(name)
    uninterrupted = scenario.run(no_progress)
    resumed, stops = stop_and_resume(lambda: scenario.run(no_progress), folder, 3)
    assert stops > 2 or name == "kernel"  # solved in closed form
    assert resumed.dataset.identical(uninterrupted.dataset)
    assert without_seconds(resumed.summary) == without_seconds(uninterrupted.summary)


def without_seconds(value):
    if isinstance(value, dict):
        return {k: without_seconds(v) for k, v in value.items() if k != "wall_seconds"}
    if isinstance(value, list | tuple):
        return [without_seconds(v) for v in value]
    return repr(value)  # NaN is NaN


@pytest.mark.parametrize("method", ["auto", "tsit5", "rock4", "rkc2", "bdf", "dopri5", "scipy:BDF"])
def test_a_resumed_solve_has_the_same_path_and_certificate(method, folder):
    flow, y0 = gflow.FactorFlow.example()

    def work():
        return gflow.integrate(flow, y0, [0.0, 1.0, 5.0], method, estimate_error=True)

    uninterrupted = work()
    resumed, stops = stop_and_resume(work, folder, 5)
    assert stops > 0 or method in ("dopri5", "scipy:BDF")
    assert torch.equal(resumed.ys, uninterrupted.ys)
    assert resumed.certificate == uninterrupted.certificate
    for name in ("method", "reason", "rhs_evals", "accepted", "rejected"):
        assert getattr(resumed.stats, name) == getattr(uninterrupted.stats, name)


@pytest.mark.parametrize("steps", [1, 4])
def test_a_resumed_solve_that_leaves_out_a_mode_goes_on_as_before(steps, folder):
    flow = gflow.FactorFlow(SquaredDistance(torch.diag(times(1.0, -0.2))))
    y0 = 0.3 * randn(2, 2, seed=3)

    def work():
        return gflow.integrate(flow, y0, [0.0, 40.0], "bdf", 1e-3, 1e-6)

    uninterrupted = work()
    assert "1 columns from t = " in uninterrupted.stats.reason
    resumed, stops = stop_and_resume(work, folder, steps)
    assert stops > 3
    assert torch.equal(resumed.ys, uninterrupted.ys)
    assert resumed.stats.reason == uninterrupted.stats.reason
    assert resumed.stats.rhs_evals == uninterrupted.stats.rhs_evals


def test_a_resumed_ensemble_has_the_same_failures(folder):
    flow, y0 = gflow.FactorFlow.example()
    starts = torch.stack([y0, 30 * y0, 2 * y0])

    def work():
        return gflow.integrate(flow, starts, [0.0, 1.0, 2.0], "tsit5", max_evals=400)

    uninterrupted, (resumed, stops) = work(), stop_and_resume(work, folder, 4)
    assert stops > 1
    assert list(uninterrupted.failures) == [1]
    assert resumed.failures == uninterrupted.failures
    assert torch.equal(resumed.ys.nan_to_num(), uninterrupted.ys.nan_to_num())


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_resumed_descent_has_the_same_path(momentum, folder):
    flow, y0 = gflow.FactorFlow.example()

    def work():
        return gflow.descend(flow, y0, 0.05, 130, 7, momentum=momentum)

    uninterrupted, (resumed, stops) = work(), stop_and_resume(work, folder, 11)
    assert stops > 2
    assert torch.equal(resumed.ys, uninterrupted.ys)
    assert torch.equal(resumed.steps, uninterrupted.steps)


def test_resumed_descent_diverges_at_the_same_step(folder):
    flow, y0 = gflow.FactorFlow.example()

    def work():
        return gflow.descend(flow, y0, 5.0, 200)

    uninterrupted, (resumed, _) = work(), stop_and_resume(work, folder, 3)
    assert uninterrupted.diverged_at is not None
    assert resumed.diverged_at == uninterrupted.diverged_at
    assert torch.equal(resumed.ys, uninterrupted.ys)


def test_resumed_oscillating_descent_and_central_path_are_the_same(folder):
    flow, y0 = gflow.FactorFlow.example()
    central = gflow.flows.CentralFlow(flow, 0.02)

    def work():
        descent = oscillating_descent(flow, y0, 0.02, [0, 3, 9, 20, 40])
        path = central_path(central, y0, [0.0, 0.2, 0.5, 0.9])
        return [
            descent.losses,
            descent.sharpness,
            descent.oscillation,
            descent.variances,
            *vars(path).values(),
        ]

    uninterrupted, (resumed, stops) = work(), stop_and_resume(work, folder, 1)
    assert stops > 2
    for a, b in zip(uninterrupted, resumed, strict=True):
        assert torch.equal(a.nan_to_num(), b.nan_to_num())


def test_a_nested_piece_is_part_of_the_outer_one(folder):
    with (
        using(checkpointer=Checkpointer(FolderCheckpointStore(folder), every=0.0)),
        current().resumable("outer") as outer,
    ):
        with current().resumable("inner") as inner:
            inner.finish(Checkpoint)
        outer.finish(lambda: Checkpoint(meta={"a": 1}))
    (piece,) = FolderCheckpointStore(folder).pieces()
    assert piece.meta == {"a": 1, "piece": {"kind": "outer"}}


def test_a_piece_with_other_inputs_is_refused(folder):
    with (
        using(checkpointer=Checkpointer(FolderCheckpointStore(folder), every=0.0)),
        current().resumable("sum", of=[1.5]) as piece,
    ):
        piece.finish(Checkpoint)
    again = Checkpointer(FolderCheckpointStore(folder))
    with (
        using(checkpointer=again),
        pytest.raises(InputError, match="computed from other inputs than the present ones"),
        current().resumable("sum", of=[2.5]),
    ):
        pass


def test_it_stops_at_once_without_steps_and_on_the_second_call(folder):
    checkpointer = Checkpointer(FolderCheckpointStore(folder))
    with pytest.raises(Interrupted, match="SIGTERM"):
        checkpointer.stop("SIGTERM")
    checkpointer = Checkpointer(FolderCheckpointStore(folder))
    with using(checkpointer=checkpointer), current().resumable("loop") as piece:
        checkpointer.stop("SIGINT")  # the step is finished first
        with pytest.raises(Interrupted, match="SIGINT"):
            checkpointer.stop("SIGINT")
        with pytest.raises(Interrupted):
            piece.step(lambda: Checkpoint(meta={"k": 3}))
    index, state = FolderCheckpointStore(folder).checkpoint()
    assert (index, state.meta["k"]) == (0, 3)


def test_writes_are_spaced_by_their_cost(folder, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(checkpointing.time, "monotonic", lambda: clock[0])
    written = []

    class Slow:
        def put_pieces(self, first, pieces): ...
        def put_checkpoint(self, index, state):
            written.append(clock[0])
            clock[0] += 2.0

        def pieces(self):
            return iter(())

        def checkpoint(self):
            return None

    with using(checkpointer=Checkpointer(Slow(), every=10.0)), current().resumable("loop") as piece:
        for _ in range(400):
            clock[0] += 1.0
            piece.step(Checkpoint)
    assert written[0] == 10.0
    assert np.diff(written).min() >= 100.0
