"""Text files that somebody else made: plain ones only, and never more of them than asked for.

A named pipe would wait for ever and a device never ends, whatever size it claims; both can be
met behind a link.
"""

from __future__ import annotations

import stat
from pathlib import Path


def require_plain_file(path: Path) -> None:
    """Raise ValueError if a path is neither a file nor a folder, which says so itself.

    Examples
    --------
    >>> require_plain_file(Path("/dev/null"))
    Traceback (most recent call last):
        ...
    ValueError: it is no plain file
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise ValueError("it is no plain file")


def require_own_file(path: Path) -> None:
    """Raise an error unless a path is a plain file itself: a link may lead out of its folder.

    Raises
    ------
    FileNotFoundError
        If there is nothing.
    ValueError
        If it is a link, a folder, a pipe or a device.
    """
    if not stat.S_ISREG(path.lstat().st_mode):
        raise ValueError("it is a link" if path.is_symlink() else "it is no plain file")


def read_text(path: Path, most: int) -> str:
    """The text of a plain file of at most ``most`` bytes of UTF-8.

    Raises
    ------
    OSError
        If the file is missing or cannot be read.
    ValueError
        If it is no plain file, larger, or no UTF-8; the message says which, without the name.

    Examples
    --------
    >>> read_text(Path("/dev/null"), 10)
    Traceback (most recent call last):
        ...
    ValueError: it is no plain file
    """
    require_plain_file(path)
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it is over {most} bytes")
    return content.decode("utf-8")
