"""The execution context: everything that may intercept a solve or a descent.

`gflow.integrate` and `gflow.descend` compute their results themselves, unless the context in which
they run holds

``checkpointer``
    stores finished pieces and hands them back when a run is resumed
    (`gflow.execution.checkpointing`);
``serve``
    answers the requests of jobs that run in lockstep as one batch (`gflow.execution.batching`);
``team``
    the processes that share the rows of a flow (`gflow.distributed`);
``counter``
    displays the progress of countable work, such as the tiles of a kernel.

The default context holds none of them. There is one context variable, set by `using` alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Protocol

from torch import Tensor

from gflow.callbacks import CountProgress
from gflow.execution.checkpointing import UNSTORED, Checkpointer, Piece, digest


class Processes(Protocol):
    """The processes that share a run; `gflow.distributed.Team` is one."""

    rank: int
    size: int

    @property
    def broken(self) -> bool:
        """Whether one of the processes failed."""


def _no_counter(name: str) -> AbstractContextManager[CountProgress | None]:
    return contextlib.nullcontext()


@dataclass(frozen=True)
class Execution:
    """What may intercept a solve or a descent; see the module's docstring.

    Attributes
    ----------
    checkpointer : Checkpointer or None
    serve : callable or None
        ``serve(request)`` returns the answer, or None where the request is to be computed here.
    team : Processes or None
    counter : callable
        ``counter(name)`` is a context manager of a callback ``progress(done, total)``, or of None.
    """

    checkpointer: Checkpointer | None = None
    serve: Callable[[Any], Any] | None = None
    team: Processes | None = None
    counter: Callable[[str], AbstractContextManager[CountProgress | None]] = _no_counter

    def request(self, request: Any) -> Any:
        """Return the answer to a request; None where it is to be computed here."""
        return None if self.serve is None else self.serve(request)

    @contextlib.contextmanager
    def resumable(self, kind: str, *, steps: bool = True, **inputs: Any) -> Iterator[Piece]:
        """Run the block as one resumable piece.

        Parameters
        ----------
        kind : str
            What is computed, such as ``"solve"``.
        steps : bool
            Whether the block calls `Piece.step` between its steps.
        **inputs
            The values that determine the results: numbers, strings, lists, and tensors, of which a
            digest is stored.

        Yields
        ------
        Piece

        Raises
        ------
        InputError
            If a resumed run stored a piece with other inputs here.

        Examples
        --------
        >>> from gflow.execution.checkpointing import Checkpoint
        >>> with current().resumable("sum", of=[1, 2]) as piece:
        ...     total = 1 + 2 if piece.finished is None else piece.finished.meta["total"]
        ...     piece.finish(lambda: Checkpoint(meta={"total": total}))
        """
        checkpointer = self.checkpointer
        if checkpointer is None:
            yield UNSTORED
            return
        values = {k: digest(v) if isinstance(v, Tensor) else v for k, v in inputs.items()}
        piece = checkpointer.start_piece({"kind": kind, **values}, steps=steps)
        try:
            # A request inside would leave this piece open while other jobs start theirs.
            with using(serve=None):
                yield piece
        except BaseException:
            if piece is not UNSTORED:
                checkpointer.end_piece()
            raise


_DEFAULT = Execution()
_CURRENT: ContextVar[Execution] = ContextVar("gflow_execution", default=_DEFAULT)


def current() -> Execution:
    """Return the execution context in force here."""
    return _CURRENT.get()


@contextlib.contextmanager
def using(**changes: Any) -> Iterator[Execution]:
    """Change fields of the execution context within the block.

    Parameters
    ----------
    **changes
        Fields of `Execution`.

    Yields
    ------
    Execution

    Examples
    --------
    >>> with using(serve=lambda request: request + 1):
    ...     current().request(1)
    2
    >>> current().request(1) is None
    True
    """
    execution = replace(_CURRENT.get(), **changes)
    token = _CURRENT.set(execution)
    try:
        yield execution
    finally:
        _CURRENT.reset(token)
