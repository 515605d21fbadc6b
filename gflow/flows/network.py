r"""Gradient flow of any torch network: θ̇ = −∇L(θ), L(θ) = criterion(module_θ(X), Y).

Full batch, all trainable parameters in one vector; gradients and Hessian products by
reverse-mode differentiation, in chunks of the samples where they do not fit at once, or split
across processes. Time unit: t = k·step_size of full-batch descent on the same L. Whether L is
a mean or a sum over samples is the criterion's choice, and it sets the unit: with a mean, one
unit of time is one step of size 1 on the mean loss.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.linalg import vector_norm

from gflow.checks.modules import uncompiled
from gflow.flows.arguments import require_team
from gflow.flows.network_laws import NetworkWithLaws
from gflow.flows.objective.chunks import Criterion
from gflow.flows.objective.criteria import named_criterion
from gflow.flows.objective.differentiation import (
    Objective,
    gradient_and_product,
    gradient_by_torch_func,
    value,
    value_and_gradient,
)
from gflow.flows.objective.full_batch import full_batch
from gflow.flows.objective.gauss_newton import GaussNewton, gauss_newton_steps
from gflow.flows.objective.groups import Groups
from gflow.flows.objective.penalty import PenaltyFunction
from gflow.flows.objective.samples import plain_tensor

if TYPE_CHECKING:
    from gflow.distributed import Team


def gradient_rhs(objective: Objective, theta: Tensor) -> Tensor:
    """Compute θ̇ = −∇L(θ) of a scalar objective.

    Parameters
    ----------
    objective : callable
        L, one vector (p,) → scalar.
    theta : Tensor, shape (..., p)
        One vector or an ensemble.

    Returns
    -------
    Tensor, shape (..., p)
        The velocity θ̇.

    Examples
    --------
    >>> import torch
    >>> gradient_rhs(lambda x: x @ x, torch.tensor([3.0, 4.0]))
    tensor([-6., -8.])
    """
    return -value_and_gradient(objective, theta)[1]


class NetworkFlow(NetworkWithLaws):
    """Gradient flow of the trainable parameters of a ``torch.nn.Module``.

    Parameters
    ----------
    module : nn.Module
        Called as ``module(inputs)``; it is neither changed nor copied. Buffers and
        parameters with ``requires_grad=False`` stay as they are; tied ones count once.
    criterion : callable or str
        ``criterion(outputs, targets)`` → scalar tensor; or ``"cross-entropy"`` (outputs (n, k),
        classes (n,)), ``"logistic"`` or ``"exponential"`` (outputs (n,) or (n, 1), labels 0 and
        1), means over samples that keep their digits down to 1e-308: see `NormalisedFlow`.
    inputs, targets : Tensor
        The full batch.
    weight_decay : float or mapping of str to float
        λ ≥ 0 of ½λ‖θ‖², which is added to the loss: one number, or numbers by the name of a
        parameter (``"0.weight"``) or of a module (``"0"``), or by a pattern (``"*.weight"``); the
        last that fits counts, and others have none.
    penalty : callable, optional
        ``penalty(parameters)`` → scalar tensor, added to the loss: a function of the parameters by
        name, by operations of torch that `torch.func.vmap` knows for ensembles at once.
    rates : float or mapping of str to float, optional
        Time scales r > 0 of the parameters, in the same way, 1 by default: θ̇ = −r∇L(θ), and
        descent is θ_{k+1} = θ_k − ηr∇L(θ_k).
    test : tuple of two Tensor, optional
        Held-out inputs and targets, of which only observables are measured.
    measure : str, callable, mapping, or sequence of these
        What `observables` measures beside the cheap quantities: names of `gflow.measures`, such as
        ``"kernel_distance"`` or ``"hessian_eigenvalues:10"``, and functions ``f(flow, y)`` of one
        state.
    chunk : int, optional
        Number of samples evaluated at a time: memory is bounded by one chunk of one member, at
        the same results to round-off. Costs one forward pass of all samples at construction,
        which determines whether the criterion is a mean or a sum over samples.
    team : Team, optional
        Split the samples across these processes, each of which builds the flow with all of
        them and stores its own rows, on the device of its module: see `gflow.distributed`.

    Raises
    ------
    InputError
        If module and criterion cannot be evaluated on the samples; the loss is not a function
        of the parameters alone (random numbers, running statistics in training mode) with the
        gradient of plain autograd; an evaluation changes buffers, parameters or samples; the
        penalty is no differentiable scalar function of the parameters alone;
        ``chunk`` or ``team`` is given where the loss is no mean or sum over samples; or module
        or data differ between the processes.

    Notes
    -----
    The state is θ, (..., p), in the order of ``module.named_parameters()``;
    ``flow.pack()`` reads it off the module, ``flow.parameters_dict(theta)`` gives it back.
    Results can be differentiated by the caller, as the certificate of a `ModifiedFlow` does;
    then the graph of all chunks stays in memory.

    Construction takes about six gradients and six losses of the first chunk. They choose between
    two ways of evaluation: with θ in the place of the parameters, in module and criterion; or,
    where that misses one (a weight in a list, checkpointing), with θ written into the parameters,
    which are restored afterwards: do not use the module elsewhere at the same time. Attention
    runs by its math form, which can be differentiated twice; where a module cannot, Hessian
    products are differences of gradients, to about 1e-10.

    ``flow.laws`` are the conservation laws of the module's layers (`gflow.laws`), which the
    certificate measures along the path; of linear layers wider than 64, the diagonals. With
    ``rates`` they are weighted, and under weight decay they decay as e^{−2rλt}. Those that a
    penalty breaks are left out: whether it does is measured at the parameters, and at six points of
    0.01 to 100 times their size.

    Examples
    --------
    >>> import torch, gflow
    >>> module = torch.nn.Linear(1, 1, bias=False).double()
    >>> X = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    >>> flow = gflow.NetworkFlow(module, torch.nn.functional.mse_loss, X, 3 * X)
    >>> flow(0.0, torch.zeros(1, dtype=torch.float64)).tolist()   # −d/dw mean((w − 3)²x²)
    [15.0]
    """

    def __init__(
        self,
        module: nn.Module,
        criterion: Criterion | str,
        inputs: Tensor,
        targets: Tensor,
        *,
        weight_decay: Groups = 0.0,
        penalty: PenaltyFunction | None = None,
        rates: Groups | None = None,
        test: tuple[Tensor, Tensor] | None = None,
        measure: object = (),
        chunk: int | None = None,
        team: Team | None = None,
    ):
        require_team(team)
        team = None if team is None or team.size == 1 else team
        module = uncompiled(module)
        criterion = cast(Criterion, named_criterion(criterion, targets))
        samples = inputs, targets
        super().__init__(module, criterion, samples, measure=measure, is_alone=team is None)
        self._set_objective(weight_decay, penalty, rates)
        samples = plain_tensor(inputs), plain_tensor(targets)
        if team is None:
            self._batch = full_batch(self._loss, samples, self._regulariser, chunk)
        else:
            with team.collective():
                self._require_equal(team, samples)
                self._batch = full_batch(self._loss, samples, self._regulariser, chunk, team)
                if self.has_penalty:
                    team.require_equal("the penalty", [self.penalty(self.start)])
        self._require_measures(test, chunk)

    def _require_equal(self, team: Team, samples: tuple[Tensor, Tensor]) -> None:
        """Raise InputError where processes were given different things."""
        team.require_equal("the module", [*self.module.parameters(), *self.module.buffers()])
        team.require_equal("inputs and targets", [*samples])
        scales = [self._of_parameters(x) for x in (self.weight_decay, self.time_scales)]
        team.require_equal("weight decay and rates", scales)

    @property
    def samples(self) -> tuple[Tensor, Tensor]:
        """Inputs and targets of this process, joined where they are in chunks."""
        return self._batch.samples

    @property
    def is_split(self) -> bool:
        """Whether the loss is a sum over several chunks or processes."""
        return self._batch.is_split

    def __call__(self, t: Tensor | float, y: Tensor) -> Tensor:
        return self.loss_and_velocity(y)[1]

    def loss(self, y: Tensor) -> Tensor:
        return self._without_stray_graph(y, self._batch.sum(value, y)[0])

    def loss_and_velocity(self, y: Tensor) -> tuple[Tensor, Tensor]:
        loss, gradient = self._batch.sum(value_and_gradient, y)
        return loss, self._velocity(gradient)

    def _velocity(self, gradient: Tensor) -> Tensor:
        """Return −r·gradient; the same of a product with the Hessian."""
        return -gradient if self._rates is None else -self._rates * gradient

    def jvp(self, y: Tensor, v: Tensor) -> Tensor:
        if not self._loss.route.has_products:
            return self._difference(y, v)
        return self._velocity(self._batch.sum(gradient_and_product, y, v)[1])

    def linearised(self, y: Tensor) -> Callable[[Tensor], Tensor]:
        if self.is_split or y.ndim > 1 or not self._loss.route.has_products:
            return super().linearised(y)  # the graph of all parts would stay in memory
        product = self._batch.hessian(y)
        return lambda v: self._velocity(product(v))

    def velocity_and_acceleration(self, y: Tensor) -> tuple[Tensor, Tensor]:
        if self.is_split or self._rates is not None or not self._loss.route.has_products:
            return super().velocity_and_acceleration(y)  # the product needs the whole velocity
        gradient, product = self._batch.sum(gradient_and_product, y)
        return -gradient, product

    def _difference(self, y: Tensor, v: Tensor) -> Tensor:
        """(∂f/∂y)·v by central differences, of modules without a second derivative."""
        size = vector_norm(v, dim=-1, keepdim=True)
        scale = torch.finfo(y.dtype).eps ** (1 / 3) * (1 + vector_norm(y, dim=-1, keepdim=True))
        step = scale * v / torch.where(size > 0, size, torch.ones_like(size))
        return (self(0.0, y + step) - self(0.0, y - step)) * (size / (2 * scale))

    def gauss_newton(self, y: Tensor) -> GaussNewton | None:
        if self.is_regularised or self._rates is not None or not self.has_kernel:
            return None
        criterion, (_, targets) = self.criterion, self.samples
        kernel = partial(self.kernel, full=True)
        return gauss_newton_steps(self.end_to_end, lambda u: criterion(u, targets), kernel, y)

    def reference(self, y: Tensor) -> Tensor:
        # By torch.func, which the flow itself does not use; chunk by chunk as well.
        return self._velocity(self._batch.sum(gradient_by_torch_func, y)[0])

    @classmethod
    def example(cls) -> tuple[NetworkFlow, Tensor]:
        i = torch.arange(6, dtype=torch.float64)
        module = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).double()
        X = torch.stack([torch.cos(i), torch.sin(2 * i)], dim=-1)
        flow = cls(module, nn.functional.mse_loss, X, torch.sin(i)[:, None])
        size = flow.state_shape[0]
        return flow, torch.cos(torch.arange(size, dtype=torch.float64) * 1.7)
