"""A loss whose sharpness grows, with its gradient flow, central flow and edge in closed form.

L(S, y) = ½‖S − C‖² + ½yᵀSy: at y = 0 the Hessian is diag(1, …, 1, S) and Ṡ = C − S, so that an
eigenvalue of S that starts in C's basis is λ = c + (λ_0 − c)e^{−t}. At the edge 2/η it stays, with
the variance 2(c − 2/η) along its eigenvector.
"""

import math

import torch
from torch import Tensor, nn

from gflow.flows import NetworkFlow

STEP = 0.02  # 2/η = 100
EDGE = 2 / STEP
#: an orthogonal basis in general position
BASIS = torch.linalg.qr(torch.tensor([[2.0, 1.0], [-1.0, 3.0]], dtype=torch.float64))[0]


class Valley(nn.Module):
    def __init__(self, start: Tensor, goal: Tensor, y: float):
        super().__init__()
        self.S = nn.Parameter(start.clone())
        self.y = nn.Parameter(y * BASIS[:, 0].clone())
        self.register_buffer("C", goal)

    def forward(self, inputs: Tensor) -> Tensor:
        return 0.5 * (self.S - self.C).square().sum() + 0.5 * self.y @ self.S @ self.y


def matrix(first: float, second: float) -> Tensor:
    """Return a symmetric matrix with these eigenvalues, in the basis of the start."""
    return (BASIS * torch.tensor([first, second], dtype=torch.float64)) @ BASIS.mT


def valley(start=(80.0, 70.0), goal=(150.0, 90.0), y: float = 0.0) -> tuple[NetworkFlow, Tensor]:
    """Return the flow of (S, y) in one vector of 6, and its start."""
    module = Valley(matrix(*start), matrix(*goal), y)
    nothing = torch.zeros(1, 1, dtype=torch.float64)
    flow = NetworkFlow(module, lambda outputs, targets: outputs, nothing, nothing)
    return flow, flow.pack()


def eigenvalues(y: Tensor) -> Tensor:
    """Return the eigenvalues of S along the basis, of shape (..., 2)."""
    S = y[..., :4].reshape(*y.shape[:-1], 2, 2)
    return torch.einsum("ik,...ij,jk->...k", BASIS, S, BASIS)


def central_eigenvalue(t: float, start: float, goal: float, rate: float) -> float:
    """Return the eigenvalue of the central flow: λ̇ = min(c − λ, rate·(2/η − λ))."""
    if goal <= EDGE:
        return goal + (start - goal) * math.exp(-t)
    switch = (rate * EDGE - goal) / (rate - 1)
    when = math.log((goal - start) / (goal - switch))
    if t <= when:
        return goal + (start - goal) * math.exp(-t)
    return EDGE - (EDGE - switch) * math.exp(-rate * (t - when))
