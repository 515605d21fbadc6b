"""Types of the callbacks that report progress."""

from __future__ import annotations

from collections.abc import Callable

#: ``progress(t, loss)``, called after accepted steps.
Progress = Callable[[float, float], None]

#: ``stages(name, t_end)`` returns the progress callback of one stage of a run, or None.
Stages = Callable[[str, float], Progress | None]

#: ``progress(done, total)``, called after each part of countable work.
CountProgress = Callable[[int, int], None]
