"""The base of flows that change the right-hand side of another flow of parameters.

States, losses and descent are those of the inner flow; a subclass writes its right-hand side and
whatever else differs.
"""

from __future__ import annotations

import abc
import copy
from collections.abc import Mapping, Sequence

from torch import Tensor

from gflow.errors import InputError
from gflow.flows.arguments import require_flow
from gflow.flows.base import Flow, ParameterFlow


def require_parameter_flow(user: str, flow: Flow) -> None:
    """Raise InputError unless a flow is one of parameters.

    Parameters
    ----------
    user : str
        What takes the flow, for the message.
    flow : Flow
        The flow.

    Raises
    ------
    InputError
        If the states of the flow are not parameters.

    Examples
    --------
    >>> import gflow
    >>> require_parameter_flow("the modified flow", gflow.FactorFlow.example()[0])
    """
    if isinstance(flow, ParameterFlow):
        return
    require_flow(flow, "a flow of parameters first, then the rest")
    mend = "take its flow.parameter_flow, and start from flow.lift(y0)"
    if flow.is_of_parameters:
        mend = "its states are outputs, not parameters"
    raise InputError(f"{user} needs a flow of parameters, got {type(flow).__name__}: {mend}")


class WrappedFlow(ParameterFlow):
    """A flow on the states of another one, which it forwards to for all that it does not change.

    Parameters
    ----------
    flow : ParameterFlow
        The inner flow.

    Attributes
    ----------
    flow : ParameterFlow
        The inner flow.
    title : str
        What error messages call the subclass.

    Raises
    ------
    InputError
        If the inner flow is not one of parameters.
    """

    title: str

    def __init__(self, flow: Flow):
        require_parameter_flow(self.title, flow)
        self.flow = flow

    @property
    def state_shape(self) -> tuple[int, ...]:
        return self.flow.state_shape

    @property
    def reference_tensor(self) -> Tensor | None:
        return self.flow.reference_tensor

    @property
    def parameter_rates(self) -> Tensor | None:
        return self.flow.parameter_rates if isinstance(self.flow, ParameterFlow) else None

    @property
    def observable_dims(self) -> Mapping[str, tuple[str, ...]]:
        return self.flow.observable_dims

    @property
    def dimension_labels(self) -> Mapping[str, Sequence[str]]:
        return self.flow.dimension_labels

    @property
    def members(self) -> tuple[int, ...]:
        return self.flow.members

    def check_state(self, y: Tensor) -> None:
        self.flow.check_state(y)

    def for_start(self, y0: Tensor) -> Flow:
        flow = self.flow.for_start(y0)
        if flow is self.flow:
            return self
        specialised = copy.copy(self)
        specialised.flow = flow
        return specialised

    def describe(self) -> str:
        return f"of {self.flow!r}"

    def loss(self, y: Tensor) -> Tensor:
        return self.flow.loss(y)

    def end_to_end(self, y: Tensor) -> Tensor:
        return self.flow.end_to_end(y)

    def for_members(self, index: Tensor) -> Flow:
        return self._wrap(self.flow.for_members(index), index)

    @abc.abstractmethod
    def _wrap(self, flow: Flow, index: Tensor) -> Flow:
        """Wrap the inner flow of some members, index (k,) into the starts of the ensemble."""
