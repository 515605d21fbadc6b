"""What a worker does first, before it takes a run.

It imports what runs need: a worker that dies while it does so takes no run with it, and a
short run stays short. And a worker on the machine of the sweep does not outlive it: its standard
input is a pipe that the sweep holds open, and that the system closes however the sweep ends. A
run under way then stops where it is, and can be gone on with at once.
"""

import importlib
import os
import sys
import threading

WATCH = "GFLOW_SWEEP_WATCH"  # set where the standard input is such a pipe
_NEEDED = (
    "gflow.runs.runner",
    "gflow.results.paths",
    "gflow.solvers",
    "gflow.studies",
    "h5py",
    "scipy.linalg",
)


def dask_setup(worker: object) -> None:
    """Called by dask in each worker's process."""
    if os.environ.get(WATCH):
        threading.Thread(target=_watch, daemon=True).start()
    for name in _NEEDED:
        importlib.import_module(name)


def _watch() -> None:
    sys.stdin.buffer.read()
    os._exit(0)
