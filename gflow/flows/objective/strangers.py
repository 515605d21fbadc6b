"""Trainable tensors on which a loss depends and which are not parameters of its module."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from torch import Tensor

from gflow.flows.objective.chunks import Chunk


def strangers(loss: Tensor, own: Sequence[Tensor], chunk: Chunk) -> list[Tensor]:
    """Return the trainable tensors on which a loss depends beside the module's parameters.

    Parameters
    ----------
    loss : Tensor
        With its graph.
    own : sequence of Tensor
        The module's parameters.
    chunk : Chunk
        The samples.

    Returns
    -------
    list of Tensor

    Examples
    --------
    >>> import torch
    >>> x, w = torch.ones(1), torch.ones(1, requires_grad=True)
    >>> strangers((w * x).sum(), [], Chunk(x, x, 1.0))
    [tensor([1.], requires_grad=True)]
    """
    found: list[Tensor] = []
    known = {id(p) for p in own}
    ends = {id(x.grad_fn) for x in (chunk.inputs, chunk.targets) if x.grad_fn is not None}
    known |= {id(chunk.inputs), id(chunk.targets)}
    nodes, seen = [loss.grad_fn], set[int]()
    while nodes:
        node = nodes.pop()
        if node is None or id(node) in seen or id(node) in ends:
            continue
        seen.add(id(node))
        leaf = getattr(node, "variable", None)
        if leaf is not None and id(leaf) not in known:
            found.append(leaf)
        nodes += [following for following, _ in node.next_functions]
    return found


def warn_of_strangers(found: Sequence[Tensor], again: Sequence[Tensor]) -> None:
    """Warn of a trainable tensor that two evaluations share: one made inside is new each time.

    Parameters
    ----------
    found, again : sequence of Tensor
        The strangers of two evaluations.

    Examples
    --------
    >>> import torch
    >>> warn_of_strangers([torch.ones(1)], [torch.ones(1)])
    """
    shared = {id(x) for x in found} & {id(x) for x in again}
    for leaf in found:
        if id(leaf) in shared:
            warnings.warn(
                f"the loss depends on a trainable tensor of shape {tuple(leaf.shape)} that is not "
                "a parameter of the module, and the flow keeps it fixed; register it "
                "(nn.ModuleList, nn.ParameterList), or set requires_grad=False",
                stacklevel=6,
            )
            return
