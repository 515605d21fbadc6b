"""Locks on open files, which vanish with the process that holds them.

The process that writes a run locks the run's own ``metrics.jsonl``; a reader tries a shared lock on
it to learn whether the run is in progress, perhaps in somebody else's folder. The package
``filelock`` (4.3.1) cannot express this: it has no shared lock on an existing file, it opens the
file for writing, so that in a folder without write permission a reader gets a `PermissionError`, it
creates a missing file, and on Windows it removes the file on release (3.12 also truncates it).
"""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Callable
from typing import IO

_ATTEMPTS = 5
_PAUSE = 0.05  # seconds
#: Locks of Windows forbid reading and writing the locked bytes: this one is beyond all content.
_WINDOWS_OFFSET = 2**31 - 2


def try_lock(file: IO[bytes], *, exclusive: bool) -> bool:
    """Try to lock an open file, until it is closed; return whether the lock is held.

    Parameters
    ----------
    file : binary file
    exclusive : bool
        Whether others may hold no lock at all; else they may hold shared ones.

    Returns
    -------
    bool
        True also on a file system that has no locks.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as file, open(file.name, "rb") as other:
    ...     try_lock(file, exclusive=True), try_lock(other, exclusive=False)
    (True, False)
    """
    lock = _lock_windows if sys.platform == "win32" else _lock_posix
    return lock(file, exclusive)


def _lock_posix(file: IO[bytes], exclusive: bool) -> bool:
    import fcntl

    mode = (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB
    # A reader may hold a shared lock for a moment, to learn the state of the run.
    return _attempt(lambda: fcntl.flock(file, mode), _ATTEMPTS if exclusive else 1)


def _lock_windows(file: IO[bytes], exclusive: bool) -> bool:
    import msvcrt

    def lock() -> None:
        position = os.lseek(file.fileno(), 0, os.SEEK_CUR)
        os.lseek(file.fileno(), _WINDOWS_OFFSET, os.SEEK_SET)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        finally:
            os.lseek(file.fileno(), position, os.SEEK_SET)

    # There are no shared locks: readers, too, exclude one another for a moment.
    return _attempt(lock, _ATTEMPTS)


def _attempt(lock: Callable[[], None], attempts: int) -> bool:
    for attempt in range(attempts):
        if attempt:
            time.sleep(_PAUSE)
        try:
            lock()
        except OSError as error:
            # POSIX says EAGAIN (BlockingIOError) or EACCES of a lock that others hold, Windows
            # EACCES or EDEADLK; everything else means that there are no locks here.
            if error.errno not in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
                return True
        else:
            return True
    return False
