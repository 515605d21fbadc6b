"""Types of the callbacks that report progress."""

from __future__ import annotations

from collections.abc import Callable

#: progress(t, loss), called after accepted steps
Progress = Callable[[float, float], None]


#: stages(name, t_end) gives the progress callback of one part of the work, or None
Stages = Callable[[str, float], Progress | None]
