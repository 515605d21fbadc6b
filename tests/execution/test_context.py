"""One context holds everything that may intercept a solve; `using` alone changes it."""

import dataclasses
import threading

import pytest
import torch

from gflow.errors import Interrupted
from gflow.execution import Execution, current, using
from gflow.execution.checkpointing import UNSTORED, Checkpoint, Checkpointer, digest


class Memory:
    """A checkpoint store in memory."""

    def __init__(self):
        self.stored = []

    def put_pieces(self, first, pieces):
        self.stored[first:] = pieces

    def put_checkpoint(self, index, state): ...

    def pieces(self):
        return iter(list(self.stored))

    def checkpoint(self):
        return None

    def clear(self):
        self.stored.clear()


def test_by_default_nothing_intercepts():
    execution = current()
    assert (execution.checkpointer, execution.serve, execution.team) == (None, None, None)
    assert execution.request("anything") is None
    with execution.counter("kernel") as progress:
        assert progress is None
    with execution.resumable("solve") as piece:
        assert piece is UNSTORED
        piece.step(Checkpoint)
        piece.finish(Checkpoint)


def test_the_context_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        current().serve = len
    with pytest.raises(TypeError, match="unknown"), using(unknown=1):
        pass


def test_changes_nest_and_end_with_their_block():
    with using(serve=lambda request: request + 1) as outer:
        assert isinstance(outer, Execution)
        with using(team="a team"):
            assert current().request(1) == 2
            assert current().team == "a team"
        assert current() is outer
        with pytest.raises(ZeroDivisionError), using(serve=None):
            raise ZeroDivisionError
        assert current() is outer
    assert current().serve is None


def test_another_thread_has_its_own_context():
    served = []
    with using(serve=lambda request: 7):
        thread = threading.Thread(target=lambda: served.append(current().request(1)))
        thread.start()
        thread.join()
    assert served == [None]


def test_a_piece_is_computed_once_and_stored_with_its_inputs():
    store = Memory()
    x = torch.arange(3.0)

    def compute():
        with current().resumable("sum", of=x, times=2) as piece:
            if piece.finished is not None:
                return piece.finished.meta["total"], True
            piece.finish(lambda: Checkpoint(meta={"total": 6.0}))
            return 6.0, False

    for expected in ((6.0, False), (6.0, True)):
        checkpointer = Checkpointer(store)
        with using(checkpointer=checkpointer):
            assert compute() == expected
            checkpointer.flush()
    (piece,) = store.stored
    assert piece.meta["piece"] == {"kind": "sum", "of": digest(x), "times": 2}


def test_requests_inside_a_piece_are_not_served():
    with (
        using(checkpointer=Checkpointer(Memory()), serve=lambda request: "answer"),
        current().resumable("solve"),
    ):
        assert current().request(1) is None


def test_a_piece_that_fails_is_closed():
    checkpointer = Checkpointer(Memory())
    with using(checkpointer=checkpointer):
        with pytest.raises(ZeroDivisionError), current().resumable("first"):
            raise ZeroDivisionError
        with current().resumable("second") as piece:
            assert piece is not UNSTORED  # not taken for a part of the first
            piece.finish(Checkpoint)
        with pytest.raises(Interrupted):  # no steps are in progress, so it stops at once
            checkpointer.stop("SIGTERM")
