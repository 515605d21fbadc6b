"""What a worker here does first: watch over the sweep, so that it does not outlive it.

Its standard input is a pipe that the sweep holds open, and that the system closes however the
sweep ends. A run under way then stops where it is, and can be gone on with at once.
"""

import os
import sys
import threading


def dask_setup(worker: object) -> None:
    """Called by dask in each worker's process."""
    threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    sys.stdin.buffer.read()
    os._exit(0)
