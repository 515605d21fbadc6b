r"""Matrix completion by deep factorization, beside the matrix of least nuclear norm that fits.

The flow from Gaussian layers (`gflow.studies.completed`) ends at a matrix whose nuclear norm is not
the least of those that fit, and which is nearer to a matrix of low rank the deeper the network
(Arora et al. 2019, arXiv:1905.13655). Time unit: t = k·step_size of descent on the layers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

import torch
from torch import Tensor

from gflow.baselines import minimum_nuclear_norm
from gflow.callbacks import Stages, as_stages
from gflow.checks import require_bool, require_count, require_numbers, require_positive
from gflow.display import Display, holds
from gflow.errors import InputError
from gflow.losses import MatrixCompletion
from gflow.solvers import SolveOptions
from gflow.solvers.options import SolveKeywords
from gflow.studies.arguments import distinct_positive, study_options
from gflow.studies.completed import (
    DEFAULTS,
    Completed,
    complete,
    measured,
    require_square,
    start_seeds,
)
from gflow.trajectory import Trajectory


@dataclass(frozen=True, repr=False)
class CompletionStudy(Display):
    """Matrices that flows of several depths complete, from several starts.

    Attributes
    ----------
    depths : tuple of int
    init_scales : tuple of float
        α, descending.
    seeds : tuple of int
        Of the starts; those of all depths and scales have the same seeds.
    flows : Completed
        Of shape (depths, scales, seeds); NaN where a flow failed.
    losses : Tensor, shape (depths, scales, seeds)
        At the ends.
    times : Tensor, shape (depths, scales, seeds)
        Of the ends.
    trajectories : tuple of Trajectory
        One for each depth, an ensemble of all starts.
    convex : Completed or None
        Of the matrix of least nuclear norm that fits.
    truth : Completed or None
        Of the whole matrix, where all of it is known.
    """

    depths: tuple[int, ...]
    init_scales: tuple[float, ...]
    seeds: tuple[int, ...]
    flows: Completed
    losses: Tensor
    times: Tensor
    trajectories: tuple[Trajectory, ...]
    convex: Completed | None
    truth: Completed | None

    def __repr__(self) -> str:
        medians = self.flows.errors.nanmedian(dim=-1).values
        error = float(medians.nan_to_num(math.inf).min())
        certificates = [path.certificate for path in self.trajectories]
        return (
            f"CompletionStudy(depths {', '.join(map(str, self.depths))}, {len(self.init_scales)} "
            f"scales x {len(self.seeds)} seeds, least median error {error:.3g}, "
            f"{holds(*certificates)})"
        )


def completion_study(
    matrix: Tensor,
    mask: Tensor,
    depths: Sequence[int],
    init_scales: Sequence[float],
    seeds: int | Sequence[int] = 1,
    *,
    loss_end: float = 5e-7,
    convex: bool = True,
    options: SolveOptions = DEFAULTS,
    stages: Stages | bool | None = None,
    **keywords: Unpack[SolveKeywords],
) -> CompletionStudy:
    """Complete a square matrix by flows of several depths from several starts.

    Parameters
    ----------
    matrix : Tensor, shape (d, d)
        The entries v_ij. Those that are not observed measure the error; NaN where unknown.
    mask : Tensor, shape (d, d)
        True where an entry is observed.
    depths : sequence of int
        Numbers of layers N.
    init_scales : sequence of float
        α.
    seeds : int or sequence of int
        How many starts there are for each depth and scale, or their seeds.
    loss_end : float
        The loss at which a path ends, the mean of half of the square over observed entries.
    convex : bool
        Whether to find the matrix of least nuclear norm that fits.
    options : SolveOptions
        By default rtol is 1e-3 and atol 1e-6. All starts of a depth are one ensemble.
    stages : callable or bool, optional
        ``stages(name, t_end)`` gives a progress callback for each depth; True shows bars.
    **keywords
        Fields of `SolveOptions` (``method``, ``rtol``, ``atol``, …) to change in ``options``.

    Returns
    -------
    CompletionStudy

    Raises
    ------
    InputError
        If the matrix is not square, the mask has another shape, or an argument is out of range.

    Examples
    --------
    >>> import torch
    >>> matrix = torch.outer(torch.tensor([1.0, 2.0, 1.0]), torch.tensor([2.0, 1.0, 1.0])).double()
    >>> mask = torch.tensor([[1, 1, 1], [1, 0, 1], [1, 1, 0]], dtype=torch.bool)
    >>> study = completion_study(matrix, mask, [3], [1e-3, 1e-5])
    >>> study.flows.effective_ranks.round(decimals=2).squeeze().tolist()
    [1.0, 1.0]
    """
    options = study_options(options, keywords)
    matrix = require_square(matrix)
    listed = require_numbers("depths", depths)
    layers = sorted({require_count("each of depths", depth) for depth in listed})
    alphas = distinct_positive("init_scales", init_scales)
    numbers = start_seeds(seeds)
    loss_end = require_positive("loss_end", loss_end)
    stage_of = as_stages(stages)
    loss = MatrixCompletion(matrix, mask)
    if loss.members:
        raise InputError(
            f"mask must be one for all starts, of shape {tuple(matrix.shape)}, got "
            f"{tuple(mask.shape)}; pass one, or use samples_study, which has a mask for each start"
        )
    observed = mask.to(torch.bool).to(matrix.device)
    starts = [[(alpha, seed) for seed in numbers] for alpha in alphas]
    ends = [complete(loss, depth, starts, loss_end, options, stage_of) for depth in layers]
    found = [measured(end.W, matrix, observed) for end in ends]
    best = None
    if require_bool("convex", convex):
        best = measured(minimum_nuclear_norm(matrix, mask).solution, matrix, observed)
    known = not bool(matrix.isnan().any())
    return CompletionStudy(
        tuple(layers),
        tuple(alphas),
        numbers,
        Completed(
            *(
                torch.stack([getattr(one, name) for one in found])
                for name in ("errors", "nuclear_norms", "effective_ranks")
            )
        ),
        torch.stack([end.losses for end in ends]),
        torch.stack([end.times for end in ends]),
        tuple(end.path for end in ends),
        best,
        measured(matrix, matrix, observed) if known else None,
    )
