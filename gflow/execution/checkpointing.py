"""Long work in pieces that are kept, so that it can be stopped at any moment and gone on with.

A *piece* is one solve, one descent, one central path: a loop whose state between two steps is
a `Checkpoint`. A run is pieces in an order that its scenario alone sets. While a `Keeper` is
`using`, every piece reports to it: what is finished is kept, and of the piece in progress the
state is kept now and then. A run that is started again gets the finished pieces back instead
of working them out, goes on with the one in progress, and so ends as it would have without
the stop, to the last bit. Without a keeper nothing is kept and a piece costs nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from gflow.errors import InputError, Interrupted
from gflow.execution.batching import alone

_SHARE = 50  # a write waits for so many times what the last one took: at most 2 % of a run


@dataclass(frozen=True)
class Checkpoint:
    """The state of a piece of work between two steps, or its results.

    Attributes
    ----------
    tensors : mapping of str to Tensor
        Safe to keep: the work does not write to them again.
    meta : mapping
        Plain numbers and strings (JSON holds them to the bit): what is worked out, and counters.
    """

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)


class Shelf(Protocol):
    """Where a keeper keeps things (`gflow.runs.folder` has the one on disk)."""

    def put_pieces(self, first: int, pieces: Sequence[Checkpoint]) -> None:
        """Keep finished pieces, numbered from ``first``."""

    def put_checkpoint(self, index: int, state: Checkpoint) -> None:
        """Keep the state of the piece in progress; the state before it is kept, too."""

    def pieces(self) -> Iterator[Checkpoint]:
        """The finished pieces in their order."""

    def checkpoint(self) -> tuple[int, Checkpoint] | None:
        """The last state kept of a piece in progress, and the number of that piece."""

    def clear(self) -> None:
        """Remove all that is kept."""


class Piece:
    """One piece of work on its way; this one, outside of a keeper, keeps nothing.

    Attributes
    ----------
    finished : Checkpoint or None
        Its results, where it was finished before the run was stopped: nothing is to be done.
    resumed : Checkpoint or None
        The state to go on from, where there is one.
    """

    finished: Checkpoint | None = None
    resumed: Checkpoint | None = None

    def step(self, state: Callable[[], Checkpoint]) -> None:
        """Between two steps: a state may be kept, and the run may stop here."""

    def finish(self, results: Callable[[], Checkpoint]) -> None:
        """The piece is done; what the results are made of does not change any more."""


_UNKEPT = Piece()


class Keeper:
    """Keeps the pieces of one run on a shelf.

    Parameters
    ----------
    shelf : Shelf
    every : float
        Seconds between two writes, more where one takes long.
    seconds : float, optional
        How long the run may take: it stops then as if it was told to.
    anew : bool
        Whether the work goes on from the first piece that is not what was kept, without the rest,
        instead of being refused: what it is of may have changed.
    """

    def __init__(
        self,
        shelf: Shelf,
        every: float = 60.0,
        seconds: float | None = None,
        *,
        anew: bool = False,
    ):
        self._shelf = shelf
        self._every = every
        self._found = shelf.pieces()
        self._left = shelf.checkpoint()
        self._anew = anew
        self._index = 0
        #: Results that are not yet on the shelf: made when they go there, not held twice.
        self._finished: list[Callable[[], Checkpoint]] = []
        self._open = False  # a piece is in progress
        self._steps = False  # and reports its steps
        self._held = False
        self._stop: str | None = None
        self._end = float("inf") if seconds is None else time.monotonic() + seconds
        self._due = time.monotonic() + every
        #: Whether anything was put on the shelf.
        self.kept = False

    def stop(self, why: str) -> None:
        """Stop between two steps, or at once where there are none or this is said twice.

        Raises
        ------
        Interrupted
            Where it stops at once.
        """
        again, self._stop = self._stop is not None, why
        if again or not (self._steps or self._held):
            raise Interrupted(why)

    def begin(self, asked: Mapping[str, Any], *, steps: bool) -> Piece:
        """The next piece; ``asked``, of plain values, says what it works out.

        ``steps``: whether it reports its steps; one that does not is stopped anywhere.
        """
        if self._open:
            return _UNKEPT  # inside of another piece: part of its steps
        self._look()
        with self._hold():
            found = next(self._found, None)
        if found is not None and self._is_same(found, asked):
            self._index += 1
            return _Kept(self, asked, finished=found)
        left, self._left = self._left, None
        resumed = left[1] if left is not None and left[0] == self._index else None
        if resumed is not None and not self._is_same(resumed, asked):
            resumed = None
        self._open, self._steps = True, steps
        return _Kept(self, asked, resumed=resumed)

    def flush(self) -> None:
        """Put the finished pieces on the shelf."""
        with self._hold():
            if self._finished:
                first = self._index - len(self._finished)
                self._shelf.put_pieces(first, [results() for results in self._finished])
                self._finished, self.kept = [], True

    def step(self, state: Callable[[], Checkpoint]) -> None:
        """Of the piece in progress; see `Piece.step`."""
        if self._stop is None:
            now = time.monotonic()
            if now < self._due and now < self._end:
                return
        self._write(state())
        self._look()

    def finish(self, results: Callable[[], Checkpoint]) -> None:
        """Of the piece in progress; see `Piece.finish`."""
        self._finished.append(results)
        self._index += 1
        if time.monotonic() >= self._due:
            self._write(None)
        self.leave()
        self._look()

    def leave(self) -> None:
        """The piece in progress ends, if only in an error."""
        self._open = self._steps = False

    def _look(self) -> None:
        if self._stop is None and time.monotonic() >= self._end:
            self._stop = "time"
        if self._stop is not None:
            raise Interrupted(self._stop)

    def _write(self, state: Checkpoint | None) -> None:
        began = time.monotonic()
        self.flush()
        if state is not None:
            with self._hold():
                self._shelf.put_checkpoint(self._index, state)
                self.kept = True
        now = time.monotonic()
        self._due = now + max(self._every, _SHARE * (now - began))

    @contextlib.contextmanager
    def _hold(self) -> Iterator[None]:
        """Not to be stopped inside."""
        before, self._held = self._held, True
        try:
            yield
        finally:
            self._held = before

    def _is_same(self, found: Checkpoint, asked: Mapping[str, Any]) -> bool:
        if found.meta.get("piece") == dict(asked):
            return True
        if not self._anew:
            raise InputError(
                f"part {self._index} of this run's folder was made by other work than is asked "
                "for now (another version of gflow, or of the data?); start the run anew"
            )
        self._shelf.clear()
        self._found, self._left, self._index = iter(()), None, 0
        return False


class _Kept(Piece):
    """A piece that reports to a keeper."""

    def __init__(
        self,
        keeper: Keeper,
        asked: Mapping[str, Any],
        *,
        finished: Checkpoint | None = None,
        resumed: Checkpoint | None = None,
    ):
        self._keeper = keeper
        self._asked = dict(asked)
        self.finished = finished
        self.resumed = resumed

    def step(self, state: Callable[[], Checkpoint]) -> None:
        self._keeper.step(lambda: self._named(state()))

    def finish(self, results: Callable[[], Checkpoint]) -> None:
        self._keeper.finish(lambda: self._named(results()))

    def _named(self, state: Checkpoint) -> Checkpoint:
        return Checkpoint(state.tensors, {**state.meta, "piece": self._asked})


_KEEPER: ContextVar[Keeper | None] = ContextVar("keeper", default=None)


@contextlib.contextmanager
def using(keeper: Keeper) -> Iterator[None]:
    """Let every piece of work inside report to a keeper."""
    token = _KEEPER.set(keeper)
    try:
        yield
    finally:
        _KEEPER.reset(token)


def in_use() -> Keeper | None:
    """The keeper in use here."""
    return _KEEPER.get()


def stop(why: str) -> None:
    """Tell the keeper in use here, if there is one, to stop: see `Keeper.stop`."""
    keeper = _KEEPER.get()
    if keeper is not None:
        keeper.stop(why)


@contextlib.contextmanager
def piece_of_work(what: str, *, steps: bool = True, **asked: Any) -> Iterator[Piece]:
    """One piece of work.

    Parameters
    ----------
    what : str
        Its kind.
    steps : bool
        Whether it calls `Piece.step` between its steps.
    **asked
        What sets its results: numbers, strings, lists, and tensors (of which a digest is kept).

    Examples
    --------
    >>> with piece_of_work("sum", of=[1, 2]) as work:
    ...     total = 1 + 2 if work.finished is None else work.finished.meta["total"]
    ...     work.finish(lambda: Checkpoint(meta={"total": total}))
    """
    keeper = _KEEPER.get()
    if keeper is None:
        yield _UNKEPT
        return
    known = {k: digest(v) if isinstance(v, Tensor) else v for k, v in asked.items()}
    begun = keeper.begin({"what": what, **known}, steps=steps)
    try:
        with alone():  # it would stay open while others go on
            yield begun
    except BaseException:
        if begun is not _UNKEPT:
            keeper.leave()
        raise


def digest(values: Tensor) -> str:
    """A digest of a tensor's numbers and dtype.

    Examples
    --------
    >>> import torch
    >>> digest(torch.zeros(2)) == digest(torch.zeros(2)), digest(torch.zeros(3))
    (True, 'torch.float32 24f29c3559b2b01f')
    """
    data = values.detach().cpu().contiguous().numpy().tobytes()
    return f"{values.dtype} {hashlib.blake2b(data, digest_size=8).hexdigest()}"
