"""Dense output: states between the ends of steps.

The polynomial that takes the values and slopes at the ends of the last two steps
(Hermite interpolation by divided differences): of degree 5, its error is O(h⁶), and it
costs no evaluation. After a single step it is of degree 3. The steps of dop853, which are
long for their tolerance, take those of the last three: degree 7, an error of O(h⁸), and that of
half a step where this is not enough (dense_output.py).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def hermite(
    t: float, times: Sequence[float], values: Sequence[Tensor], slopes: Sequence[Tensor]
) -> Tensor:
    """Return the state at t of the Hermite interpolant.

    Parameters
    ----------
    t : float
    times : sequence of float
        Distinct nodes, two or more.
    values, slopes : sequence of Tensor
        y and dy/dt at the nodes.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import torch
    >>> y = lambda t: torch.tensor([t**5], dtype=torch.float64)
    >>> f = lambda t: torch.tensor([5 * t**4], dtype=torch.float64)
    >>> nodes = [0.0, 1.0, 3.0]
    >>> hermite(2.0, nodes, [y(s) for s in nodes], [f(s) for s in nodes]).item()
    32.0
    """
    nodes = [node for node in times for _ in range(2)]
    column = [value for value in values for _ in range(2)]
    coefficients = [column[0]]
    for order in range(1, len(nodes)):
        column = [
            slopes[i // 2]
            if order == 1 and i % 2 == 0
            else (column[i + 1] - column[i]) / (nodes[i + order] - nodes[i])
            for i in range(len(nodes) - order)
        ]
        coefficients.append(column[0])
    result = coefficients[-1]
    for node, coefficient in zip(nodes[-2::-1], coefficients[-2::-1], strict=True):
        result = result * (t - node) + coefficient
    return result
