"""One solve: the request, the counters and the results; and the reasons of early stops."""

from __future__ import annotations

import functools
import math
import time
import typing
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from gflow.callbacks import Progress
from gflow.errors import GflowError
from gflow.events import Event
from gflow.execution.checkpointing import Checkpoint, Piece
from gflow.flows.base import Coordinates, Flow, RankGuard
from gflow.flows.lost_modes import Outside
from gflow.flows.sharpness import SharpnessPath
from gflow.text import one_line

_VISITED = 32  # states that are kept of a library's path

Number = TypeVar("Number", float, np.ndarray, Tensor)

#: save(checkpoint), called between two steps
Save = Callable[[Checkpoint], None]

# Why a solve stops early.
NOT_FINITE = "the right-hand side returned NaN or infinity"
EXPLODED = "the loss became NaN or infinite; the flow explodes, or its start is too large"
UNDERFLOW = (
    "the step size underflowed: the tolerance cannot be met, because the right-hand "
    "side is discontinuous or grows without bound; loosen rtol or choose another method"
)
RISES = (
    "the loss rises along every step, however short: the right-hand side is not the "
    "gradient flow of its loss, or is too noisy for the tolerance; correct it or loosen rtol"
)
STIFF = "it has become stiff; integrating it outside the ensemble is faster"


def out_of_budget(max_evals: int) -> str:
    """Return the reason of a stop at the limit on evaluations."""
    return (
        f"the budget of {max_evals} evaluations ran out; loosen rtol, shorten the "
        "time or raise max_evals"
    )


def failed(error: Exception) -> str:
    """Return the reason of a stop at an error of the flow, the event or a callback.

    Parameters
    ----------
    error : Exception

    Returns
    -------
    str

    Examples
    --------
    >>> failed(ZeroDivisionError("division by zero"))
    'a function that the solve calls fails: ZeroDivisionError: division by zero; mend it'
    """
    if isinstance(error, GflowError):
        return str(error)
    return f"a function that the solve calls fails: {one_line(error)}; mend it"


def energy_bound(rtol: float, loss: Number, bound: Number) -> Number:
    """Return the largest acceptable error of the energy integral in one step.

    Parameters
    ----------
    rtol : float
    loss : float, ndarray or Tensor
    bound : float, ndarray or Tensor
        The largest acceptable error of the state.

    Returns
    -------
    float, ndarray or Tensor

    Examples
    --------
    >>> energy_bound(3e-3, 1.0, 0.0)
    0.001
    """
    return rtol / 3 * loss + bound * bound


class Stop(Exception):
    """A solve cannot continue; the message is the reason in one line."""


def velocity_of(flow: Flow, t: Tensor | float, y: Tensor) -> Tensor:
    """Return flow(t, y); NaN where a trial state overflowed and a decomposition failed.

    The flow gets the time as a tensor in the precision of the state: ``torch.as_tensor`` of a
    number has 32 bits, whose round-off a tight tolerance would follow in thousands of steps.

    Parameters
    ----------
    flow : Flow
    t : float or Tensor
    y : Tensor
        A state, or states in one leading dimension.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import gflow
    >>> flow, W0 = gflow.EndToEndFlow.example()
    >>> bool(velocity_of(flow, 0.0, W0 * torch.inf).isnan().all())
    True
    """
    try:
        # Twice as fast as torch.tensor, which takes as long as a small flow.
        time = torch.scalar_tensor(t, dtype=y.dtype) if isinstance(t, float) else t
        return flow(time, y)
    except torch.linalg.LinAlgError:
        batch = y.ndim - flow.state_ndim
        if batch == 0 or len(y) == 1:
            return torch.full_like(y, torch.nan)
        # One bad member must not affect the others.
        return torch.stack([velocity_of(flow, t, member) for member in y])


