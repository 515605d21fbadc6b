"""Matrix completion against the scale of the start, at one depth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from torch import Tensor

from gflow.callbacks import Stages
from gflow.checks import require_depth
from gflow.solvers import SolveOptions
from gflow.solvers.options import SolveKeywords
from gflow.studies.arguments import study_options
from gflow.studies.completed import DEFAULTS
from gflow.studies.completion import completion_study
from gflow.studies.completion_trend import CompletionTrend, along


def init_scale_study(
    matrix: Tensor,
    mask: Tensor,
    init_scales: Sequence[float],
    seeds: int | Sequence[int] = 5,
    *,
    depth: int = 3,
    loss_end: float = 5e-7,
    convex: bool = True,
    options: SolveOptions = DEFAULTS,
    stages: Stages | bool | None = None,
    **keywords: Unpack[SolveKeywords],
) -> CompletionTrend:
    """Complete a matrix from starts of several scales.

    Parameters
    ----------
    matrix : Tensor, shape (d, d)
        The entries v_ij. Those that are not observed measure the error; NaN where unknown.
    mask : Tensor, shape (d, d)
        True where an entry is observed.
    init_scales : sequence of float
        α.
    seeds : int or sequence of int
        How many starts each scale has, or their seeds.
    depth : int
        Number of layers N.
    loss_end : float
        The loss at which a path ends, the mean of half of the square over observed entries.
    convex : bool
        Whether to find the matrix of least nuclear norm that fits, too.
    options : SolveOptions
        By default rtol is 1e-3 and atol 1e-6. All starts are one ensemble.
    stages : callable or bool, optional
        ``stages(name, t_end)`` gives a progress callback; True shows a bar.
    **keywords
        Fields of `SolveOptions` (``method``, ``rtol``, ``atol``, …) to change in ``options``.

    Returns
    -------
    CompletionTrend

    Raises
    ------
    InputError
        If the matrix is not square, or an argument is out of range.

    Examples
    --------
    >>> import torch
    >>> matrix = torch.outer(torch.tensor([1.0, 2.0, 1.0]), torch.tensor([2.0, 1.0, 1.0])).double()
    >>> mask = torch.tensor([[1, 1, 1], [1, 0, 1], [1, 1, 0]], dtype=torch.bool)
    >>> study = init_scale_study(matrix, mask, [1e-2, 1e-4], seeds=3, depth=2)
    >>> study.laws["errors"].slope > 0      # smaller starts end nearer
    True
    """
    study = completion_study(
        matrix,
        mask,
        [require_depth(depth)],
        init_scales,
        seeds,
        loss_end=loss_end,
        convex=convex,
        options=study_options(options, keywords),
        stages=stages,
    )
    return along(study, "init_scale", study.init_scales, 0)
