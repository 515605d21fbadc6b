r"""Criteria: half the squared error, and by name those with an exponential tail.

The latter have logarithms, which do not underflow. They are means over samples of a function of
a_i, the negative margin:

===================  ==================  =============================================
``"cross-entropy"``  log(1 + e^{a_i})    a_i = log Σ_{j≠y_i} e^{z_ij} − z_{i y_i}, classes y_i
``"logistic"``       log(1 + e^{a_i})    a_i = −(2y_i − 1) z_i, labels y_i of 0 and 1
``"exponential"``    e^{a_i}             the same a_i
===================  ==================  =============================================

log φ = log Σ_i e^{l_i} − log n with l_i the logarithm of each summand, l_i = a_i − e^{a_i}/2 + …
where a_i is very negative: neither log φ nor its derivatives are lost where φ is below 1e-308, and
φ itself keeps its digits down to there.
"""

from __future__ import annotations

import abc
import math

import torch
from torch import Tensor

from gflow.errors import InputError
from gflow.text import brief, nearest

_TAIL = -30.0  # below: log log(1 + e^a) = a − e^a/2 to round-off


def _log_of_softplus(a: Tensor) -> Tensor:
    """Compute log log(1 + e^a)."""
    near = torch.logaddexp(a.clamp_min(_TAIL), torch.zeros_like(a)).log()
    tail = a - 0.5 * a.clamp_max(_TAIL).exp()
    return torch.where(a < _TAIL, tail, near)


class HalfSquaredError:
    """½‖u − y‖² summed over outputs and averaged over samples, with its slope.

    The slope is what autograd computes, to the bit, without a graph.

    Examples
    --------
    >>> criterion, u = HalfSquaredError(), torch.tensor([[1.0, 2.0], [0.0, 0.0]])
    >>> criterion(u, torch.zeros(2, 2)), criterion.slope(u, torch.zeros(2, 2)).tolist()
    (tensor(1.2500), [[0.5, 1.0], [0.0, 0.0]])
    """

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return 0.5 * (outputs - targets).square().sum(1).mean()

    def slope(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Compute the gradient by the outputs, (n, k)."""
        return (outputs - targets) * (1 / len(outputs))


class TailCriterion(abc.ABC):
    """A criterion with an exponential tail: ``criterion(outputs, targets)`` → scalar."""

    name: str

    @abc.abstractmethod
    def negative_margins(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Compute a_i, shape (..., n)."""

    def margins(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Compute how far each sample is on its side, shape (..., n)."""
        return -self.negative_margins(outputs, targets)

    def log_summands(self, a: Tensor) -> Tensor:
        """Compute the logarithm of each sample's summand."""
        return _log_of_softplus(a)

    def smoothed_margin(self, log_loss: Tensor, samples: int) -> Tensor:
        """Compute the margin of one sample that alone would have the sum of all losses."""
        total = log_loss + math.log(samples)
        x = total.clamp_min(_TAIL).exp()
        log_of_expm1 = x + torch.log(-torch.expm1(-x))  # no overflow where the sum is large
        return -torch.where(total < _TAIL, total, log_of_expm1)

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        a = self.negative_margins(outputs, targets)
        return torch.logaddexp(a, torch.zeros_like(a)).mean()

    def log(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Compute the logarithm of the criterion."""
        summands = self.log_summands(self.negative_margins(outputs, targets))
        return torch.logsumexp(summands, -1) - math.log(summands.shape[-1])


class CrossEntropy(TailCriterion):
    """``"cross-entropy"``: outputs (n, k) and classes (n,)."""

    name = "cross-entropy"

    def _split(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return z_{i y_i}, and the outputs of the other classes with −∞ in its place."""
        if outputs.ndim < 2 or outputs.shape[-1] < 2 or outputs.shape[-2] != len(targets):
            raise InputError(
                "cross-entropy needs outputs of shape (n, k), k ≥ 2, and classes of shape (n,), "
                f"got {tuple(outputs.shape)} and {tuple(targets.shape)}; "
                'for one output use "logistic"'
            )
        if targets.is_floating_point() or targets.ndim != 1:
            raise InputError(
                "cross-entropy needs classes as whole numbers of shape (n,), got "
                f"{targets.dtype} of shape {tuple(targets.shape)}; use y.long()"
            )
        own = targets[:, None] == torch.arange(outputs.shape[-1], device=outputs.device)
        return (outputs * own).sum(-1), outputs.masked_fill(own, -math.inf)

    def negative_margins(self, outputs: Tensor, targets: Tensor) -> Tensor:
        own, others = self._split(outputs, targets)
        return torch.logsumexp(others, -1) - own

    def margins(self, outputs: Tensor, targets: Tensor) -> Tensor:
        own, others = self._split(outputs, targets)
        return own - others.amax(-1)


class Logistic(TailCriterion):
    """``"logistic"``: outputs (n,) or (n, 1) and labels 0 and 1."""

    name = "logistic"

    def negative_margins(self, outputs: Tensor, targets: Tensor) -> Tensor:
        n = len(targets)
        z = outputs.squeeze(-1) if outputs.shape[-2:] == (n, 1) and n > 1 else outputs
        z = outputs.reshape(*outputs.shape[:-2], 1) if outputs.shape[-2:] == (1, 1) else z
        y = targets.reshape(-1) if targets.shape in ((n,), (n, 1)) else targets
        if y.shape != z.shape[-1:]:
            raise InputError(
                f"{self.name} needs outputs of shape (n,) or (n, 1) and labels 0 and 1 of shape "
                f"(n,), got {tuple(outputs.shape)} and {tuple(targets.shape)}; "
                'for several outputs use "cross-entropy"'
            )
        return (1 - 2 * y.to(z.dtype)) * z


class Exponential(Logistic):
    """``"exponential"``: outputs (n,) or (n, 1) and labels 0 and 1."""

    name = "exponential"

    def log_summands(self, a: Tensor) -> Tensor:
        return a

    def smoothed_margin(self, log_loss: Tensor, samples: int) -> Tensor:
        return -(log_loss + math.log(samples))

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.negative_margins(outputs, targets).exp().mean()


_CRITERIA = {kind.name: kind() for kind in (CrossEntropy, Logistic, Exponential)}


def named_criterion(criterion: object, targets: object) -> object:
    """Return the criterion of a name; anything else as it is.

    Parameters
    ----------
    criterion : object
        What was passed as a criterion.
    targets : object
        What was passed as targets: labels of 0 and 1 are checked.

    Returns
    -------
    object

    Raises
    ------
    InputError
        If there is no such name, or labels are others than 0 and 1.

    Examples
    --------
    >>> named_criterion("logistic", None)(torch.zeros(2), torch.tensor([0, 1])).item()
    0.6931471824645996
    """
    if not isinstance(criterion, str):
        return criterion
    if criterion not in _CRITERIA:
        close = nearest(criterion, list(_CRITERIA))
        hint = f"; did you mean {close}?" if close else "; or give a function"
        raise InputError(
            f"criterion must be one of {', '.join(_CRITERIA)}, or a function of outputs and "
            f"targets, got {brief(criterion)}{hint}"
        )
    is_binary = isinstance(_CRITERIA[criterion], Logistic)
    if (
        is_binary
        and isinstance(targets, Tensor)
        and not bool(((targets == 0) | (targets == 1)).all())
    ):
        raise InputError(
            f"{criterion} needs labels 0 and 1, got {brief(targets.unique().tolist())}; from ±1 "
            "take (y + 1) / 2"
        )
    return _CRITERIA[criterion]
