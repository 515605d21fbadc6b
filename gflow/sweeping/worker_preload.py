"""The set-up of a worker process, before it takes a run.

The worker imports what runs need: if it dies while importing, no run is lost, and short runs are
not slowed down. A worker on the machine of the sweep ends with it: its standard input is a pipe
that the sweep holds open, and that the system closes however the sweep ends. An interrupted run can
then be resumed at once.
"""

import importlib
import os
import sys
import threading

#: Environment variable that is set where the standard input is such a pipe.
EXIT_WITH_PARENT = "GFLOW_SWEEP_WATCH"
_IMPORTS = (
    "gflow.runs.runner",
    "gflow.results.registry",
    "gflow.solvers",
    "gflow.studies",
    "h5py",
    "scipy.linalg",
)


def dask_setup(worker: object) -> None:
    """Set up the process; called by dask in each worker."""
    if os.environ.get(EXIT_WITH_PARENT):
        threading.Thread(target=_exit_with_parent, daemon=True).start()
    for name in _IMPORTS:
        importlib.import_module(name)


def _exit_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)
