"""How fast the parameters move, and how far they have come."""

from __future__ import annotations

from torch import Tensor

from gflow.measures.base import Measure, Snapshot


class GradientNorm(Measure):
    """‖∇L‖, the Euclidean norm."""

    name = "gradient_norm"
    long_name = "gradient norm ‖∇L‖"
    price = "a gradient"
    always = True

    def __call__(self, state: Snapshot) -> Tensor:
        return state.gradient.norm()


class Distance(Measure):
    """‖θ − θ₀‖, where θ₀ are the module's parameters where the flow was made."""

    name = "distance"
    long_name = "distance of the parameters from the start"
    price = "nothing"
    always = True

    def __call__(self, state: Snapshot) -> Tensor:
        return (state.y - state.flow.start).norm()
