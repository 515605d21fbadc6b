"""``continuous-vs-discrete``: the gap of descent to the flow, and to a proxy of the flow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from gflow.settings.base import RUNS_CODE, Count, Text
from gflow.settings.measured_base import MeasuredNetworkScenario

if TYPE_CHECKING:
    from gflow.callbacks import Stages
    from gflow.results.base import Result


_KINK_RTOL = 1e-5  # sets the bounds of the certificate: across kinks every method has order 1


class ContinuousVsDiscrete(MeasuredNetworkScenario):
    """A linear network and one with activations: flow, descent with η₀, and with η₀/proxy."""

    setting: ClassVar[str] = "continuous-vs-discrete"
    papers: ClassVar[tuple[str, ...]] = ("elkabetz2021continuous",)

    model: Text = Field(
        "mlp",
        description="the network compared with a linear one: mlp, cnn, or your own by import path, "
        "package.module:make_model; linear for the linear one alone. An import path runs code, so "
        "it must be given on the command line",
        json_schema_extra=RUNS_CODE,
    )
    bias: bool = Field(
        False, description="biases of an mlp; a linear network never has them, a cnn always"
    )
    proxy: Annotated[int, Field(ge=2, le=10_000)] = Field(
        20, description="factor by which the step size of the proxy is smaller"
    )
    substeps: Count = Field(
        4,
        description="with activation relu, whose gradient jumps, and method auto: rk4 steps of the "
        "flow in one step of descent",
    )

    def run(self, stages: Stages) -> Result:
        """Run flow, descent and proxy of both networks."""
        from gflow.errors import InputError
        from gflow.results.continuous_vs_discrete import ContinuousVsDiscreteResult
        from gflow.studies.continuous_vs_discrete import continuous_vs_discrete

        if self.step_sizes is None or len(self.step_sizes) != 1:
            count = 0 if self.step_sizes is None else len(self.step_sizes)
            raise InputError(
                f"continuous-vs-discrete takes one step size, got {count}; "
                "pass one, for example --step-sizes 0.1"
            )
        (step,) = self.step_sizes
        options = self.solve_options()
        results, facts = {}, {}
        for model in dict.fromkeys(("linear", self.model)):
            setup = self.model_copy(update={"model": model}).setup()
            name = self.activation if model == "mlp" else model
            fixed = self.method == "auto" and self._has_kinks(model)
            across_kinks = options.with_(method="rk4", rtol=max(self.rtol, _KINK_RTOL))
            results[name] = continuous_vs_discrete(
                setup.flow,
                setup.y0,
                self.t_end,
                step,
                proxy=self.proxy,
                solver_step=step / self.substeps if fixed else None,
                options=across_kinks if fixed else options,
                stages=_stages_of(name, stages),
            )
            facts[name] = setup.facts
        return ContinuousVsDiscreteResult.from_study(results, facts)

    def _has_kinks(self, model: str) -> bool:
        return model in ("mlp", "cnn") and self.activation == "relu"


def _stages_of(name: str, stages: Stages) -> Stages:
    return lambda part, t_end: stages(f"{name}: {part}", t_end)
