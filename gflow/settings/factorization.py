"""``factorization``: completion of a symmetric matrix as W = UUᵀ from a small start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from gflow.settings.base import Count, Positive, Scenario

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from gflow.callbacks import Stages
    from gflow.results.base import Result, Setup


class Factorization(Scenario):
    """Flow of W = UUᵀ that completes a partly observed correlation matrix; descent on U."""

    setting: ClassVar[str] = "factorization"
    papers: ClassVar[tuple[str, ...]] = ("gunasekar2017implicit",)

    observed: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = Field(
        0.5, description="fraction of the off-diagonal entries observed (the diagonal always is)"
    )
    init_scale: Positive = Field(1e-2, description="the start is U = init_scale * identity")
    size: Count = Field(30, description="with synthetic data: size of the matrix")
    rank: Count = Field(3, description="with synthetic data: rank of the matrix")

    def start_keys(self) -> frozenset[str]:
        """Return the scale of the start; the seed is none of them, as it draws the mask."""
        return frozenset({"init_scale"})

    def setup(self) -> Setup:
        """Make the flow from the columns' correlation matrix and a random symmetric mask."""
        import torch

        from gflow.data.synthetic import synthetic_low_rank
        from gflow.flows import ProductFlow
        from gflow.losses import MatrixCompletion
        from gflow.preparation import correlation
        from gflow.results.base import Setup

        options = self.torch_options()
        if self.data == "synthetic":
            matrix = synthetic_low_rank(self.size, self.rank, self.seed)
        else:
            matrix = correlation(self.load_data().inputs)
        target = torch.as_tensor(matrix, **options)
        chance = torch.rand(target.shape, generator=self.generator(), dtype=torch.float64).triu(1)
        chance = (chance + chance.mT).fill_diagonal_(0.0)
        mask = (chance <= self.observed).to(target.device)
        start = self.init_scale * torch.eye(len(target), **options)
        hidden = ~mask
        hidden_norm = target[hidden].norm().clamp_min(torch.finfo(target.dtype).tiny)

        def measure(ts: Tensor, ys: Tensor) -> Mapping[str, tuple[str, Tensor]]:
            if not bool(hidden.any()):
                return {}
            error = (ys - target)[..., hidden].norm(dim=-1) / hidden_norm
            return {"held_out_error": ("relative error on the unobserved entries", error)}

        facts = {"size": len(target), "observed_entries": int(mask.sum())}
        flow = ProductFlow(MatrixCompletion(target, mask))
        return Setup(flow, start @ start.mT, measure=measure, facts=facts)

    def run(self, stages: Stages) -> Result:
        """Run the flow of W, the flow of U, and descent on U."""
        from gflow.settings.flow_and_descent import run_paths

        return run_paths(self, stages)