@dataclass(eq=False, repr=False)
class Problem:
    """One solve: the request, and the counters, states and failures that a solver fills in.

    Attributes
    ----------
    flow : Flow
    y0 : Tensor
        The start, or an ensemble of starts in leading dimensions.
    ts : list of float
        Requested times. Solvers count time from the first one, ``origin``: near t = 1e15 a
        difference of 0.1 would be lost. Once constructed, ``ts`` and ``member_ts`` are such times,
        and ``requested`` has the given ones.
    rtol, atol : float
    certified_rtol : float, optional
        The relative tolerance from which the bounds of the certificate follow, if not ``rtol``.
    step_size : float, optional
        Of fixed-step methods.
    max_evals : int
        Limit on the evaluations of the right-hand side.
    max_step : float
        Of methods that take steps.
    member_ts : list of list of float, optional
        Requested times of each member, all from ``ts[0]`` on, if they differ.
    fail_if_stiff : bool
        Whether a member of an ensemble fails where ``auto`` would hand it over as stiff.
    dense : bool
        Whether states at requested times come from dense output.
    event : callable, optional
    sharpness : int
        The number of Hessian eigenvalues to measure at requested times.
    thorough : bool
        Whether this solve checks another one, and looks for modes that grow more often.
    velocity_factors : Tensor, optional
        Of a state's shape: factors of the velocity in gflow's own stepping methods, near 1, for a
        solve that shows what round-off does.
    progress : callable, optional
    resume : Checkpoint, optional
    checkpoint : callable, optional
        Called every ``checkpoint_every`` seconds.
    guard : RankGuard, optional
        Sees accepted states of a single start; where it has coordinates to go on in, gflow's own
        methods stop, and ``renewed`` has them.
    """

    flow: Flow
    y0: Tensor
    ts: list[float]
    _: KW_ONLY
    rtol: float
    atol: float
    certified_rtol: float | None = None
    step_size: float | None = None
    max_evals: int = 1_000_000
    max_step: float = math.inf
    member_ts: list[list[float]] | None = None
    fail_if_stiff: bool = False
    dense: bool = False
    event: Event | None = None
    sharpness: int = 0
    thorough: bool = False
    velocity_factors: Tensor | None = None
    progress: Progress | None = None
    resume: Checkpoint | None = None
    checkpoint: Save | None = None
    checkpoint_every: float = 60.0
    guard: RankGuard | None = None

    rhs_evals: int = field(default=0, init=False)
    accepted: int = field(default=0, init=False)
    rejected: int | None = field(default=0, init=False)
    #: Evaluations, accepted and rejected steps of each member, (3, members).
    spent: np.ndarray | None = field(default=None, init=False)
    #: Log of the growth of a perturbation along the path, of each member; None if not measured.
    gain: np.ndarray | None = field(default=None, init=False)
    #: The last accepted state but one, where the solver keeps it.
    before: Tensor | None = field(default=None, init=False)
    #: The time from which each member is at rest, infinite for one that is not.
    rest: np.ndarray | None = field(default=None, init=False)
    #: Why members of an ensemble stopped early, by their index in y0.reshape(-1, *state).
    failures: dict[int, str] = field(default_factory=dict, init=False)
    #: When an event stopped members, by the same index.
    event_times: dict[int, float] = field(default_factory=dict, init=False)
    #: Where a solve that stopped early can be resumed, given a larger budget.
    last_checkpoint: Checkpoint | None = field(default=None, init=False)
    #: The method that took most steps, of each member, where the solver changes methods.
    main_methods: list[str] = field(default_factory=list, init=False)
    #: What round-off did to the states, relative to the largest, where the solver estimates it.
    round_off: float = field(default=0.0, init=False)
    #: Coordinates in which the solve goes on from its last state, and what it takes along there.
    renewed: Coordinates | None = field(default=None, init=False)
    carried: Checkpoint | None = field(default=None, init=False)
    #: What this solve was given so, if it goes on from another one.
    goes_on_from: Checkpoint | None = field(default=None, init=False)
    #: Modes that were left out before, whose sizes are still followed.
    outside: list[Outside] = field(default_factory=list, init=False)
    #: Whether a mode was lost in round-off that may have grown since.
    lost: bool = field(default=False, init=False)
    #: The problems that this one was solved by, where those are others (coordinates.py).
    segments: list[Problem] = field(default_factory=list, init=False)
    #: The loss that errors of the energy are relative to; by default that of the start.
    loss_scale: Tensor | None = field(default=None, init=False)
    #: A remark that the solver adds to ``stats.reason``.
    remark: str = field(default="", init=False)
    #: This solve as a piece of a run, if the run stores its pieces.
    piece: Piece = field(default_factory=Piece, init=False)
    began: float = field(init=False)
    ended: float | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        flow, y0 = self.flow, self.y0
        #: The time of the start, and the requested times as they were given.
        self.origin, self.requested, self.requested_of_members = self.ts[0], self.ts, self.member_ts
        self.ts = [t - self.origin for t in self.ts]
        if self.member_ts is not None:
            self.member_ts = [[t - self.origin for t in ts] for ts in self.member_ts]
        self.size = y0.numel()
        self.batch = flow.batch_shape(y0)
        self.first_loss = flow.loss(y0)
        self.restart()
        #: The sharpness at those times; times that are missing are measured after the solve.
        self.sharpness_path = SharpnessPath(flow, self.sharpness) if self.sharpness else None
        self._healthy = torch.ones((), dtype=torch.bool, device=y0.device)
        self.began = time.perf_counter()

    @property
    def promised_rtol(self) -> float:
        """The relative tolerance from which the bounds of the certificate follow."""
        return self.rtol if self.certified_rtol is None else self.certified_rtol

    def restart(self) -> None:
        """Return to the start, for another method; evaluations made so far stay counted."""
        y0, loss = self.y0, self.first_loss
        #: The last accepted state, its time and norm, and the energy dissipated until then.
        self.t, self.y, self.y_norm = self.ts[0], y0, self.flow.tolerance_scale(y0)
        self.dissipated: Tensor | None = torch.zeros_like(loss)
        self.largest_rise = torch.zeros_like(loss)
        self.saved = [y0]  #: states at the requested times reached so far
        self.accepted, self.round_off, self._loss = 0, 0.0, loss
        #: Some of the accepted states, with their times, where a library takes the steps.
        self.visited: list[tuple[float, Tensor]] = [(self.t, self.y0)]
        self._stride = 1

    @functools.cached_property
    def closed_form(self) -> str | None:
        """The name of the flow's closed form from this start, computed once (perhaps by an SVD)."""
        return self.flow.closed_form(self.y0)

    @property
    def z0(self) -> Tensor:
        """The start as one vector, with no energy dissipated."""
        energy = torch.zeros(self.batch.numel(), dtype=self.y0.dtype, device=self.y0.device)
        return torch.cat([self.y0.reshape(-1), energy])

    def rhs(self, t: Tensor | float, z: Tensor) -> Tensor:
        """Return dz/dt, count the evaluation, and record on the device whether it is finite.

        Parameters
        ----------
        t : Tensor or float
            The time since the start, in units of step size × steps.
        z : Tensor, shape (size + members,)
            The state as one vector, then the energy that each member has dissipated.

        Returns
        -------
        Tensor
            Of the shape of z.

        Raises
        ------
        Stop
            If the budget of evaluations is used up.
        """
        if self.rhs_evals >= self.max_evals:
            raise Stop(out_of_budget(self.max_evals))
        self.rhs_evals += 1
        y = z[: self.size].view(self.y0.shape)
        velocity = velocity_of(self.flow, self.flow_time(t), y)
        rate = self.flow.dissipation(y, velocity)
        self._healthy = self._healthy & torch.isfinite(rate).all()
        return torch.cat([velocity.reshape(-1), rate.reshape(-1)])

    @typing.overload
    def flow_time(self, t: float) -> float: ...
    @typing.overload
    def flow_time(self, t: Tensor | float) -> Tensor | float: ...
    def flow_time(self, t: Tensor | float) -> Tensor | float:
        """Return the flow's time at a time t since the start."""
        return t if self.origin == 0 else self.origin + t

    @property
    def energy_tolerance(self) -> Tensor:
        """The largest acceptable error of the energy integral in one step, for each member.

        A third of rtol of the loss, and at least the energy of an acceptable error of the state.
        Without this tolerance, the integral of dopri5 at rtol 1e-3 is wrong by 6 % where its states
        are right to 0.2 %; with it, a solve takes up to 10 % more evaluations.
        """
        loss = torch.maximum(self.first_loss.abs(), self._loss.abs())
        return energy_bound(self.rtol, loss, self.atol + self.rtol * self.y_norm)

    @property
    def resolution(self) -> Tensor:
        """The energy (atol + rtol‖y‖)² of the largest acceptable error, for each member."""
        return (self.atol + self.rtol * self.y_norm).square()

    def error_norm(self, e: Tensor) -> Tensor:
        """Return the largest relative error over members, of the state and of the energy integral.

        Of the state it is ‖e‖₂/(atol + rtol‖y‖₂), y the last accepted one.
        """
        size = self.flow.norm(e[: self.size].view(self.y0.shape))
        bound = self.atol + self.rtol * self.y_norm
        energy = e[self.size :].abs().view(self.batch) / self.energy_tolerance
        return torch.maximum(size / bound, energy).max()

    def accept(self, t: float, z: Tensor) -> None:
        """Record an accepted step.

        Parameters
        ----------
        t : float
            The time at its end.
        z : Tensor, shape (size + members,)
            State and dissipated energy there, as in `rhs`.
        """
        y = z[: self.size].view(self.y0.shape).clone()
        self.accept_state(t, y, z[self.size :].reshape(self.batch).clone())

    def accept_state(self, t: float, y: Tensor, dissipated: Tensor | None) -> None:
        """Record an accepted state; for solvers that do not integrate the energy.

        Parameters
        ----------
        t : float
            Its time.
        y : Tensor
            The state, of the shape of the start.
        dissipated : Tensor or None, of the shape of the ensemble
            The energy dissipated up to t, where it is known.
        """
        loss = self.flow.loss(y)
        self.require_finite(loss)
        self.largest_rise = torch.maximum(self.largest_rise, loss - self._loss)
        self.accepted += 1
        self.t, self.y, self._loss, self.dissipated = t, y, loss, dissipated
        self.y_norm = self.flow.tolerance_scale(y)
        self._visit(t, y)
        if len(self.saved) < len(self.ts) and t == self.ts[len(self.saved)]:
            self.saved.append(y)
        if self.progress is not None:
            self.progress(self.flow_time(t), float(loss.mean()))

    def _visit(self, t: float, y: Tensor) -> None:
        """Keep every stride-th accepted state; twice the stride where there are too many."""
        if self.accepted % self._stride == 0:
            self.visited.append((t, y))
            if len(self.visited) > _VISITED:
                self.visited, self._stride = self.visited[::2], 2 * self._stride

    def require_finite(self, value: Tensor) -> None:
        """Raise `Stop` unless all entries are finite."""
        if not bool(torch.isfinite(value).all()):
            raise Stop(EXPLODED)

    def reject(self) -> None:
        """Count a rejected step."""
        self.rejected = (self.rejected or 0) + 1

    def why_stuck(self) -> str:
        """Return the reason why the step size underflowed."""
        return UNDERFLOW if bool(self._healthy) else NOT_FINITE

    @property
    def next_time(self) -> float:
        """The first requested time not yet reached; infinity after the last."""
        return self.ts[len(self.saved)] if len(self.saved) < len(self.ts) else float("inf")

    @property
    def wall_seconds(self) -> float:
        """Seconds that the solve took so far, in this process and before it was resumed."""
        return (time.perf_counter() if self.ended is None else self.ended) - self.began
