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
from gflow.runs import folder as store
from gflow.runs.checkpoints import FolderCheckpointStore
from gflow.scenario import load_scenario, read_scenario, setting_model
from gflow.studies.central_path import central_path
from gflow.studies.oscillation import oscillating_descent
from tests.cli.test_main import SMALL, small


class Impatient(Checkpointer):
    """Stops after so many steps, and checkpoints all of them."""

    def __init__(self, on, steps):
        super().__init__(on, every=0.0)
        self._left_steps = steps

    def step(self, state):
        self._left_steps -= 1
        if self._left_steps <= 0:
            self._stop_reason = "SIGTERM"
        super().step(state)


@pytest.fixture
def folder(tmp_path):
    return store.RunFolder(tmp_path / "run")


def in_parts(work, folder, steps):
    """What work() gives when it is stopped after every so many steps; how often that was."""
    stops = 0
    while True:
        checkpointer = Impatient(FolderCheckpointStore(folder), steps)
        try:
            with using(checkpointer=checkpointer):
                return work(), stops
        except Interrupted:
            checkpointer.flush()
            stops += 1
            steps += 1 + steps // 4


def job(name):
    """A small scenario, from its options as the command line takes them."""
    source, *options = small(name)
    model = setting_model(read_scenario(source)["setting"])
    command = click.Command(source, params=model_options(model, {}))
    given = command.make_context(source, options).params
    return load_scenario(source, {k: v for k, v in given.items() if v is not None})


def quiet(name, t_end):
    return None


@pytest.mark.parametrize("name", sorted(SMALL))
def test_every_scenario_resumes_to_the_same_last_bit(name, folder):
    scenario = job(name)
    whole = scenario.run(quiet)
    parts, stops = in_parts(lambda: scenario.run(quiet), folder, 3)
    assert stops > 2 or name == "kernel"  # which is solved in closed form
    assert parts.dataset.identical(whole.dataset)
    assert without_seconds(parts.summary) == without_seconds(whole.summary)


def without_seconds(value):
    if isinstance(value, dict):
        return {k: without_seconds(v) for k, v in value.items() if k != "wall_seconds"}
    if isinstance(value, list | tuple):
        return [without_seconds(v) for v in value]
    return repr(value)  # NaN is NaN


@pytest.mark.parametrize("method", ["auto", "tsit5", "rock4", "rkc2", "bdf", "dopri5", "scipy:BDF"])
def test_a_solve_and_its_certificate(method, folder):
    flow, y0 = gflow.FactorFlow.example()

    def work():
        return gflow.integrate(flow, y0, [0.0, 1.0, 5.0], method, estimate_error=True)

    whole = work()
    parts, stops = in_parts(work, folder, 5)
    assert stops > 0 or method in ("dopri5", "scipy:BDF")
    assert torch.equal(parts.ys, whole.ys)
    assert parts.certificate == whole.certificate
    for name in ("method", "reason", "rhs_evals", "accepted", "rejected"):
        assert getattr(parts.stats, name) == getattr(whole.stats, name)


def test_an_ensemble_with_a_member_that_fails(folder):
    flow, y0 = gflow.FactorFlow.example()
    starts = torch.stack([y0, 30 * y0, 2 * y0])

    def work():
        return gflow.integrate(flow, starts, [0.0, 1.0, 2.0], "tsit5", max_evals=400)

    whole, (parts, stops) = work(), in_parts(work, folder, 4)
    assert stops > 1
    assert list(whole.failures) == [1]
    assert parts.failures == whole.failures
    assert torch.equal(parts.ys.nan_to_num(), whole.ys.nan_to_num())


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_descent(momentum, folder):
    flow, y0 = gflow.FactorFlow.example()

    def work():
        return gflow.descend(flow, y0, 0.05, 130, 7, momentum=momentum)

    whole, (parts, stops) = work(), in_parts(work, folder, 11)
    assert stops > 2
    assert torch.equal(parts.ys, whole.ys)
    assert torch.equal(parts.steps, whole.steps)


def test_descent_that_diverges(folder):
    flow, y0 = gflow.FactorFlow.example()

    def work():
        return gflow.descend(flow, y0, 5.0, 200)

    whole, (parts, _) = work(), in_parts(work, folder, 3)
    assert whole.diverged_at is not None
    assert parts.diverged_at == whole.diverged_at
    assert torch.equal(parts.ys, whole.ys)


def test_oscillating_descent_and_central_path(folder):
    flow, y0 = gflow.FactorFlow.example()
    central = gflow.flows.CentralFlow(flow, 0.02)

    def work():
        found = oscillating_descent(flow, y0, 0.02, [0, 3, 9, 20, 40])
        path = central_path(central, y0, [0.0, 0.2, 0.5, 0.9])
        return [
            found.losses,
            found.sharpness,
            found.oscillation,
            found.variances,
            *vars(path).values(),
        ]

    whole, (parts, stops) = work(), in_parts(work, folder, 1)
    assert stops > 2
    for a, b in zip(whole, parts, strict=True):
        assert torch.equal(a.nan_to_num(), b.nan_to_num())


def test_a_piece_inside_of_another_is_part_of_it(folder):
    with (
        using(checkpointer=Checkpointer(FolderCheckpointStore(folder), every=0.0)),
        current().resumable("outer") as outer,
    ):
        with current().resumable("inner") as inner:
            inner.finish(Checkpoint)
        outer.finish(lambda: Checkpoint(meta={"a": 1}))
    (found,) = FolderCheckpointStore(folder).pieces()
    assert found.meta == {"a": 1, "piece": {"what": "outer"}}


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


# -- the shelf ----------------------------------------------------------------------------
