"""Checkpointing: long computations split into resumable pieces.

A *piece* is one solve, one descent, one central path: a loop whose state between two steps is a
`Checkpoint`. A run is a sequence of pieces whose order depends on its scenario alone. A
`Checkpointer` stores the results of each finished piece and, at intervals, the state of the piece
in progress. A resumed run gets its finished pieces back and resumes the one in progress, so it ends
with the same numbers as without the interruption, to the last bit. `gflow.execution.context`
connects pieces with the checkpointer.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from gflow.errors import InputError, Interrupted

_SPACING = 50  # time between two writes over the time of a write: at most 2 % of a run


@dataclass(frozen=True)
class Checkpoint:
    """The state of a computation between two steps, or its results.

    Attributes
    ----------
    tensors : mapping of str to Tensor
        The computation does not change them afterwards.
    meta : mapping
        Plain numbers and strings, which JSON stores to the bit: what is computed, and counters.
    """

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)


class CheckpointStore(Protocol):
    """Where a checkpointer stores pieces (`gflow.runs.checkpoints` has the one on disk)."""

    def put_pieces(self, first: int, pieces: Sequence[Checkpoint]) -> None:
        """Store finished pieces, numbered from ``first``."""

    def put_checkpoint(self, index: int, state: Checkpoint) -> None:
        """Store the state of the piece in progress; the state before it stays available."""

    def pieces(self) -> Iterator[Checkpoint]:
        """Yield the finished pieces in order."""

    def checkpoint(self) -> tuple[int, Checkpoint] | None:
        """Return the number and the last stored state of the piece in progress."""

    def clear(self) -> None:
        """Remove everything that is stored."""


class Piece:
    """One piece in progress; this base class stores nothing.

    Attributes
    ----------
    finished : Checkpoint or None
        Its results, if it was finished before the interruption.
    resumed : Checkpoint or None
        The state to resume from, if any.
    """

    finished: Checkpoint | None = None
    resumed: Checkpoint | None = None

    def step(self, state: Callable[[], Checkpoint]) -> None:
        """Report the end of a step: the state may be stored, and the run may stop here."""

    def finish(self, results: Callable[[], Checkpoint]) -> None:
        """Report the end of the piece; what ``results`` reads must not change any more."""


#: A piece that reports to no checkpointer.
UNSTORED = Piece()


class Checkpointer:
    """Stores the pieces of one run.

    Parameters
    ----------
    store : CheckpointStore
    every : float
        Seconds between two writes; more where a write takes long.
    seconds : float, optional
        Time limit of the run: it is interrupted then.
    discard_mismatch : bool
        On a mismatch, discard that piece and all later ones and recompute, instead of raising.
    """

    def __init__(
        self,
        store: CheckpointStore,
        every: float = 60.0,
        seconds: float | None = None,
        *,
        discard_mismatch: bool = False,
    ):
        self._store = store
        self._every = every
        self._stored_pieces = store.pieces()
        self._stored_state = store.checkpoint()
        self._discard_mismatch = discard_mismatch
        self._index = 0
        #: Results to be written, made only then, so that they are not in memory twice.
        self._unwritten: list[Callable[[], Checkpoint]] = []
        self._open = False  # a piece is in progress
        self._steps = False  # and reports its steps
        self._writing = False
        self._stop_reason: str | None = None
        self._end = float("inf") if seconds is None else time.monotonic() + seconds
        self._due = time.monotonic() + every
        #: Whether anything was stored.
        self.has_stored = False

    def stop(self, why: str) -> None:
        """Stop at the end of the step; at once if there are no steps, or on the second call.

        Parameters
        ----------
        why : str
            The name of a signal, or another reason in a word or two.

        Raises
        ------
        Interrupted
            If it stops at once.
        """
        again, self._stop_reason = self._stop_reason is not None, why
        if again or not (self._steps or self._writing):
            raise Interrupted(why)

    def start_piece(self, inputs: Mapping[str, Any], *, steps: bool) -> Piece:
        """Start the next piece.

        Parameters
        ----------
        inputs : mapping
            Plain values that determine its results.
        steps : bool
            Whether it reports its steps; one that does not may be stopped anywhere.

        Raises
        ------
        InputError
            If a stored piece has other inputs and mismatches are not discarded.
        Interrupted
            If the run was told to stop.
        """
        if self._open:
            return UNSTORED  # nested in another piece: part of its steps
        self._check_stop()
        with self._uninterrupted():
            stored = next(self._stored_pieces, None)
        if stored is not None and self._matches(stored, inputs):
            self._index += 1
            return _StoredPiece(self, inputs, finished=stored)
        state, self._stored_state = self._stored_state, None
        resumed = state[1] if state is not None and state[0] == self._index else None
        if resumed is not None and not self._matches(resumed, inputs):
            resumed = None
        self._open, self._steps = True, steps
        return _StoredPiece(self, inputs, resumed=resumed)

    def flush(self) -> None:
        """Write the finished pieces."""
        with self._uninterrupted():
            if self._unwritten:
                first = self._index - len(self._unwritten)
                self._store.put_pieces(first, [results() for results in self._unwritten])
                self._unwritten, self.has_stored = [], True

    def step(self, state: Callable[[], Checkpoint]) -> None:
        """Handle a step of the piece in progress; see `Piece.step`."""
        if self._stop_reason is None:
            now = time.monotonic()
            if now < self._due and now < self._end:
                return
        self._write(state())
        self._check_stop()

    def finish(self, results: Callable[[], Checkpoint]) -> None:
        """Handle the end of the piece in progress; see `Piece.finish`."""
        self._unwritten.append(results)
        self._index += 1
        if time.monotonic() >= self._due:
            self._write(None)
        self.end_piece()
        self._check_stop()

    def end_piece(self) -> None:
        """Close the piece in progress, finished or failed."""
        self._open = self._steps = False

    def _check_stop(self) -> None:
        if self._stop_reason is None and time.monotonic() >= self._end:
            self._stop_reason = "time"
        if self._stop_reason is not None:
            raise Interrupted(self._stop_reason)

    def _write(self, state: Checkpoint | None) -> None:
        started = time.monotonic()
        self.flush()
        if state is not None:
            with self._uninterrupted():
                self._store.put_checkpoint(self._index, state)
                self.has_stored = True
        now = time.monotonic()
        self._due = now + max(self._every, _SPACING * (now - started))

    @contextlib.contextmanager
    def _uninterrupted(self) -> Iterator[None]:
        """Delay a stop until the end of the block."""
        before, self._writing = self._writing, True
        try:
            yield
        finally:
            self._writing = before

    def _matches(self, stored: Checkpoint, inputs: Mapping[str, Any]) -> bool:
        if stored.meta.get("piece") == dict(inputs):
            return True
        if not self._discard_mismatch:
            raise InputError(
                f"part {self._index} of this run's folder was computed from other inputs than the "
                "present ones (another version of gflow, or of the data?); run it again"
            )
        self._store.clear()
        self._stored_pieces, self._stored_state, self._index = iter(()), None, 0
        return False


class _StoredPiece(Piece):
    """A piece that reports to a checkpointer."""

    def __init__(
        self,
        checkpointer: Checkpointer,
        inputs: Mapping[str, Any],
        *,
        finished: Checkpoint | None = None,
        resumed: Checkpoint | None = None,
    ):
        self._checkpointer = checkpointer
        self._inputs = dict(inputs)
        self.finished = finished
        self.resumed = resumed

    def step(self, state: Callable[[], Checkpoint]) -> None:
        self._checkpointer.step(lambda: self._named(state()))

    def finish(self, results: Callable[[], Checkpoint]) -> None:
        self._checkpointer.finish(lambda: self._named(results()))

    def _named(self, state: Checkpoint) -> Checkpoint:
        return Checkpoint(state.tensors, {**state.meta, "piece": self._inputs})


def digest(values: Tensor) -> str:
    """Return a digest of a tensor's numbers and dtype.

    Examples
    --------
    >>> import torch
    >>> digest(torch.zeros(2)) == digest(torch.zeros(2)), digest(torch.zeros(3))
    (True, 'torch.float32 24f29c3559b2b01f')
    """
    data = values.detach().cpu().contiguous().numpy().tobytes()
    return f"{values.dtype} {hashlib.blake2b(data, digest_size=8).hexdigest()}"
