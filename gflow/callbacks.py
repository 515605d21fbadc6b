"""Types of the callbacks that report progress, and what ``progress=True`` prints."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from gflow.checks import require_callable

#: ``progress(t, loss)``, called after accepted steps.
Progress = Callable[[float, float], None]

#: ``stages(name, t_end)`` returns the progress callback of one stage of a run, or None.
Stages = Callable[[str, float], Progress | None]

#: ``progress(done, total)``, called after each part of countable work.
CountProgress = Callable[[int, int], None]

_INTERVAL = 1.0  # seconds between two lines


def as_progress(progress: Progress | bool | None, name: str = "") -> Progress | None:
    """Return a progress callback: True prints a line each second to standard error.

    Parameters
    ----------
    progress : callable, bool or None
        None and False for none.
    name : str
        What is in progress.

    Returns
    -------
    callable or None

    Raises
    ------
    InputError
        If it is anything else.

    Examples
    --------
    >>> as_progress(False) is None
    True
    """
    if progress is None or progress is False:
        return None
    if progress is not True:
        require_callable("progress", progress, "progress(t, loss)")
        return progress
    return _printed(lambda t, loss: f"{name}{': ' if name else ''}t = {t:.6g}, loss = {loss:.6g}")


def as_count_progress(progress: CountProgress | bool | None) -> CountProgress | None:
    """Return a callback of countable work, as `as_progress` does."""
    if progress is None or progress is False:
        return None
    if progress is not True:
        require_callable("progress", progress, "progress(done, total)")
        return progress
    return _printed(lambda done, total: f"{done} of {total}")


def as_stages(stages: Stages | bool | None) -> Stages:
    """Return a callback of stages, as `as_progress` does."""
    if stages is None or stages is False:
        return lambda name, t_end: None
    if stages is not True:
        require_callable("stages", stages, "stages(name, t_end)")
        return stages
    return lambda name, t_end: as_progress(True, name)


def _printed(text: Callable[..., str]) -> Callable[..., None]:
    """Return a callback that prints a text of its arguments, once a second at most."""
    last = time.monotonic()

    def show(*values: float) -> None:
        nonlocal last
        if time.monotonic() - last >= _INTERVAL:
            last = time.monotonic()
            print(text(*values), file=sys.stderr)

    return show
