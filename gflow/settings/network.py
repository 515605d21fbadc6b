"""``network``: the flow of a network's parameters beside descent."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, ClassVar

from gflow.settings.network_base import NetworkScenario

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from gflow.callbacks import Stages
    from gflow.flows import NetworkFlow
    from gflow.results.base import Result, Setup

_EIGENVALUES = 2  # the second too, so that the first is found where the two cross


class Network(NetworkScenario):
    """Flow θ̇ = −∇L(θ) of a network beside descent, with sharpness, gradient and distance."""

    setting: ClassVar[str] = "network"
    papers: ClassVar[tuple[str, ...]] = ("cohen2021gradient",)
    can_be_split: ClassVar[bool] = True

    def setup(self) -> Setup:
        """Make the network's flow, its start, and the measurements along its paths."""
        from gflow.results.base import Setup

        flow, start, labels, facts = self._build()
        return Setup(
            flow,
            start,
            measure=functools.partial(_measure, flow, start, labels),
            measure_descent=functools.partial(_sharpness, flow),
            sharpness=_EIGENVALUES,
            facts=facts,
        )

    def run(self, stages: Stages) -> Result:
        """Run the flow and descent, and measure both."""
        from gflow.settings.flow_and_descent import run_paths

        return run_paths(self, stages)


def _measure(
    flow: NetworkFlow, start: Tensor, labels: Tensor | None, ts: Tensor, ys: Tensor
) -> Mapping[str, tuple[str, Tensor]]:
    """Measure states along the flow or along descent."""
    import torch

    with torch.no_grad():
        gradient = torch.stack([flow(0.0, y).norm() for y in ys])
        measurements = {
            "gradient_norm": ("gradient norm ‖∇L‖", gradient),
            "distance": ("distance of the parameters from the start", flow.norm(ys - start)),
        }
        if labels is not None:
            correct = torch.stack([(flow.end_to_end(y).argmax(1) == labels) for y in ys])
            accuracy = correct.to(ys.dtype).mean(1)
            measurements["accuracy"] = ("share of the samples classified correctly", accuracy)
    return measurements


def _sharpness(flow: NetworkFlow, ts: Tensor, ys: Tensor) -> Mapping[str, tuple[str, Tensor]]:
    """Compute the sharpness along descent, as the solver does along the flow."""
    import torch

    from gflow.flows.sharpness import sharpness_along

    with torch.no_grad():
        top, _ = sharpness_along(flow, ys, _EIGENVALUES)
    return {"sharpness": ("sharpness λ_max of the Hessian", top[:, 0])}
