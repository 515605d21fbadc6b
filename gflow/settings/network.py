"""``network``: the flow of a network's parameters beside descent, on classes or numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from gflow.settings._networks import NetworkScenario

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from gflow.flows import NetworkFlow
    from gflow.results import Outcome, Setup
    from gflow.studies.flow_and_descent import Stages


class Network(NetworkScenario):
    """θ̇ = −∇L(θ), L a mean over samples, with sharpness, gradient and distance travelled."""

    setting: ClassVar[str] = "network"

    def setup(self) -> Setup:
        """The network's flow and start, with what is measured along its paths."""
        from gflow.results import Setup

        flow, start, labels, facts = self.build()
        return Setup(flow, start, measure=_measurements(flow, start, labels), facts=facts)

    def run(self, stages: Stages) -> Outcome:
        """The flow and descent, with what is measured along both."""
        from gflow.settings._paths import run_paths

        return run_paths(self, stages)


def _measurements(
    flow: NetworkFlow, start: Tensor, labels: Tensor | None
) -> Callable[[Tensor, Tensor], Mapping[str, tuple[str, Tensor]]]:
    """What is measured along the flow and along descent."""
    import torch

    from gflow.spectra import sharpness_along

    def measure(ts: Tensor, ys: Tensor) -> Mapping[str, tuple[str, Tensor]]:
        with torch.no_grad():
            gradient = torch.stack([flow(0.0, y).norm() for y in ys])
            top, _ = sharpness_along(flow, ys, 2)  # the second, for where the two cross
            found = {
                "sharpness": ("sharpness λ_max of the Hessian", top[:, 0]),
                "gradient_norm": ("gradient norm ‖∇L‖", gradient),
                "distance": ("distance of the parameters from the start", flow.norm(ys - start)),
            }
            if labels is not None:
                right = torch.stack([(flow.end_to_end(y).argmax(1) == labels) for y in ys])
                share = right.to(ys.dtype).mean(1)
                found["accuracy"] = ("share of the samples classified correctly", share)
        return found

    return measure
