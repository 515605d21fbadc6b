r"""Gradient flow of any torch network: θ̇ = −∇L(θ), L(θ) = criterion(module_θ(X), Y).

Full batch, all trainable parameters in one vector; gradients and Hessian products by
reverse-mode differentiation, in chunks of the samples where they do not fit at once, or split
across processes. Time unit: t = k·step_size of full-batch descent on the same L. Whether L is
a mean or a sum over samples is the criterion's choice, and it sets the unit: with a mean, one
unit of time is one step of size 1 on the mean loss.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.linalg import vector_norm

from gflow.checks import require_count, require_float, require_not_negative, require_positive
from gflow.checks.modules import (
    require_criterion,
    require_deterministic,
    trainable_parameters,
    uncompiled,
)
from gflow.errors import InputError
from gflow.flows.arguments import require_team
from gflow.flows.base import Observables, ParameterFlow, split_ensemble
from gflow.flows.jacobian import in_transform
from gflow.flows.objective.chunks import Chunk, Criterion, in_chunks
from gflow.flows.objective.construction import choose_route
from gflow.flows.objective.criteria import Logistic, named_criterion
from gflow.flows.objective.differentiation import (
    Objective,
    gradient_and_product,
    gradient_by_torch_func,
    hessian,
    map_over_ensemble,
    value,
    value_and_gradient,
)
from gflow.flows.objective.groups import Groups, by_parameter
from gflow.flows.objective.held_out import HeldOut
from gflow.flows.objective.network_loss import NetworkLoss, reference_gradient
from gflow.flows.objective.samples import (
    plain_tensor,
    require_gradients,
    require_rows,
    require_samples,
)
from gflow.flows.objective.split_by_rows import SampleSums, Summand
from gflow.flows.sharpness import hessian_product
from gflow.laws import Law, law_values, scaled_laws
from gflow.laws.holding import laws_that_hold
from gflow.measures import Measure, always, chosen, measures
from gflow.measures.base import measure_states
from gflow.measures.labels import Classes, classes_of
from gflow.text import brief

if TYPE_CHECKING:
    from gflow.distributed import Team

_MOST_FEATURES = 64  # of a linear layer, whose conserved matrix is measured in full


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


class NetworkFlow(ParameterFlow):
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
        gradient of plain autograd; an evaluation changes buffers, parameters or samples;
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
    ``rates`` they are weighted, and under weight decay they decay as e^{−2rλt}.

    Examples
    --------
    >>> import torch, gflow
    >>> module = torch.nn.Linear(1, 1, bias=False).double()
    >>> X = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    >>> flow = gflow.NetworkFlow(module, torch.nn.functional.mse_loss, X, 3 * X)
    >>> flow(0.0, torch.zeros(1, dtype=torch.float64)).tolist()   # −d/dw mean((w − 3)²x²)
    [15.0]
    """

    observable_dims: ClassVar = {name: kind.dims for name, kind in measures().items() if kind.dims}

    def __init__(
        self,
        module: nn.Module,
        criterion: Criterion | str,
        inputs: Tensor,
        targets: Tensor,
        *,
        weight_decay: Groups = 0.0,
        rates: Groups | None = None,
        test: tuple[Tensor, Tensor] | None = None,
        measure: object = (),
        chunk: int | None = None,
        team: Team | None = None,
    ):
        require_team(team)
        module = uncompiled(module)
        criterion = cast(Criterion, named_criterion(criterion, targets))
        require_gradients(next(module.parameters(), torch.empty(0)).device)
        self._start = {k: p.clone() for k, p in trainable_parameters(module).items()}
        require_criterion(criterion, module)
        self._sizes = [p.numel() for p in self._start.values()]
        #: λ and r of each parameter.
        self.weight_decay = by_parameter(
            "weight_decay", weight_decay, self._start, 0.0, require_not_negative
        )
        self.time_scales = by_parameter("rates", rates, self._start, 1.0, require_positive)
        has_rates = any(r != 1.0 for r in self.time_scales.values())
        self._rates = self._of_parameters(self.time_scales) if has_rates else None
        has_decay = any(self.weight_decay.values())
        self._decay = self._of_parameters(self.weight_decay) if has_decay else None
        self._shared = None
        self._loss = NetworkLoss(module, criterion, self._start)
        alone = team is None or team.size == 1
        require_samples(inputs, targets, self.reference_tensor if alone else None)
        inputs, targets = plain_tensor(inputs), plain_tensor(targets)
        self._test, self._chunk, self._asked = test, chunk, chosen(measure)
        #: The targets of all samples.
        self.targets = targets.detach().to(self.reference_tensor.device)
        if team is None or team.size == 1:
            self._check(inputs, targets, len(inputs) if chunk is None else chunk)
            self._chunks = in_chunks(module, criterion, inputs, targets, chunk)
            self._chunks[0].decay = self._decay
            self._require_measures()
            return
        with team.collective():
            team.require_equal("the module", [*module.parameters(), *module.buffers()])
            team.require_equal("inputs and targets", [inputs, targets])
            scales = [self._of_parameters(x) for x in (self.weight_decay, self.time_scales)]
            team.require_equal("weight decay and rates", scales)
            rows = -(-len(inputs) // team.size)
            self._check(inputs, targets, rows if chunk is None else min(rows, chunk))
            self._chunks = in_chunks(module, criterion, inputs, targets, chunk, team)
        if team.rank == 0:  # the sum over processes has it once
            self._chunks[0].decay = self._decay
        self._shared = SampleSums(
            team, self._local_sum, self._local_outputs, len(inputs), self.reference_tensor
        )
        self._require_measures()

    def _require_measures(self) -> None:
        """Raise InputError where the flow lacks what a measure needs that was asked for."""
        self._held_out = None
        if self._test is not None:
            self._held_out = HeldOut(self._loss, self._test, self._chunk)
        if self._shared is not None:
            return  # what a measure needs may take an evaluation, which only rank 0 starts
        for name, measure in self._asked.items():
            if what := measure.lacks(self):
                raise InputError(f"measure {name} needs {what}; give it, or leave {name} out")

    def _check(self, inputs: Tensor, targets: Tensor, size: int) -> None:
        """Check the module on the first samples, as many as are evaluated at a time."""
        require_count("chunk", size)
        if size < len(inputs):
            require_rows(inputs, targets)
            device = self.reference_tensor.device
            inputs, targets = inputs[:size].to(device), targets[:size].to(device)
        choose_route(self._loss, Chunk(inputs, targets, 1.0))

    def _of_parameters(self, numbers: Mapping[str, float]) -> Tensor:
        """Return a number for each parameter as a vector (p,)."""
        like = self.reference_tensor
        return torch.cat([like.new_full((p.numel(),), numbers[k]) for k, p in self._start.items()])

    @property
    def state_shape(self) -> tuple[int, ...]:
        return (sum(self._sizes),)

    @property
    def parameter_rates(self) -> Tensor | None:
        return self._rates

    @property
    def reference_tensor(self) -> Tensor:
        return next(iter(self._start.values()))

    def check_state(self, y: Tensor) -> None:
        super().check_state(y)
        require_deterministic(self._loss.module)  # again: it may have been put in training mode
        require_gradients(y.device)
        if y.is_inference():
            raise InputError("a state must not be made in torch.inference_mode; pass its clone()")

    def pack(self, parameters: dict[str, Tensor] | None = None) -> Tensor:
        """Concatenate named parameters (by default the module's at construction) to one state."""
        if parameters is None:
            parameters = self._start
        if not isinstance(parameters, Mapping) or set(parameters) != set(self._start):
            is_mapping = isinstance(parameters, Mapping)
            got = brief(sorted(map(str, parameters))) if is_mapping else type(parameters).__name__
            raise InputError(f"parameters must be {brief(list(self._start))} by name, got {got}")
        flat = []
        for name, start in self._start.items():
            p = parameters[name]
            if p.shape[p.ndim - start.ndim :] != start.shape:
                sizes = ", ".join(["...", *map(str, start.shape)])
                raise InputError(
                    f"parameter {name!r} must have shape ({sizes}), got {tuple(p.shape)}; reshape "
                    "it"
                )
            flat.append(p.flatten(p.ndim - start.ndim) if start.ndim else p[..., None])
        return torch.cat(flat, dim=-1)

    def parameters_dict(self, y: Tensor) -> dict[str, Tensor]:
        """Return the named parameters of a state, as views."""
        y = require_float("a state", y)
        if y.shape[-1:] != self.state_shape:
            raise InputError(
                f"a state of NetworkFlow has shape (..., {self.state_shape[0]}), got "
                f"{tuple(y.shape)}; make it by flow.pack()"
            )
        parts = y.split(self._sizes, dim=-1)
        named = zip(self._start.items(), parts, strict=True)
        return {k: part.reshape((*y.shape[:-1], *p.shape)) for (k, p), part in named}

    def neurons(self, y: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return the rows of the first weight matrix; of the last layer the signs, if it fits."""
        matrices = [p for p in self.parameters_dict(y).values() if p.ndim == y.ndim + 1]
        if not matrices:
            return None
        first, count = matrices[0], matrices[0].shape[-2]
        last = matrices[-1][0] if y.ndim > 1 else matrices[-1]
        fits = len(matrices) == 2 and last.shape == (1, count)
        return first, last[0].sign() if fits else first.new_ones(count)

    @property
    def module(self) -> nn.Module:
        """The network."""
        return self._loss.module

    @property
    def criterion(self) -> Criterion:
        """The criterion, also where it was given by name."""
        return self._loss.criterion

    @property
    def samples(self) -> tuple[Tensor, Tensor]:
        """Inputs and targets of this process, joined where they are in chunks."""
        if len(self._chunks) == 1:
            return self._chunks[0].inputs, self._chunks[0].targets
        pairs = [(chunk.inputs, chunk.targets) for chunk in self._chunks]
        inputs, targets = (torch.cat(parts) for parts in zip(*pairs, strict=True))
        return inputs, targets

    @property
    def is_split(self) -> bool:
        """Whether the loss is a sum over several chunks or processes."""
        return len(self._chunks) > 1 or self._shared is not None

    def _sum(self, function: Summand, *ys: Tensor) -> Sequence[Tensor]:
        """Sum ``function(objective, *ys)`` over all samples."""
        if self._shared is None:
            return self._local_sum(function, *ys)
        return self._shared.sum(function, *ys)

    def _local_sum(self, function: Summand, *ys: Tensor) -> list[Tensor]:
        """Sum over the chunks of this process.

        Several chunks are summed member by member, so that one chunk of one member is in memory
        at a time.
        """
        if len(self._chunks) > 1 and ys[0].ndim > 1:
            flat, batch = zip(*(split_ensemble(y, 1) for y in ys), strict=True)
            rows = [self._local_sum(function, *row) for row in zip(*flat, strict=True)]
            stacked = (torch.stack(column) for column in zip(*rows, strict=True))
            return [x.reshape(*batch[0], *x.shape[1:]) for x in stacked]
        if function is gradient_by_torch_func:
            function = reference_gradient
        total: list[Tensor] = []
        for chunk in self._chunks:
            summand = function(self._loss.objective(chunk), *ys)
            total = [a + b for a, b in zip(total, summand, strict=True)] if total else [*summand]
        return total

    def __call__(self, t: Tensor | float, y: Tensor) -> Tensor:
        return self.loss_and_velocity(y)[1]

    def loss(self, y: Tensor) -> Tensor:
        return self._without_stray_graph(y, self._sum(value, y)[0])

    def loss_and_velocity(self, y: Tensor) -> tuple[Tensor, Tensor]:
        loss, gradient = self._sum(value_and_gradient, y)
        return loss, self._velocity(gradient)

    def _velocity(self, gradient: Tensor) -> Tensor:
        """Return −r·gradient; the same of a product with the Hessian."""
        return -gradient if self._rates is None else -self._rates * gradient

    def jvp(self, y: Tensor, v: Tensor) -> Tensor:
        if not self._loss.route.has_products:
            return self._difference(y, v)
        return self._velocity(self._sum(gradient_and_product, y, v)[1])

    def linearised(self, y: Tensor) -> Callable[[Tensor], Tensor]:
        if self.is_split or y.ndim > 1 or not self._loss.route.has_products:
            return super().linearised(y)  # the graph of all parts would stay in memory
        product = hessian(self._loss.objective(self._chunks[0]), y)
        return lambda v: self._velocity(product(v))

    def velocity_and_acceleration(self, y: Tensor) -> tuple[Tensor, Tensor]:
        if self.is_split or self._rates is not None or not self._loss.route.has_products:
            return super().velocity_and_acceleration(y)  # the product needs the whole velocity
        gradient, product = self._sum(gradient_and_product, y)
        return -gradient, product

    def _difference(self, y: Tensor, v: Tensor) -> Tensor:
        """(∂f/∂y)·v by central differences, of modules without a second derivative."""
        size = vector_norm(v, dim=-1, keepdim=True)
        scale = torch.finfo(y.dtype).eps ** (1 / 3) * (1 + vector_norm(y, dim=-1, keepdim=True))
        step = scale * v / torch.where(size > 0, size, torch.ones_like(size))
        return (self(0.0, y + step) - self(0.0, y - step)) * (size / (2 * scale))

    def reference(self, y: Tensor) -> Tensor:
        # By torch.func, which the flow itself does not use; chunk by chunk as well.
        return self._velocity(self._sum(gradient_by_torch_func, y)[0])

    @functools.cached_property
    def laws(self) -> tuple[Law, ...]:
        """The conservation laws of the module that hold for this loss: see `gflow.laws`."""
        laws = laws_that_hold(self._loss.module, self._start, self._criterion_gradient)
        return scaled_laws(laws, self.time_scales, self.weight_decay)

    def _criterion_gradient(self, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the gradient of the criterion alone, by name."""
        theta = self.pack(dict(parameters))
        gradient, decay = self._sum(gradient_by_torch_func, theta)[0], self._decay
        return self.parameters_dict(gradient if decay is None else gradient - decay * theta)

    def invariant_rates(self) -> Mapping[str, float]:
        return {law.name: law.decay_rate for law in self.laws}

    def invariants(self, y: Tensor) -> Observables:
        return law_values(self.laws, self.parameters_dict(y), most=_MOST_FEATURES)

    # -- what is measured: see `gflow.measures` -----------------------------------------

    def observables(self, y: Tensor) -> Observables:
        states, batch = split_ensemble(y, 1)
        seen = measure_states(self, {**self._always, **self._asked}, states)
        rows = {k: v.reshape((*batch, *v.shape[1:])) for k, v in seen.items()}
        return {"loss": self.loss(y), **rows}

    @property
    def dimension_labels(self) -> Mapping[str, Sequence[str]]:
        weights = [name for name, p in self._start.items() if p.ndim > 1]
        return {"parameter": list(self._start), "weight": weights}

    @functools.cached_property
    def _always(self) -> dict[str, Measure]:
        return always(self)

    @functools.cached_property
    def classes(self) -> Classes | None:
        """How outputs say which class a sample is in; None of a regression."""
        with torch.no_grad():
            outputs = self.end_to_end(self.start)
        binary = isinstance(self.criterion, Logistic)
        return classes_of(outputs, self.targets, binary=binary)

    @property
    def start(self) -> Tensor:
        """The module's parameters where the flow was made, (p,)."""
        return self.pack()

    @property
    def has_weight_decay(self) -> bool:
        """Whether ``loss`` has a weight decay beside the criterion."""
        return self._decay is not None

    def criterion_loss(self, y: Tensor) -> Tensor:
        """Compute the criterion on all samples, without weight decay."""
        decay = self._decay
        loss = self.loss(y)
        return loss if decay is None else loss - 0.5 * (decay * y * y).sum(-1)

    @property
    def test_targets(self) -> Tensor | None:
        """The targets of held-out data; None without any."""
        return None if self._held_out is None else self._held_out.targets

    def test_loss(self, y: Tensor) -> Tensor:
        """Compute the criterion on held-out data."""
        return self._test_data().loss(y)

    def test_outputs(self, y: Tensor) -> Tensor:
        """Compute the outputs on held-out data, (..., n, …)."""
        return self._test_data().outputs(y)

    def _test_data(self) -> HeldOut:
        if self._held_out is None:
            raise InputError("the flow has no held-out data; make it with test=(inputs, targets)")
        return self._held_out

    def gradient(self, y: Tensor) -> Tensor:
        """Compute ∇L(θ), without time scales."""
        return self._sum(value_and_gradient, y)[1]

    def hessian(self, y: Tensor) -> Callable[[Tensor], Tensor]:
        """Return v ↦ ∇²L(θ)·v, with time scales r^{1/2}∇²L(θ)r^{1/2}·v."""
        return hessian_product(self, y)

    def kernel(self, y: Tensor, *, full: bool = False) -> Tensor:
        """Compute the empirical tangent kernel on all samples at one state: see `empirical_ntk`.

        Parameters
        ----------
        y : Tensor, shape (p,)
            One state.
        full : bool
            All pairs of outputs, (nk, nk), instead of the mean over outputs, (n, n).

        Returns
        -------
        Tensor, shape (n, n) or (nk, nk)
            Without time scales.
        """
        from gflow.kernels.empirical import empirical_ntk

        if self._shared is not None or self._loss.route.overwrites:
            raise InputError(
                "the kernel needs all samples in one process, and a module whose parameters "
                "torch.func.functional_call can replace; leave it out"
            )
        with self._loss.settings():
            inputs, _ = self.samples
            kernel = empirical_ntk(
                self.module, inputs, full=full, params=self.parameters_dict(y.detach())
            )
        return kernel.flatten(2).flatten(0, 1) if full else kernel

    def end_to_end(self, y: Tensor) -> Tensor:
        """Compute the network's outputs on its inputs, the argument of the criterion."""
        if self._shared is not None:
            return self._shared.outputs(y)
        return self._without_stray_graph(y, self._local_outputs(y))

    @staticmethod
    def _without_stray_graph(y: Tensor, result: Tensor) -> Tensor:
        """Detach a result from tensors other than y, such as inputs that require gradients."""
        is_stray = result.requires_grad and not y.requires_grad and not in_transform()
        return result.detach() if is_stray else result

    def _local_outputs(self, y: Tensor) -> Tensor:
        """Compute the outputs on this process's inputs."""
        if len(self._chunks) > 1 and y.ndim > 1:
            flat, batch = split_ensemble(y, 1)
            rows = torch.stack([self._local_outputs(row) for row in flat])
            return rows.reshape(*batch, *rows.shape[1:])
        parts = [
            map_over_ensemble(partial(self._loss.outputs, chunk.inputs), y)
            for chunk in self._chunks
        ]
        outputs: Tensor = parts[0] if len(parts) == 1 else torch.cat(parts)
        return outputs

    @classmethod
    def example(cls) -> tuple[NetworkFlow, Tensor]:
        i = torch.arange(6, dtype=torch.float64)
        module = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).double()
        X = torch.stack([torch.cos(i), torch.sin(2 * i)], dim=-1)
        flow = cls(module, nn.functional.mse_loss, X, torch.sin(i)[:, None])
        size = flow.state_shape[0]
        return flow, torch.cos(torch.arange(size, dtype=torch.float64) * 1.7)
