"""The contract of a measure, and the state of a network that it measures."""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Mapping
from typing import ClassVar, Protocol, TypeVar

import torch
from torch import Tensor

from gflow.errors import InputError
from gflow.measures.labels import Classes

_T = TypeVar("_T")

#: What a flow may lack.
CLASSES = "targets that are classes: whole numbers, one-hot rows, or ±1"
HELD_OUT = "held-out data: NetworkFlow(…, test=(inputs, targets))"
REGULARISED = "weight decay or a penalty, without which it is loss"
PENALTY = "a penalty: NetworkFlow(…, penalty=function)"
MATRICES = "a weight of two dimensions"
KERNEL = (
    "all samples in one process, and a module whose parameters torch.func.functional_call can "
    "replace"
)
PRODUCTS = "a module and a criterion that can be differentiated twice"


class Network(Protocol):
    """What measures need of the flow of a network; states are vectors (p,)."""

    @property
    def classes(self) -> Classes | None:
        """How outputs say which class a sample is in; None of a regression."""

    @property
    def start(self) -> Tensor:
        """The module's parameters where the flow was made."""

    @property
    def targets(self) -> Tensor:
        """The targets of all samples."""

    @property
    def test_targets(self) -> Tensor | None:
        """The targets of held-out data, if there are any."""

    @property
    def is_regularised(self) -> bool:
        """Whether the loss has weight decay or a penalty beside the criterion."""

    @property
    def has_penalty(self) -> bool:
        """Whether the loss has a penalty beside criterion and weight decay."""

    @property
    def has_kernel(self) -> bool:
        """Whether the tangent kernel can be computed."""

    @property
    def has_products(self) -> bool:
        """Whether second derivatives are those of automatic differentiation."""

    def parameters_dict(self, y: Tensor) -> dict[str, Tensor]:
        """Return the named parameters of a state."""

    def end_to_end(self, y: Tensor) -> Tensor:
        """Compute the outputs on all samples."""

    def test_outputs(self, y: Tensor) -> Tensor:
        """Compute the outputs on held-out data."""

    def criterion_loss(self, y: Tensor) -> Tensor:
        """Compute the criterion on all samples, without weight decay and penalty."""

    def penalty(self, y: Tensor) -> Tensor:
        """Compute the penalty."""

    def test_loss(self, y: Tensor) -> Tensor:
        """Compute the criterion on held-out data."""

    def gradient(self, y: Tensor) -> Tensor:
        """Compute ∇L."""

    def hessian(self, y: Tensor) -> Callable[[Tensor], Tensor]:
        """Return v ↦ ∇²L·v, in the metric of time scales."""

    def kernel(self, y: Tensor, *, full: bool = False) -> Tensor:
        """Compute the empirical tangent kernel on all samples."""

    def kernel_velocity(self, y: Tensor, *, full: bool = False) -> Tensor:
        """Compute the velocity of the kernel along the flow."""


class Snapshot:
    """One state of a network, with what several measures of it share.

    Parameters
    ----------
    flow : Network
    y : Tensor, shape (p,)
    warm : dict of str to Tensor
        Where iterations at the next state of a path may start from; measures change it.
    """

    def __init__(self, flow: Network, y: Tensor, warm: dict[str, Tensor] | None = None):
        self.flow, self.y = flow, y
        self.warm = {} if warm is None else warm
        self._kernels: dict[bool, Tensor] = {}

    @property
    def classes(self) -> Classes:
        """How outputs say which class a sample is in."""
        return _present(self.flow.classes, CLASSES)

    @property
    def test_targets(self) -> Tensor:
        """The targets of held-out data."""
        return _present(self.flow.test_targets, HELD_OUT)

    @functools.cached_property
    def outputs(self) -> Tensor:
        """The outputs on all samples."""
        return self.flow.end_to_end(self.y)

    @functools.cached_property
    def test_outputs(self) -> Tensor:
        """The outputs on held-out data."""
        return self.flow.test_outputs(self.y)

    @functools.cached_property
    def gradient(self) -> Tensor:
        """∇L, (p,)."""
        return self.flow.gradient(self.y)

    def kernel(self, full: bool = False) -> Tensor:
        """Return the tangent kernel, (n, n), or (nk, nk) with ``full``."""
        if full not in self._kernels:
            self._kernels[full] = self.flow.kernel(self.y, full=full)
        return self._kernels[full]


