"""``network``: the flow of a network's parameters beside descent, on classes or numbers."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, ClassVar

from gflow.settings.network_base import NetworkScenario

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from gflow.callbacks import Stages
    from gflow.flows import NetworkFlow
    from gflow.results.base import Setup
    from gflow.results.paths import Outcome

_VALUES = 2  # eigenvalues followed: the second, for where the two cross


class Network(NetworkScenario):
    """θ̇ = −∇L(θ), L a mean over samples, with sharpness, gradient and distance travelled."""

    setting: ClassVar[str] = "network"
    splits: ClassVar[bool] = True

    def setup(self) -> Setup:
        """The network's flow and start, with what is measured along its paths."""
        from gflow.results.base import Setup

        flow, start, labels, facts = self._build()
        return Setup(
            flow,
            start,
            measure=functools.partial(_measure, flow, start, labels),
            measure_descent=functools.partial(_sharpness, flow),
            sharpness=_VALUES,
            facts=facts,
        )

    def run(self, stages: Stages) -> Outcome:
        """The flow and descent, with what is measured along both."""
        from gflow.settings.flow_and_descent import run_paths

        return run_paths(self, stages)


def _measure(
    flow: NetworkFlow, start: Tensor, labels: Tensor | None, ts: Tensor, ys: Tensor
) -> Mapping[str, tuple[str, Tensor]]:
    """What is measured along the flow and along descent."""
    import torch

    with torch.no_grad():
        gradient = torch.stack([flow(0.0, y).norm() for y in ys])
        found = {
            "gradient_norm": ("gradient norm ‖∇L‖", gradient),
            "distance": ("distance of the parameters from the start", flow.norm(ys - start)),
        }
        if labels is not None:
            right = torch.stack([(flow.end_to_end(y).argmax(1) == labels) for y in ys])
            share = right.to(ys.dtype).mean(1)
            found["accuracy"] = ("share of the samples classified correctly", share)
    return found


def _sharpness(flow: NetworkFlow, ts: Tensor, ys: Tensor) -> Mapping[str, tuple[str, Tensor]]:
    """The sharpness along descent, as the flow's own solve measures the flow's."""
    import torch

    from gflow.flows.sharpness import sharpness_along

    with torch.no_grad():
        top, _ = sharpness_along(flow, ys, _VALUES)
    return {"sharpness": ("sharpness λ_max of the Hessian", top[:, 0])}
