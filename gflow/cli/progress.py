"""Progress on standard error: time and loss, or a count, and the time remaining.

On a terminal it is a bar, for work longer than two seconds; elsewhere, as in the log of a job, it
is a line every ten seconds.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

    from gflow.callbacks import Progress

_DELAY = 2.0  # seconds before a bar appears
_INTERVAL = 0.1  # seconds between updates
LINE_INTERVAL = 10.0  # seconds between lines off a terminal


class Bar:
    """One bar for the stages of a run; `stage` returns the callback of each.

    Parameters
    ----------
    silent : bool
        Whether to show nothing at all.
    """

    def __init__(self, *, silent: bool = False) -> None:
        self._silent = silent
        self._bar: RichProgress | None = None
        self._start_time = time.monotonic()
        self._shown = 0.0

    def __enter__(self) -> Bar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def stage(self, name: str, t_end: float) -> Progress | None:
        """Return the progress callback of one part of the work; None if silent."""
        if self._silent:
            return None
        if not sys.stderr.isatty():
            return self._lines(name, t_end)
        task = None

        def update(t: float, loss: float) -> None:
            nonlocal task
            now = time.monotonic()
            if now - self._start_time < _DELAY or now - self._shown < _INTERVAL:
                return
            self._shown = now
            bar = self._show()
            if task is None:
                for old in bar.task_ids:
                    bar.remove_task(old)
                task = bar.add_task(name, total=t_end, loss=loss)
            bar.update(task, completed=t, loss=loss)

        return update

    def _lines(self, name: str, t_end: float) -> Progress:
        """Return a callback that prints a line from time to time."""
        start = time.monotonic()

        def update(t: float, loss: float) -> None:
            now = time.monotonic()
            if now - max(self._start_time, self._shown) >= LINE_INTERVAL:
                self._shown = now
                text = f"{name}: t = {t:.4g} of {t_end:.4g}, loss {loss:.4g}"
                click.echo(f"gflow: {text}{remaining(now - start, t, t_end)}", err=True)

        return update

    def _show(self) -> RichProgress:
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("t = {task.completed:.4g} of {task.total:.4g}"),
                TextColumn("loss {task.fields[loss]:.4g}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar.start()
        return self._bar


def remaining(seconds: float, done: float, total: float) -> str:
    """Return the time that work will still take at its pace so far, or nothing.

    Parameters
    ----------
    seconds : float
        The time that it has taken.
    done, total : float
        How much is done, of how much.

    Returns
    -------
    str

    Examples
    --------
    >>> remaining(30.0, 1.0, 4.0), remaining(30.0, 0.0, 4.0)
    (', about 90 s left', '')
    """
    return f", about {seconds * (total / done - 1):.0f} s left" if 0 < done < total else ""


@contextlib.contextmanager
def counting(name: str) -> Iterator[Callable[[int, int], None]]:
    """Show the progress of countable work, such as the tiles of a kernel.

    Parameters
    ----------
    name : str
        The text beside the bar, or at the start of the lines.

    Yields
    ------
    callable
        ``progress(done, total)``.

    Examples
    --------
    >>> import torch
    >>> from gflow.kernels import ntk
    >>> with counting("kernel") as progress:
    ...     H = ntk(torch.eye(3), progress=progress)
    """
    start, bar = time.monotonic(), None
    shown = start

    def update(done: int, total: int) -> None:
        nonlocal bar, shown
        now = time.monotonic()
        if not sys.stderr.isatty():
            if now - shown >= LINE_INTERVAL:
                shown = now
                left = remaining(now - start, done, total)
                click.echo(f"gflow: {name}: {done} of {total}{left}", err=True)
            return
        if bar is None:
            if now - start < _DELAY:
                return
            from rich.console import Console
            from rich.progress import Progress

            bar = Progress(console=Console(stderr=True), transient=True)
            bar.add_task(name, total=total)
            bar.start()
        bar.update(bar.task_ids[0], completed=done)

    try:
        yield update
    finally:
        if bar is not None:
            bar.stop()
