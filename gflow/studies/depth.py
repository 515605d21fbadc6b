"""Matrix completion against the depth of the network, at one scale of the start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from torch import Tensor

from gflow.callbacks import Stages
from gflow.checks import require_positive
from gflow.solvers import SolveOptions
from gflow.solvers.options import SolveKeywords
from gflow.studies.arguments import study_options
from gflow.studies.completed import DEFAULTS
from gflow.studies.completion import completion_study
from gflow.studies.completion_trend import CompletionTrend, along


def depth_study(
    matrix: Tensor,
    mask: Tensor,
    depths: Sequence[int],
    seeds: int | Sequence[int] = 5,
    *,
    init_scale: float = 1e-3,
    loss_end: float = 5e-7,
    convex: bool = True,
    options: SolveOptions = DEFAULTS,
    stages: Stages | bool | None = None,
    **keywords: Unpack[SolveKeywords],
) -> CompletionTrend:
    """Complete a matrix by flows of several depths.

    Parameters
    ----------
    matrix : Tensor, shape (d, d)
        The entries v_ij. Those that are not observed measure the error; NaN where unknown.
    mask : Tensor, shape (d, d)
        True where an entry is observed.
    depths : sequence of int
        Numbers of layers N.
    seeds : int or sequence of int
        How many starts each depth has, or their seeds.
    init_scale : float
        α of the starts.
    loss_end : float
        The loss at which a path ends, the mean of half of the square over observed entries.
    convex : bool
        Whether to find the matrix of least nuclear norm that fits, too.
    options : SolveOptions
        By default rtol is 1e-3 and atol 1e-6. All starts of a depth are one ensemble.
    stages : callable or bool, optional
        ``stages(name, t_end)`` gives a progress callback for each depth; True shows bars.
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
    >>> study = depth_study(matrix, mask, [2, 3], seeds=3)
    >>> bool(study.band("errors")[1][1] < study.band("errors")[1][0])    # deeper: nearer
    True
    """
    study = completion_study(
        matrix,
        mask,
        depths,
        [require_positive("init_scale", init_scale)],
        seeds,
        loss_end=loss_end,
        convex=convex,
        options=study_options(options, keywords),
        stages=stages,
    )
    return along(study, "depth", study.depths, 1)
