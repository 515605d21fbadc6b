"""The size and the rank of each parameter tensor."""

from __future__ import annotations

import torch
from torch import Tensor

from gflow.linalg.eigen import effective_rank
from gflow.measures.base import MATRICES, Measure, Snapshot


class LayerNorms(Measure):
    """The Frobenius norm of each parameter, in the order of ``named_parameters``."""

    name = "layer_norms"
    long_name = "norm of each parameter"
    price = "nothing"
    dims = ("parameter",)
    always = True

    def __call__(self, state: Snapshot) -> Tensor:
        named = state.flow.parameters_dict(state.y)
        return torch.stack([p.norm() for p in named.values()])


class EffectiveRanks(Measure):
    """exp(entropy(σ/Σσ)) of each weight, with the inputs of a unit or a channel as one row.

    Roy & Vetterli (2007); parameters of one dimension have none.
    """

    name = "effective_ranks"
    long_name = "effective rank of each weight"
    price = "the singular values of each weight"
    dims = ("weight",)
    needs = (MATRICES,)

    def __call__(self, state: Snapshot) -> Tensor:
        weights = [p for p in state.flow.parameters_dict(state.y).values() if p.ndim > 1]
        return torch.stack([effective_rank(torch.linalg.svdvals(p.flatten(1))) for p in weights])
