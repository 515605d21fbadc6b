"""Progress bars on standard error: time and loss, or a count, and the time remaining.

They are shown only on a terminal, and only for work longer than two seconds.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

    from gflow.callbacks import Progress

_DELAY = 2.0  # seconds before a bar appears
_INTERVAL = 0.1  # seconds between updates


class Bar:
    """One bar for the stages of a run; `stage` returns the callback of each."""

    def __init__(self) -> None:
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
        """Return the progress callback of one part of the work; None off a terminal."""
        if not sys.stderr.isatty():
            return None
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


@contextlib.contextmanager
def counting(name: str) -> Iterator[Callable[[int, int], None]]:
    """Draw a bar for countable work, such as the tiles of a kernel.

    Parameters
    ----------
    name : str
        The text beside the bar.

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

    def update(done: int, total: int) -> None:
        nonlocal bar
        if bar is None:
            if not sys.stderr.isatty() or time.monotonic() - start < _DELAY:
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
