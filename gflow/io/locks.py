"""Locks on files."""

from __future__ import annotations

import sys
import time
from typing import IO


def try_lock(file: IO[bytes], *, alone: bool) -> bool:
    """Whether a lock on an open file can be had; true where the file system has none."""
    if sys.platform == "win32":
        return True
    import fcntl

    for _ in range(5):
        try:
            fcntl.flock(file, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            if not alone:
                return False
            time.sleep(0.05)  # somebody may be having a look, as `state` does
        except OSError:
            return True
        else:
            return True
    return False
