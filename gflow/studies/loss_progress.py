"""Progress along paths whose time grows by decades, as decades of the loss."""

from __future__ import annotations

import math

from gflow.callbacks import Progress, Stages


def decades_of_loss(stages: Stages, name: str, first: float, last: float) -> Progress | None:
    """Return the progress callback of a stage, which counts decades of the loss in place of time.

    Parameters
    ----------
    stages : callable
        ``stages(name, t_end)`` gives the callback of the stage.
    name : str
    first, last : float
        The loss at the start, and that at which the path ends.

    Returns
    -------
    callable or None

    Examples
    --------
    >>> seen = []
    >>> stages = lambda name, t_end: lambda t, loss: seen.append((name, t_end, t))
    >>> decades_of_loss(stages, "a path", 1.0, 1e-4)(12345.0, 0.1)
    >>> seen
    [('a path, decades of the loss', 4.0, 1.0)]
    """
    progress = stages(f"{name}, decades of the loss", math.log10(first / last))
    if progress is None:
        return None
    return lambda t, loss: progress(math.log10(first / min(max(loss, last), first)), loss)