def _present(value: _T | None, what: str) -> _T:
    if value is None:
        raise InputError(f"this measure needs {what}")
    return value


_HAS: Mapping[str, Callable[[Network], bool]] = {
    CLASSES: lambda flow: flow.classes is not None,
    HELD_OUT: lambda flow: flow.test_targets is not None,
    REGULARISED: lambda flow: flow.is_regularised,
    PENALTY: lambda flow: flow.has_penalty,
    KERNEL: lambda flow: flow.has_kernel,
    PRODUCTS: lambda flow: flow.has_products,
    MATRICES: lambda flow: any(p.ndim > 1 for p in flow.parameters_dict(flow.start).values()),
}


class Measure(abc.ABC):
    """A number, or several, of a network at one state.

    Parameters
    ----------
    argument : str, optional
        What follows the name, as in ``"hessian_eigenvalues:10"``.

    Attributes
    ----------
    name, long_name : str
        The name of the observable, and what it is in words.
    price : str
        What one state costs.
    dims : tuple of str
        Names of the dimensions of the result.
    always : bool
        Whether every network is measured so.
    needs : tuple of str
        What a flow must have: `CLASSES`, `HELD_OUT`, ….

    Raises
    ------
    InputError
        If the argument is out of range, or the measure takes none.
    """

    name: ClassVar[str]
    long_name: ClassVar[str]
    price: ClassVar[str]
    dims: ClassVar[tuple[str, ...]] = ()
    always: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ()

    def __init__(self, argument: str | None = None):
        if argument is not None:
            raise InputError(
                f"measure {self.name} takes nothing behind its name, got {argument!r}; leave it out"
            )

    def lacks(self, flow: Network) -> str:
        """Return what a flow lacks to be measured so; empty where it lacks nothing."""
        return next((need for need in self.needs if not _HAS[need](flow)), "")

    @abc.abstractmethod
    def __call__(self, state: Snapshot) -> Tensor:
        """Measure one state; every state gives the same shape."""


class UserMeasure(Measure):
    """A user's own function of one state.

    Parameters
    ----------
    name : str
    function : callable
        ``function(flow, y)`` of one state (p,) → tensor, or a number.
    """

    def __init__(self, name: str, function: Callable[[Network, Tensor], Tensor | float]):
        self._name, self._function = name, function

    @property
    def name(self) -> str:  # type: ignore[override]
        """The name that the user gave."""
        return self._name

    def __call__(self, state: Snapshot) -> Tensor:
        value = self._function(state.flow, state.y)
        return torch.as_tensor(value, dtype=state.y.dtype, device=state.y.device)


def measure_states(
    flow: Network, measures: Mapping[str, Measure], states: Tensor
) -> dict[str, Tensor]:
    """Measure states one after another.

    Parameters
    ----------
    flow : Network
    measures : mapping of str to Measure
    states : Tensor, shape (m, p)

    Returns
    -------
    dict of str to Tensor, shape (m, ...)

    Examples
    --------
    >>> import gflow
    >>> from gflow.measures import chosen
    >>> flow, start = gflow.NetworkFlow.example()
    >>> measure_states(flow, chosen("layer_norms"), start[None])["layer_norms"].shape
    torch.Size([1, 4])
    """
    rows: dict[str, list[Tensor]] = {name: [] for name in measures}
    warm: dict[str, Tensor] = {}
    with torch.no_grad():
        for y in states:
            snapshot = Snapshot(flow, y, warm)
            for name, measure in measures.items():
                rows[name].append(measure(snapshot))
    return {name: _stacked(name, values) for name, values in rows.items()}


def _stacked(name: str, values: list[Tensor]) -> Tensor:
    shapes = sorted({tuple(value.shape) for value in values})
    if len(shapes) > 1:
        raise InputError(
            f"measure {name} must return the same shape for every state, got {shapes[0]} and "
            f"{shapes[1]}; fill up with NaN"
        )
    return torch.stack(values)
