"""``network``: the flow of a network's parameters beside descent."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, ClassVar

from gflow.settings.measured_base import MeasuredNetworkScenario

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from gflow.callbacks import Stages
    from gflow.flows import NetworkFlow
    from gflow.results.base import Result, Setup

_EIGENVALUES = 2  # the second too, so that the first is found where the two cross


class Network(MeasuredNetworkScenario):
    """Flow θ̇ = −∇L(θ) of a network beside descent, with sharpness, gradient and distance."""

    setting: ClassVar[str] = "network"
    papers: ClassVar[tuple[str, ...]] = ("cohen2021gradient",)
    can_be_split: ClassVar[bool] = True

    def setup(self) -> Setup:
        """Make the network's flow, its start, and the sharpness along its paths."""
        from gflow.results.base import Setup

        flow, start, facts = self._build()
        return Setup(
            flow,
            start,
            measure_descent=functools.partial(_sharpness, flow),
            sharpness=_EIGENVALUES,
            facts=facts,
        )

    def run(self, stages: Stages) -> Result:
        """Run the flow and descent, and measure both."""
        from gflow.settings.flow_and_descent import run_paths

        return run_paths(self, stages)


def _sharpness(flow: NetworkFlow, ts: Tensor, ys: Tensor) -> Mapping[str, tuple[str, Tensor]]:
    """Compute the sharpness along descent, as the solver does along the flow."""
    import torch

    from gflow.flows.sharpness import sharpness_along

    with torch.no_grad():
        top, _ = sharpness_along(flow, ys, _EIGENVALUES)
    return {"sharpness": ("sharpness λ_max of the Hessian", top[:, 0])}
