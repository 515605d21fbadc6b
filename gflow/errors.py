"""What gflow raises: one base class, so that a caller can catch all of it.

Every message is one line: what is required, what was received, what to do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from gflow.execution.checkpointing import Checkpoint
    from gflow.trajectory import Trajectory


#: What may move a cursor, end a line or turn its direction; halves of characters.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""A text in one line without control characters, which a terminal might obey.

    Examples
    --------
    >>> printable("a name\x1b[2J\nand more")
    'a name [2J and more'
    """
    return " ".join(CONTROL.sub(" ", text).split())


def brief(value: object, show: Callable[[Any], str] = repr, most: int = 80) -> str:
    """Any value, even one somebody else made to be long or deep, in at most so many characters.

    Examples
    --------
    >>> brief("a\\n"), brief(16**5000)
    ("'a\\\\n'", 'int beyond all bounds')
    """
    try:
        return printable(show(value)[:most])
    except (ValueError, RecursionError):  # an integer of 5,000 digits, a table in a table in ...
        return f"{type(value).__name__} beyond all bounds"


def printable_values(value: object) -> Any:
    """A tree of plain values, every text in it `printable` and of at most 500 characters."""
    if isinstance(value, Mapping):
        return {printable(str(k)): printable_values(v) for k, v in value.items()}
    if isinstance(value, list):
        return [printable_values(v) for v in value]
    return printable(value[:500]) if isinstance(value, str) else value


class GflowError(Exception):
    """Base of all errors that gflow raises on purpose."""


class InputError(GflowError, ValueError):
    """The caller's input cannot be used: a wrong shape, value, name or file."""


class PeerError(GflowError, RuntimeError):
    """Another of the processes that share a run failed, ended or did not answer."""


class OutputError(GflowError, OSError):
    """What was worked out cannot be written: the disk is full, the folder gone."""


class Interrupted(BaseException):
    """A run was told to stop, and can be gone on with.

    Not an `Exception`: nothing on the way may take it for an error.

    Attributes
    ----------
    why : str
        The name of the signal, or ``time`` where the time allowed was used up.
    folder : Path or None
        Of the run.
    """

    def __init__(self, why: str, folder: Path | None = None):
        super().__init__(f"interrupted ({why})")
        self.why = why
        self.folder = folder


class IntegrationError(GflowError, RuntimeError):
    """A solver stopped before the last requested time.

    Attributes
    ----------
    reason : str
        Why it stopped, in one line.
    t : float
        The last time at which the state was good.
    y : Tensor
        The state at that time.
    trajectory : Trajectory
        The requested times reached before the stop, with the last good state
        appended, and the statistics up to there.
    checkpoint : Checkpoint or None
        Where one of gflow's own methods stopped: ``gflow.integrate(…, resume=checkpoint)``
        goes on from there, with a larger ``max_evals`` for one.
    folder : Path or None
        Of the run whose solve it was.
    """

    def __init__(
        self,
        reason: str,
        t: float,
        y: Tensor,
        trajectory: Trajectory,
        checkpoint: Checkpoint | None = None,
    ):
        super().__init__(f"integration stopped at t = {t:.6g}: {reason}")
        self.reason = reason
        self.t = t
        self.y = y
        self.trajectory = trajectory
        self.checkpoint = checkpoint
        self.folder: Path | None = None
