"""``in-context``: linear attention learns one direction of its inputs after another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from gflow.settings.base import Count, Positive
from gflow.settings.laboratory_base import LaboratoryScenario

if TYPE_CHECKING:
    from torch import Tensor

    from gflow.callbacks import Stages
    from gflow.flows import NetworkFlow
    from gflow.networks.context_moments import Contexts
    from gflow.results.base import Result, Setup

_CONTEXTS = 1500


class InContext(LaboratoryScenario):
    """Linear attention with keys and queries of rank one, on regression in context."""

    setting: ClassVar[str] = "in-context"
    papers: ClassVar[tuple[str, ...]] = ("zhang2025training",)

    samples: Count | None = Field(
        None,
        description="number of contexts, each with all pairs of 2D functions and D queries",
        json_schema_extra={"without": str(_CONTEXTS)},
    )
    inputs: Annotated[int, Field(ge=2, le=20)] = Field(4, description="dimension D of the inputs x")
    length: Annotated[int, Field(ge=2, le=10_000)] = Field(
        32, description="number N of examples in a context"
    )
    decay: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] = Field(
        0.5, description="ratio of an eigenvalue of the inputs' covariance to the next larger one"
    )
    heads: Annotated[int, Field(ge=1, le=100)] | None = Field(
        None,
        description="attention heads, at least as many as dimensions",
        json_schema_extra={"without": "one for each dimension"},
    )
    init_scale: Positive = Field(
        0.05, description="number that multiplies torch's own initial parameters"
    )
    rtol: Positive = Field(1e-3, description="relative tolerance of the solver")
    atol: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        1e-9, description="absolute tolerance of the solver"
    )
    points: Annotated[int, Field(ge=2, le=100_000)] = Field(
        150, description="number of times at which the path is measured"
    )

    def problem(self) -> tuple[NetworkFlow, Tensor, Contexts]:
        """Draw the contexts, and make the flow and its start.

        Raises
        ------
        InputError
            If there are fewer heads than dimensions, or the samples take more than 2 GiB.
        """
        from gflow.errors import InputError
        from gflow.flows import NetworkFlow
        from gflow.networks.context_moments import (
            MapAttention,
            MomentAttention,
            SummedSquares,
            combined,
            draw_contexts,
        )
        from gflow.settings.architectures import build

        heads, D, contexts = self.heads or self.inputs, self.inputs, self.samples or _CONTEXTS
        if heads < D:
            raise InputError(
                f"heads must be at least as many as the {D} dimensions, which one head each "
                f"learns, got {heads}; give more heads or fewer inputs"
            )
        size = 16 * contexts * D**2 * ((D + 1) * (D + 2) + 1)
        if size > 2**31:
            raise InputError(
                f"samples must take at most 2 GiB, got {contexts} contexts in {D} dimensions, "
                f"which take {size / 2**30:.1f}; use fewer"
            )
        data = draw_contexts(contexts, self.length, D, self.decay, self.seed)
        options = self.torch_options()
        dtype = options["dtype"]
        found = combined(data)
        attention = MomentAttention if found is None else MapAttention
        inputs, targets = found or (data.rows, data.targets)
        module = build(lambda: attention(D + 1, heads, 1), self.seed, dtype)
        flow = NetworkFlow(
            module.to(options["device"]),
            SummedSquares(len(data.rows)),
            inputs.to(**options),
            targets.to(**options),
        )
        return flow, flow.scaled_start(self.init_scale), data

    def setup(self) -> Setup:
        """Make the flow and its start."""
        from gflow.results.base import Setup

        flow, start, data = self.problem()
        facts = {"contexts": len(data.second_moments), "samples": len(data.rows)}
        return Setup(flow, start, facts=facts)

    def run(self, stages: Stages) -> Result:
        """Follow the loss from plateau to plateau, beside the levels of theory."""
        from gflow.results.context_plateaus import ContextPlateausResult
        from gflow.studies.context_plateaus import best_levels, context_levels, context_plateaus

        flow, start, data = self.problem()
        sampled = data.second_moments.mean(0)
        least = float(data.covariance.diagonal().min())
        study = context_plateaus(
            flow,
            start,
            context_levels(sampled, self.length),
            best_levels(data.second_moments, data.covariance),
            # A head leaves a saddle at a time of the order of 1/(init_scale·λ²).
            t_end=self.t_end or 100.0 / (self.init_scale * least**2),
            options=self.solve_options(),
            stages=stages,
        )
        return ContextPlateausResult.from_study(study)
