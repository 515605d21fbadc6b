"""Vector-Jacobian products by reverse mode, with little around them.

`torch.autograd.grad` checks the directions it is given by torch's symbolic shapes: the first call
imports SymPy, which takes most of a second, and every call takes 30 µs more than its product.
Directions here have the shapes of their outputs by construction.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

try:
    from torch.autograd.graph import _engine_run_backward
except ImportError:  # an internal function: another version of torch may not have it
    _engine_run_backward = None  # type: ignore[assignment]


def pull_back(
    outputs: Sequence[Tensor],
    inputs: Sequence[Tensor],
    along: Sequence[Tensor],
    *,
    create_graph: bool = False,
    retain_graph: bool = False,
) -> tuple[Tensor, ...]:
    """Compute (∂ outputs/∂ inputs)ᵀ·along.

    Parameters
    ----------
    outputs : sequence of Tensor
        Tensors that depend on the inputs.
    inputs : sequence of Tensor
        Tensors that require a gradient.
    along : sequence of Tensor
        A direction for each output, of its shape.
    create_graph : bool
        Whether the result can be differentiated; it retains the graph, too.
    retain_graph : bool
        Whether the outputs can be differentiated again.

    Returns
    -------
    tuple of Tensor
        One for each input, of its shape; zero where no output depends on it.

    Examples
    --------
    >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> pull_back([x * x], [x], [torch.ones(2)])
    (tensor([2., 4.]),)
    """
    retain = create_graph or retain_graph
    arguments = tuple(outputs), tuple(along), retain, create_graph, tuple(inputs), True
    if _engine_run_backward is None:
        slopes = torch.autograd.grad(
            outputs, inputs, along, retain, create_graph, allow_unused=True
        )
    else:
        slopes = _engine_run_backward(*arguments, accumulate_grad=False)
    return tuple(
        torch.zeros_like(x) if slope is None else slope
        for x, slope in zip(inputs, slopes, strict=True)
    )
