"""Stop a run in good order on a signal or at its time limit."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gflow.execution.checkpointing import Checkpointer

_SIGNALS = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2")  # the last two: SLURM's warnings


@contextlib.contextmanager
def catch_signals(
    stop: Callable[[str], None],
    seconds: float | None = None,
    *,
    ignore_afterwards: Callable[[], bool] = lambda: False,
) -> Iterator[None]:
    """Let signals, and an alarm after a time limit, call a function within the block.

    Python delivers signals to the main thread only: in another thread nothing is caught.

    Parameters
    ----------
    stop : callable
        ``stop(why)``, where ``why`` is the name of the signal, or ``time``.
    seconds : float, optional
        The time limit.
    ignore_afterwards : callable
        Whether the process ignores the signals after the block; else their handlers are restored.

    Yields
    ------
    None

    Examples
    --------
    >>> with catch_signals(print):
    ...     signal.raise_signal(signal.SIGTERM)
    SIGTERM
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
            signal.signal(number, signal.SIG_IGN if ignore_afterwards() else handler)


def stop_on_signals(
    checkpointer: Checkpointer, seconds: float | None = None
) -> contextlib.AbstractContextManager[None]:
    """Let signals, and an alarm after a time limit, stop a checkpointed run.

    In a thread other than the main one a run is stopped by its time limit between two steps, or
    killed.

    Parameters
    ----------
    checkpointer : Checkpointer
    seconds : float, optional
        The time limit.

    Returns
    -------
    context manager

    Examples
    --------
    >>> from gflow.execution.checkpointing import Checkpointer
    >>> def wait_for_the_limit(checkpointer):
    ...     with stop_on_signals(checkpointer, seconds=60.0):
    ...         pass
    """
    from gflow.execution import current  # with torch: the process that drives a sweep needs none

    received: set[str] = set()
    team = current().team

    def is_broken() -> bool:
        return team is not None and team.broken

    def stop(why: str) -> None:
        # torchrun sends SIGTERM after a Ctrl-C that all ranks received, and when a rank failed.
        if team is not None and (team.broken or received - {why}):
            return
        received.add(why)
        checkpointer.stop(why)

    # Where the team is broken, this process is about to report why it ends.
    return catch_signals(stop, seconds, ignore_afterwards=is_broken)
