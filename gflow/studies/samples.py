"""Matrix completion against the number of observed entries, with a mask for each of many starts.

A seed is that of a start (`gflow.studies.completed`) and of an order of the entries: more of them
include the fewer. All masks and starts are one ensemble.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import torch
from torch import Tensor

from gflow.baselines import minimum_nuclear_norm
from gflow.callbacks import Stages, as_stages
from gflow.checks import (
    require_bool,
    require_count,
    require_depth,
    require_numbers,
    require_positive,
)
from gflow.errors import InputError
from gflow.losses import MatrixCompletion
from gflow.solvers import SolveOptions
from gflow.solvers.options import SolveKeywords
from gflow.studies.arguments import study_options
from gflow.studies.completed import DEFAULTS, complete, measured, require_square, start_seeds
from gflow.studies.completion_trend import CompletionTrend, fitted_laws

_ORDER_SEED = 2**32  # added to the seed of a start: that of the order of its entries


def samples_study(
    matrix: Tensor,
    samples: Sequence[int],
    seeds: int | Sequence[int] = 5,
    *,
    depth: int = 3,
    init_scale: float = 1e-3,
    loss_end: float = 5e-7,
    convex: bool = False,
    options: SolveOptions = DEFAULTS,
    stages: Stages | bool | None = None,
    **keywords: Unpack[SolveKeywords],
) -> CompletionTrend:
    """Complete a matrix from several numbers of observed entries.

    Parameters
    ----------
    matrix : Tensor, shape (d, d)
        The entries v_ij, NaN where unknown.
    samples : sequence of int
        Numbers of entries that are observed, of those that are known.
    seeds : int or sequence of int
        How many masks and starts there are for each number, or their seeds.
    depth : int
        Number of layers N.
    init_scale : float
        α of the starts.
    loss_end : float
        The loss at which a path ends, the mean of half of the square over observed entries.
    convex : bool
        Whether to find the matrix of least nuclear norm for every mask.
    options : SolveOptions
        By default rtol is 1e-3 and atol 1e-6. All masks and starts are one ensemble.
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
        If the matrix is not square, fewer entries are known than are to be observed, or an argument
        is out of range.

    Examples
    --------
    >>> import torch
    >>> matrix = torch.outer(torch.arange(1.0, 7.0), torch.linspace(1.0, 2.0, 6)).double()
    >>> study = samples_study(matrix, [8, 24], seeds=4)
    >>> low, median, high = study.band("errors")
    >>> bool(median[1] < 1e-3 * median[0])
    True
    """
    options = study_options(options, keywords)
    matrix, numbers = require_square(matrix), start_seeds(seeds)
    listed = require_numbers("samples", samples)
    counts = sorted({require_count("each of samples", count) for count in listed})
    scale, depth = require_positive("init_scale", init_scale), require_depth(depth)
    known = (~matrix.isnan()).flatten().nonzero()[:, 0].cpu()
    if counts[-1] > len(known):
        raise InputError(
            f"samples must be at most the {len(known)} entries that are known, got {counts[-1]}; "
            "use fewer"
        )
    masks = torch.zeros(len(counts), len(numbers), matrix.numel(), dtype=torch.bool)
    for j, seed in enumerate(numbers):
        generator = torch.Generator().manual_seed(_ORDER_SEED + seed)
        order = known[torch.randperm(len(known), generator=generator)]
        for i, count in enumerate(counts):
            masks[i, j, order[:count]] = True
    observed = masks.unflatten(-1, matrix.shape).to(matrix.device)
    ends = complete(
        MatrixCompletion(matrix, observed),
        depth,
        [[(scale, seed) for seed in numbers] for _ in counts],
        require_positive("loss_end", loss_end),
        options,
        as_stages(stages),
    )
    flows, best = measured(ends.W, matrix, observed), None
    if require_bool("convex", convex):
        fits = [minimum_nuclear_norm(matrix, mask).solution for mask in observed.flatten(0, 1)]
        best = measured(torch.stack(fits).unflatten(0, observed.shape[:2]), matrix, observed)
    whole = len(known) == matrix.numel()
    return CompletionTrend(
        "samples",
        tuple(counts),
        numbers,
        flows,
        ends.losses,
        ends.times,
        fitted_laws(counts, flows),
        (ends.path,),
        best,
        measured(matrix, matrix, torch.ones_like(matrix, dtype=torch.bool)) if whole else None,
    )
