"""Read files that anybody may have made: plain ones only, up to a size limit.

Reading a named pipe would wait for ever, and a device never ends whatever size it claims; a link
may lead to either.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from gflow.errors import InputError


def as_path(value: str | os.PathLike[str]) -> Path:
    """Return a path that a user gave, with ``~`` replaced by the home folder.

    Parameters
    ----------
    value : str or path

    Returns
    -------
    Path

    Raises
    ------
    InputError
        If the value is something else.

    Examples
    --------
    >>> as_path("outputs/run"), as_path(Path("~")) == Path.home()
    (PosixPath('outputs/run'), True)
    """
    if not isinstance(value, str | os.PathLike) or isinstance(os.fspath(value), bytes):
        raise InputError(f"a path must be a string or a pathlib.Path, got {type(value).__name__}")
    if not os.fspath(value) or "\0" in os.fspath(value):
        raise InputError(f"a path must not be empty or hold null characters, got {value!r:.80}")
    return Path(os.path.expanduser(value))


def require_plain_file(path: Path) -> None:
    """Raise ValueError if a path is neither a file nor a folder (opening a folder fails anyway).

    Examples
    --------
    >>> require_plain_file(Path("/dev/null"))
    Traceback (most recent call last):
        ...
    ValueError: it is not a plain file
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise ValueError("it is not a plain file")


def require_own_file(path: Path) -> None:
    """Raise an error unless a path is a plain file itself: a link may lead out of its folder.

    Raises
    ------
    FileNotFoundError
        If there is no file.
    ValueError
        If it is a link, a folder, a pipe or a device.
    """
    if not stat.S_ISREG(path.lstat().st_mode):
        raise ValueError("it is a link" if path.is_symlink() else "it is not a plain file")


def read_text(path: Path, max_bytes: int) -> str:
    """Read a plain file of UTF-8 text.

    Parameters
    ----------
    path : Path
    max_bytes : int
        The size that the file may have.

    Returns
    -------
    str

    Raises
    ------
    OSError
        If the file is missing or cannot be read.
    ValueError
        If it is not a plain file, larger, or not UTF-8; the message does not name the file.

    Examples
    --------
    >>> read_text(Path("/dev/null"), 10)
    Traceback (most recent call last):
        ...
    ValueError: it is not a plain file
    """
    require_plain_file(path)
    with path.open("rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ValueError(f"it is over {max_bytes} bytes")
    return content.decode("utf-8-sig")  # Windows' editors begin with a mark
