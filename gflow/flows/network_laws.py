"""Weight decay, penalty and time scales of a network, and the conservation laws that are left."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from torch import Tensor

from gflow.checks import require_not_negative, require_positive
from gflow.flows.base import Observables
from gflow.flows.measured_network import MeasuredNetwork
from gflow.flows.objective.differentiation import gradient_by_torch_func, value_and_gradient
from gflow.flows.objective.groups import Groups, by_parameter
from gflow.flows.objective.penalty import PenaltyFunction, Regulariser
from gflow.laws import Law, law_values, scaled_laws
from gflow.laws.holding import laws_that_hold, unbroken_laws

_MOST_FEATURES = 64  # of a linear layer, whose conserved matrix is measured in full


class NetworkWithLaws(MeasuredNetwork):
    """A flow of a module's parameters with the laws of its layers as invariants.

    Parameters are those of `MeasuredNetwork`.
    """

    #: λ and r of each parameter.
    weight_decay: dict[str, float]
    time_scales: dict[str, float]

    _rates: Tensor | None

    def _set_objective(
        self, weight_decay: Groups, penalty: PenaltyFunction | None, rates: Groups | None
    ) -> None:
        """Set weight decay, penalty and time scales."""
        self.weight_decay = by_parameter(
            "weight_decay", weight_decay, self._start, 0.0, require_not_negative
        )
        self.time_scales = by_parameter("rates", rates, self._start, 1.0, require_positive)
        has_rates = any(r != 1.0 for r in self.time_scales.values())
        self._rates = self._of_parameters(self.time_scales) if has_rates else None
        has_decay = any(self.weight_decay.values())
        if has_decay or penalty is not None:
            decay = self._of_parameters(self.weight_decay) if has_decay else None
            self._regulariser = Regulariser(decay, penalty, self._named)

    @property
    def parameter_rates(self) -> Tensor | None:
        return self._rates

    @functools.cached_property
    def laws(self) -> tuple[Law, ...]:
        """The conservation laws of the module that hold for this loss: see `gflow.laws`."""
        laws = laws_that_hold(self.module, self._start, self._criterion_gradient)
        if self.has_penalty:
            laws = unbroken_laws(laws, self._start, self._penalty_gradient)
        return scaled_laws(laws, self.time_scales, self.weight_decay)

    def _criterion_gradient(self, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the gradient of the criterion alone, by name."""
        theta = self.pack(dict(parameters))
        gradient, regulariser = self._batch.sum(gradient_by_torch_func, theta)[0], self._regulariser
        if regulariser is not None:
            gradient = gradient - value_and_gradient(regulariser, theta)[1]
        return self.parameters_dict(gradient)

    def _penalty_gradient(self, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the gradient of the penalty alone, by name."""
        theta = self.pack(dict(parameters))
        return self.parameters_dict(value_and_gradient(self.penalty, theta)[1])

    def invariant_rates(self) -> Mapping[str, float]:
        return {law.name: law.decay_rate for law in self.laws}

    def invariants(self, y: Tensor) -> Observables:
        return law_values(self.laws, self.parameters_dict(y), most=_MOST_FEATURES)
