"""The process in which a command runs: its signals, warnings and streams."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import TextIO

import click

from gflow.distributed.torchrun import rank_info
from gflow.errors import Interrupted
from gflow.text import printable

#: The object of click's context where the process was started for its one command.
OWN_PROCESS = object()


@contextlib.contextmanager
def process_restored() -> Iterator[None]:
    """Set up the streams, warnings and signals for a command, and restore them afterwards.

    Yields
    ------
    None
    """
    streams = [s for s in (sys.stdout, sys.stderr) if isinstance(s, io.TextIOWrapper)]
    error_modes = [stream.errors for stream in streams]
    handlers = {}
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            for stream in streams:  # the name of a file need not be valid text
                stream.reconfigure(errors="backslashreplace")
            if threading.current_thread() is threading.main_thread():
                for name in ("SIGTERM", "SIGUSR1", "SIGUSR2"):  # before a run handles them itself
                    if name in signal.Signals.__members__:
                        number = signal.Signals[name]
                        handlers[number] = signal.signal(number, _terminate)
            yield
        finally:
            for number, handler in handlers.items():
                # None: a handler that was not installed from Python, which cannot be set again.
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
            for stream, errors in zip(streams, error_modes, strict=True):
                if not stream.closed:
                    stream.reconfigure(errors=errors)


def owns_process() -> bool:
    """Whether this process was started for the command that runs in it."""
    context = click.get_current_context(silent=True)
    return context is not None and context.find_root().obj is OWN_PROCESS


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """Import packages without the garbage collector, which takes a tenth of the time.

    There is nothing to collect among modules. In a process of its own a command freezes them, so
    that later collections do not look at them again.

    Yields
    ------
    None
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if owns_process():
            gc.freeze()
        if enabled:
            gc.enable()


def skip_dask() -> None:
    """Import xarray and let it know that no array of this process is of dask.

    xarray asks this of every array, and imports dask to ask it, which takes half a second. It
    remembers the answer: here it asks where dask cannot be imported. Only for a process that runs
    one command and ends, as nothing in it can then give xarray an array of dask.
    """
    if "dask" in sys.modules:
        return
    sys.modules["dask"] = None  # type: ignore[assignment]  # Python's way to forbid an import
    try:
        import xarray as xr

        xr.Variable("x", [0.0]).isnull()
    finally:
        del sys.modules["dask"]


def silence_follower() -> bool:
    """Silence a process of torchrun that is not rank 0; return whether it is one.

    Its streams stay silent until it ends: errors at exit would be repeated by every rank.
    """
    info = rank_info()
    if info is None or info.rank == 0:
        return False
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    os.close(null)
    return True


def discard_broken_output() -> None:
    """Discard what a closed pipe did not take: Python would complain of it at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)


def _terminate(number: int, frame: object) -> None:
    raise Interrupted(signal.Signals(number).name)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning in one line, without its place in the source."""
    click.echo("gflow: warning: " + printable(str(message)), err=True)
