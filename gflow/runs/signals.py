"""Signals that ask for an end, caught so that work can be left in good order."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

_SIGNALS = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2")  # the last two: SLURM's warnings


@contextlib.contextmanager
def caught(
    stop: Callable[[str], None],
    seconds: float | None = None,
    *,
    deaf: Callable[[], bool] = lambda: False,
) -> Iterator[None]:
    """Let signals, and an alarm after so many seconds, call ``stop(why)``.

    ``why`` is the signal's name, or ``time``; ``deaf()`` says whether the process ignores
    signals afterwards. Python hands signals to the main thread only: elsewhere nothing is caught.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    names = [name for name in _SIGNALS if name in signal.Signals.__members__]

    def handle(number: int, frame: object) -> None:
        stop("time" if number == alarm else signal.Signals(number).name)

    alarm = getattr(signal, "SIGALRM", None) if seconds is not None else None
    numbers = [signal.Signals[name] for name in names] + ([alarm] if alarm else [])
    before = {number: signal.signal(number, handle) for number in numbers}
    if alarm and seconds is not None:
        signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        if alarm:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if deaf() else handler)
