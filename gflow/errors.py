"""What gflow raises: one base class, so that a caller can catch all of it.

Every message is one line: what is required, what was received, what to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


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
