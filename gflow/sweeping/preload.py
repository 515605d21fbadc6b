"""What a worker does first: a Ctrl-C in the terminal is for the sweep to handle, not for it."""

import signal


def dask_setup(worker: object) -> None:
    """Called by dask in each worker's process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
