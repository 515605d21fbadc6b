"""Types of the callbacks that report progress, and what ``progress=True`` shows.

Bars are drawn here and not by a package: a callback does not learn when a solve fails, so nothing
may have to be closed.
"""

from __future__ import annotations

import html
import shutil
import sys
import time
from collections.abc import Callable
from typing import Any

from gflow.checks import require_callable

#: ``progress(t, loss)``, called after accepted steps.
Progress = Callable[[float, float], None]

#: ``stages(name, t_end)`` returns the progress callback of one stage of a run, or None.
Stages = Callable[[str, float], Progress | None]

#: ``progress(done, total)``, called after each part of countable work.
CountProgress = Callable[[int, int], None]

_INTERVAL = 1.0  # seconds between two lines
_BAR_INTERVAL = 0.1  # seconds between two states of a bar
_CELLS = 24  # characters of a bar


def as_progress(
    progress: Progress | bool | None, name: str = "", t_end: float | None = None
) -> Progress | None:
    """Return a progress callback: True shows a bar in a terminal and in a notebook.

    Elsewhere True prints a line each second to standard error.

    Parameters
    ----------
    progress : callable, bool or None
        None and False for none.
    name : str
        What is in progress.
    t_end : float, optional
        The time at which it ends; without it there is a line instead of a bar.

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
    head = f"{name}: " if name else ""
    plain = lambda t, loss: f"{head}t = {t:.6g}, loss = {loss:.6g}"  # noqa: E731
    if t_end is None:
        return _printed(plain)
    text = lambda t, loss: f"{head}t = {t:.4g} of {t_end:.4g}, loss {loss:.4g}"  # noqa: E731
    share = lambda t, loss: t / t_end if t_end > 0 else 1.0  # noqa: E731
    return _bar(share, text) or _printed(plain)


def as_count_progress(progress: CountProgress | bool | None) -> CountProgress | None:
    """Return a callback of countable work, as `as_progress` does."""
    if progress is None or progress is False:
        return None
    if progress is not True:
        require_callable("progress", progress, "progress(done, total)")
        return progress
    text = lambda done, total: f"{done} of {total}"  # noqa: E731
    return _bar(lambda done, total: done / max(1, total), text) or _printed(text)


def as_stages(stages: Stages | bool | None) -> Stages:
    """Return a callback of stages, as `as_progress` does."""
    if stages is None or stages is False:
        return lambda name, t_end: None
    if stages is not True:
        require_callable("stages", stages, "stages(name, t_end)")
        return stages
    return lambda name, t_end: as_progress(True, name, t_end)


def _printed(text: Callable[..., str]) -> Callable[..., None]:
    """Return a callback that prints a text of its arguments, once a second at most."""
    last = time.monotonic()

    def show(*values: float) -> None:
        nonlocal last
        if time.monotonic() - last >= _INTERVAL:
            last = time.monotonic()
            print(text(*values), file=sys.stderr)

    return show


def _bar(share: Callable[..., float], text: Callable[..., str]) -> Callable[..., None] | None:
    """Return a callback that draws a bar, ten times a second at most; None where there is no place.

    ``share(*values)`` is the part that is done, ``text(*values)`` the text beside the bar.
    """
    draw = _notebook_bar() or (_terminal_bar if sys.stderr.isatty() else None)
    if draw is None:
        return None
    start = last = time.monotonic()
    ended = False

    def show(*values: float) -> None:
        nonlocal last, ended
        done, now = min(1.0, max(0.0, share(*values))), time.monotonic()
        if ended or (now - last < _BAR_INTERVAL and done < 1):
            return
        last, ended = now, done >= 1
        seconds = now - start
        left = (
            f", {seconds:.0f} s"
            if ended or done == 0
            else f", {seconds * (1 / done - 1):.0f} s left"
        )
        draw(done, f"{100 * done:3.0f} %  {text(*values)}{left}")

    return show


def _terminal_bar(done: float, text: str) -> None:
    cells = int(_CELLS * done)
    line = f"{'━' * cells}{'╌' * (_CELLS - cells)} {text}"
    width = shutil.get_terminal_size().columns - 1
    end = "\n" if done >= 1 else ""
    print(f"\r\x1b[2K{line[:width]}", end=end, file=sys.stderr, flush=True)


def _notebook_bar() -> Callable[[float, str], None] | None:
    """Return a function that draws a bar below a notebook's cell; None outside of a notebook."""
    ipython = sys.modules.get("IPython")  # a notebook has loaded it
    shell = None if ipython is None else ipython.get_ipython()
    if type(shell).__name__ != "ZMQInteractiveShell":
        return None
    from IPython.display import HTML, display  # type: ignore[import-not-found,unused-ignore]

    handle: Any = None

    def draw(done: float, text: str) -> None:
        nonlocal handle
        bar = HTML(f"<progress max='1' value='{done:.4f}'></progress> {html.escape(text)}")
        if handle is None:
            handle = display(bar, display_id=True)
        else:
            handle.update(bar)

    return draw
