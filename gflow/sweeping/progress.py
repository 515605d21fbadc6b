"""The progress of a sweep, as `gflow.sweeping.engine` reports it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass
class SweepProgress:
    """How many runs of a sweep have ended, and how.

    Attributes
    ----------
    total : int
        Runs of the sweep.
    done : int
        Runs that are done, including those that were done before.
    done_before : int
        Runs that were done before the sweep was started.
    running : int
        Runs that workers are executing.
    workers : int
        Runs that the workers can execute at a time.
    elsewhere : int
        Runs that another process is executing.
    failed : dict
        Run id -> reason, of the runs that failed.
    started : float
        `time.monotonic` when the sweep was started.

    Examples
    --------
    >>> SweepProgress(total=8, done=5, elsewhere=1, failed={"3f": "disk full"}).remaining
    1
    """

    total: int
    done: int = 0
    done_before: int = 0
    running: int = 0
    workers: int = 0
    elsewhere: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    @property
    def remaining(self) -> int:
        """The number of runs that have not ended."""
        return self.total - self.done - self.elsewhere - len(self.failed)

    def seconds_remaining(self) -> float | None:
        """Extrapolate from the runs that ended so far; None before the first one ends."""
        ended = self.done - self.done_before + len(self.failed)
        return (time.monotonic() - self.started) / ended * self.remaining if ended else None
