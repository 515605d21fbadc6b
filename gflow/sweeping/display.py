"""How far a sweep is, on standard error: a live table on a terminal, else a line now and then."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from gflow.sweeping.engine import SweepProgress

_LINE_EVERY = 30.0  # seconds between lines
_SHOWN = 3  # of the failures, the last ones


@contextlib.contextmanager
def shown() -> Iterator[Callable[[SweepProgress], None]]:
    """A callback that shows how far a sweep is."""
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(stderr=True), transient=True, refresh_per_second=2) as live:
        yield lambda tally: live.update(_table(tally))


def _lines() -> Callable[[SweepProgress], None]:
    last = time.monotonic()

    def show(tally: SweepProgress) -> None:
        nonlocal last
        if time.monotonic() - last >= _LINE_EVERY:
            last = time.monotonic()
            print(f"gflow: {line(tally)}", file=sys.stderr, flush=True)

    return show


def line(tally: SweepProgress) -> str:
    """A tally in one line.

    Examples
    --------
    >>> from gflow.sweeping.engine import SweepProgress
    >>> line(SweepProgress(total=8, done=5, found=5, running=2, workers=2))
    '5 of 8 done, 2 running on 2 workers, 0 failed'
    """
    text = f"{tally.done} of {tally.total} done, {tally.running} running on {tally.workers} workers"
    text += f", {len(tally.failed)} failed"
    left = tally.seconds_left()
    return text if left is None or not tally.left else f"{text}, about {duration(left)} left"


def duration(seconds: float) -> str:
    """A length of time.

    Examples
    --------
    >>> duration(42.4), duration(150), duration(9000)
    ('42 s', '2.5 min', '2.5 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _table(tally: SweepProgress) -> Table:
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for name in ("done", "running", "failed", "workers", "left"):
        table.add_column(name, justify="right")
    table.add_column()
    left = tally.seconds_left()
    table.add_row(
        f"{tally.done} of {tally.total}",
        str(tally.running),
        str(len(tally.failed)),
        str(tally.workers),
        "-" if left is None else duration(left),
        ProgressBar(total=max(1, tally.total), completed=tally.total - tally.left, width=30),
    )
    if tally.failed:
        whole = Table.grid()
        whole.add_row(table)
        for id, reason in list(tally.failed.items())[-_SHOWN:]:
            whole.add_row(
                Text(f"failed {id}: {reason}", style="red", overflow="ellipsis", no_wrap=True)
            )
        return whole
    return table
