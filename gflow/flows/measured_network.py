"""What is measured of a network along its flow: see `gflow.measures`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from gflow.errors import InputError
from gflow.flows.base import Observables, split_ensemble
from gflow.flows.jacobian import in_transform
from gflow.flows.network_parameters import NetworkParameters
from gflow.flows.objective.chunks import Criterion
from gflow.flows.objective.criteria import Logistic
from gflow.flows.objective.differentiation import map_over_ensemble, value_and_gradient
from gflow.flows.objective.full_batch import FullBatch
from gflow.flows.objective.held_out import HeldOut
from gflow.flows.objective.network_loss import criterion_value
from gflow.flows.objective.penalty import Regulariser
from gflow.flows.objective.samples import plain_tensor, require_samples
from gflow.flows.sharpness import hessian_product
from gflow.measures import Measure, always, chosen, measures
from gflow.measures.base import KERNEL, measure_states
from gflow.measures.labels import Classes, classes_of


class MeasuredNetwork(NetworkParameters):
    """A flow of a module's parameters with the observables of `gflow.measures`.

    Parameters
    ----------
    module : nn.Module
    criterion : callable
    samples : tuple of two Tensor
        Inputs and targets, the full batch.
    measure : str, callable, mapping, or sequence of these
    is_alone : bool
        Whether this process evaluates all samples.
    """

    observable_dims: ClassVar = {name: kind.dims for name, kind in measures().items() if kind.dims}

    _batch: FullBatch
    _regulariser: Regulariser | None = None
    _held_out: HeldOut | None = None

    def __init__(
        self,
        module: nn.Module,
        criterion: Criterion,
        samples: tuple[Tensor, Tensor],
        *,
        measure: object,
        is_alone: bool,
    ):
        super().__init__(module, criterion)
        require_samples(*samples, self.reference_tensor if is_alone else None)
        self._asked = chosen(measure)
        #: The targets of all samples.
        self.targets = plain_tensor(samples[1]).detach().to(self.reference_tensor.device)

    def _require_measures(self, test: tuple[Tensor, Tensor] | None, chunk: int | None) -> None:
        """Raise InputError where the flow lacks what a measure needs that was asked for."""
        if test is not None:
            self._held_out = HeldOut(self._loss, test, chunk)
        if self._batch.is_shared:
            return  # what a measure needs may take an evaluation, which only rank 0 starts
        for name, measure in self._asked.items():
            if what := measure.lacks(self):
                raise InputError(f"measure {name} needs {what}; give it, or leave {name} out")

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
    def is_regularised(self) -> bool:
        """Whether ``loss`` has weight decay or a penalty beside the criterion."""
        return self._regulariser is not None

    @property
    def has_penalty(self) -> bool:
        """Whether ``loss`` has a penalty beside criterion and weight decay."""
        return self._regulariser is not None and self._regulariser.penalty is not None

    def penalty(self, y: Tensor) -> Tensor:
        """Compute the penalty at states (..., p), without weight decay; 0 where there is none."""
        regulariser = self._regulariser
        if regulariser is None:
            return y.new_zeros(y.shape[:-1])
        found: Tensor = map_over_ensemble(regulariser.penalty_at, y)
        return found

    def criterion_loss(self, y: Tensor) -> Tensor:
        """Compute the criterion on all samples, without weight decay and penalty."""
        return self._without_stray_graph(y, self._batch.sum(criterion_value, y)[0])

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
        return self._batch.sum(value_and_gradient, y)[1]

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

        return self._on_samples(empirical_ntk, y, full=full)

    def kernel_velocity(self, y: Tensor, *, full: bool = False) -> Tensor:
        """Compute dH/dt of the kernel along the flow's velocity at one state, (p,).

        Parameters
        ----------
        y : Tensor, shape (p,)
            One state.
        full : bool
            All pairs of outputs, (nk, nk), instead of the mean over outputs, (n, n).

        Returns
        -------
        Tensor, shape (n, n) or (nk, nk)
        """
        from gflow.kernels.velocity import empirical_ntk_velocity

        self._require_kernel()
        velocity = self.parameters_dict(self(0.0, y.detach()))
        along = functools.partial(empirical_ntk_velocity, velocity=velocity)
        return self._on_samples(along, y, full=full)

    @property
    def has_kernel(self) -> bool:
        """Whether the tangent kernel can be computed."""
        return not (self._batch.is_shared or self._loss.route.overwrites)

    @property
    def has_products(self) -> bool:
        """Whether second derivatives are those of automatic differentiation."""
        return self._loss.route.has_products

    def _on_samples(self, kernel: Callable[..., Tensor], y: Tensor, *, full: bool) -> Tensor:
        """Compute a kernel on all samples, as a matrix."""
        self._require_kernel()
        with self._loss.settings():
            inputs, _ = self._batch.samples
            found = kernel(self.module, inputs, full=full, params=self.parameters_dict(y.detach()))
        return found.flatten(2).flatten(0, 1) if full else found

    def _require_kernel(self) -> None:
        if not self.has_kernel:
            raise InputError(f"the kernel needs {KERNEL}; leave it out")

    def end_to_end(self, y: Tensor) -> Tensor:
        """Compute the network's outputs on its inputs, the argument of the criterion."""
        outputs = self._batch.outputs(y)
        return outputs if self._batch.is_shared else self._without_stray_graph(y, outputs)

    @staticmethod
    def _without_stray_graph(y: Tensor, result: Tensor) -> Tensor:
        """Detach a result from tensors other than y, such as inputs that require gradients."""
        is_stray = result.requires_grad and not y.requires_grad and not in_transform()
        return result.detach() if is_stray else result
