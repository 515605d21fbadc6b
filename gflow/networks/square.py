"""The activation z², of networks whose outputs are quadratic in what a neuron reads."""

from __future__ import annotations

from torch import Tensor, nn


class Square(nn.Module):
    """z ↦ z², for each number: homogeneous of degree 2, so layers around it conserve a law.

    Two-layer networks with it represent sums modulo a number exactly, by cosines (Gromov 2023,
    arXiv:2301.02679, section 3).

    Examples
    --------
    >>> import torch
    >>> Square()(torch.tensor([-3.0, 2.0]))
    tensor([9., 4.])
    """

    def forward(self, z: Tensor) -> Tensor:
        """Return z², of the shape of z."""
        return z**2
