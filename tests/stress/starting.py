"""Start gflow in a process that can be stopped: forked from one that has imported it, or new.

A new process imports for seconds before its run begins. A forked one begins at once, so that a
signal at a random moment stops the run itself. Forking is safe because the parent has one thread
and has not computed with torch.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# What every run imports is imported once, here.
import gflow.cli.main
import gflow.results.registry
import gflow.runs.runner
import gflow.solvers
import gflow.studies
from gflow import plots

_DIES_WITH_PARENT = 1  # PR_SET_PDEATHSIG of <sys/prctl.h>
_FAILED = 99  # an exit status that gflow does not have
# The events of audit hooks that change files.
_CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate")


class Child:
    """A process that runs gflow, with its standard output and error in one file."""

    def __init__(self, pid: int, log: Path):
        self._pid = pid
        self._log = log
        self._status: int | None = None

    def wait(self, seconds: float) -> int | None:
        """Return the exit status, −n after signal n; None if it still runs after these seconds."""
        end = time.monotonic() + seconds
        while self._status is None:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
            elif time.monotonic() >= end:
                break
            else:
                time.sleep(0.001)
        return self._status

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process unless it has ended."""
        if self._status is None:
            os.kill(self._pid, number)

    def output(self) -> str:
        """Return the standard output and error."""
        try:
            return self._log.read_text(errors="replace")
        except FileNotFoundError:  # it was killed before it opened the file
            return ""


def forked(
    arguments: Sequence[str],
    log: Path,
    *,
    draw: bool = False,
    die_at: int | None = None,
    modules: Path | None = None,
) -> Child:
    """Run ``gflow ARGUMENTS`` in a fork of this process.

    Parameters
    ----------
    arguments : sequence of str
    log : Path
        The file of its standard output and error.
    draw : bool
        Whether it draws figures, which take longer than the rest of a short run.
    die_at : int, optional
        Kill itself by SIGKILL before this change of a file, counted from 1.
    modules : Path, optional
        The file in which it writes at its end the names of all imported modules.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return Child(pid, log)
    status = _FAILED
    try:
        ctypes.CDLL(None).prctl(_DIES_WITH_PARENT, signal.SIGKILL)
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        if not draw:
            plots.figures = _no_figures
        if die_at is not None:
            _kill_at(die_at)
        sys.argv = ["gflow", *arguments]
        try:
            gflow.cli.main.main(arguments)
        except SystemExit as leaving:
            status = leaving.code if isinstance(leaving.code, int) else 0
        if modules is not None:
            modules.write_text("\n".join(sorted(sys.modules)))
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _no_figures(dataset: object, title: str) -> dict[str, Any]:
    return {}


def _kill_at(change: int) -> None:
    remaining = change

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal remaining
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_CREAT
        if (writes or event in _CHANGES) and not str(arguments[0]).startswith("/dev/"):
            remaining -= 1
            if remaining == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def warm_up(modules: Path) -> None:
    """Import the modules that a child has imported, so that the next child has them."""
    for name in modules.read_text().split():
        if name != "__main__":
            with contextlib.suppress(ImportError):
                importlib.import_module(name)


def process(arguments: Sequence[str], log: Path) -> Child:
    """Run ``python -m gflow ARGUMENTS`` in a new process."""
    with log.open("wb") as out:
        started = subprocess.Popen(
            [sys.executable, "-m", "gflow", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: ctypes.CDLL(None).prctl(_DIES_WITH_PARENT, signal.SIGKILL),
        )
    return Child(started.pid, log)
