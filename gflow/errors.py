"""The errors that gflow raises, with one base class.

Every message is one line: the requirement, the value received, and the remedy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class GflowError(Exception):
    """Base of all errors that gflow raises on purpose."""


class InputError(GflowError, ValueError):
    """The input cannot be used: a wrong shape, value, name or file."""


class PeerError(GflowError, RuntimeError):
    """Another process of the same run failed, ended or did not answer."""


class OutputError(GflowError, OSError):
    """A result cannot be written: the disk is full, or the folder is missing."""


class Interrupted(BaseException):
    """A run was stopped and can be resumed.

    Not an `Exception`: no handler of errors may catch it.

    Attributes
    ----------
    why : str
        The name of the signal, or ``time`` at the time limit.
    folder : Path or None
        The folder of the run.
    """

    def __init__(self, why: str, folder: Path | None = None):
        super().__init__(f"interrupted ({why})")
        self.why = why
        self.folder = folder
