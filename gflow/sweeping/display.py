"""The progress of a sweep on standard error: a live table on a terminal, else a line at times."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from gflow.sweeping.progress import SweepProgress

if TYPE_CHECKING:
    from rich.table import Table

_LINE_INTERVAL = 30.0  # seconds between lines
_MAX_FAILURES = 3  # in the table; the latest ones


@contextlib.contextmanager
def progress_display() -> Iterator[Callable[[SweepProgress], None]]:
    """Show the progress of a sweep while the context is open.

    Yields
    ------
    callable
        ``show(progress)``, to be called whenever the progress has changed.
    """
    if not sys.stderr.isatty():
        yield _line_printer()
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(stderr=True), transient=True, refresh_per_second=2) as live:
        yield lambda progress: live.update(_progress_table(progress))


def _line_printer() -> Callable[[SweepProgress], None]:
    printed = time.monotonic()

    def show(progress: SweepProgress) -> None:
        nonlocal printed
        if time.monotonic() - printed >= _LINE_INTERVAL:
            printed = time.monotonic()
            print(f"gflow: {progress_line(progress)}", file=sys.stderr, flush=True)

    return show


def progress_line(progress: SweepProgress) -> str:
    """Return the progress in one line.

    Examples
    --------
    >>> progress_line(SweepProgress(total=8, done=5, done_before=5, running=2, workers=2))
    '5 of 8 done, 2 running on 2 workers, 0 failed'
    """
    text = f"{progress.done} of {progress.total} done, {progress.running} running"
    text += f" on {progress.workers} workers, {len(progress.failed)} failed"
    seconds = progress.seconds_remaining()
    if seconds is None or not progress.remaining:
        return text
    return f"{text}, about {format_duration(seconds)} left"


def format_duration(seconds: float) -> str:
    """Return a duration in seconds, minutes or hours.

    Examples
    --------
    >>> format_duration(42.4), format_duration(150), format_duration(9000)
    ('42 s', '2.5 min', '2.5 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _progress_table(progress: SweepProgress) -> Table:
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for name in ("done", "running", "failed", "workers", "left"):
        table.add_column(name, justify="right")
    table.add_column()
    seconds = progress.seconds_remaining()
    ended = progress.total - progress.remaining
    table.add_row(
        f"{progress.done} of {progress.total}",
        str(progress.running),
        str(len(progress.failed)),
        str(progress.workers),
        "-" if seconds is None else format_duration(seconds),
        ProgressBar(total=max(1, progress.total), completed=ended, width=30),
    )
    if not progress.failed:
        return table
    with_failures = Table.grid()
    with_failures.add_row(table)
    for id, reason in list(progress.failed.items())[-_MAX_FAILURES:]:
        text = f"failed {id}: {reason}"
        with_failures.add_row(Text(text, style="red", overflow="ellipsis", no_wrap=True))
    return with_failures
