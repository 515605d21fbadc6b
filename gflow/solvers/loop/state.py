"""The state of a solve in the stepping loop, which all parts of the loop share."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from gflow.errors import InputError
from gflow.linalg.arrays import to_numpy
from gflow.solvers.base import Method
from gflow.solvers.bdf import BDF
from gflow.solvers.elementwise import Rows, Values
from gflow.solvers.loop.members import Members
from gflow.solvers.loop.past import Past
from gflow.solvers.loop.record import Record
from gflow.solvers.loop.spectral_radius import first_vectors
from gflow.solvers.loop.system import System
from gflow.solvers.problem import Problem


class MethodSet:
    """The methods of a solve, in the order of `switching`, and their limits.

    Parameters
    ----------
    methods : tuple of Method
    rtol : float
    eps : float
        The unit of round-off.
    starter : bool
        Whether the first method only takes the starting steps of the second, a multistep method.
    """

    def __init__(self, methods: tuple[Method, ...], rtol: float, eps: float, *, starter: bool):
        self.methods = methods
        self.starter = starter
        #: The largest stable h·ρ of each, with as many stages as round-off allows.
        self.max_reach = [m.reach(m.max_stages(rtol, eps)) for m in methods]
        self.error_factor = [m.error_factor(rtol) for m in methods]
        self.stabilised = np.array([m.stabilised for m in methods])

    def __getitem__(self, index: int) -> Method:
        return self.methods[index]

    def __len__(self) -> int:
        return len(self.methods)


@dataclass
class LoopState:
    """A solve between two steps.

    ``members``, ``record``, ``past``, ``switches`` and the counters of ``problem`` change from step
    to step and are stored in a checkpoint (snapshot.py). The rest follows from the problem.
    """

    problem: Problem
    methods: MethodSet
    system: System
    record: Record
    members: Members  #: those that are still integrated
    past: Past | None  #: the last states, where a multistep method may need them
    first_loss: np.ndarray  #: |loss| of every member at the start of the whole solve
    all_rows: Rows  #: the rows of all members
    switches: list[str] = field(default_factory=list)  #: changes of method, for `Stats.reason`

    @classmethod
    def initial(cls, problem: Problem, methods: tuple[Method, ...], *, starter: bool) -> LoopState:
        """Return all members at their start, where nothing is evaluated yet.

        Raises
        ------
        InputError
            If a method takes one start and the problem is an ensemble.
        """
        system, multistep = System(problem), any(isinstance(m, BDF) for m in methods)
        if multistep and not system.single:
            raise InputError(
                f"method 'bdf' integrates one start, got an ensemble of {tuple(problem.batch)}; "
                "choose auto, rock4 or rkc2, or integrate one start at a time"
            )
        y = problem.y0.reshape(-1, system.size)
        eps = torch.finfo(y.dtype).eps
        scale = problem.first_loss if problem.loss_scale is None else problem.loss_scale
        return cls(
            problem,
            MethodSet(methods, problem.rtol, eps, starter=starter),
            system,
            Record(problem, len(methods)),
            Members.start(y, first_vectors(y), problem.ts[0]),
            Past() if multistep else None,
            np.abs(to_numpy(scale.reshape(-1))),
            0 if system.single else slice(None),
        )

    def covers(self, rows: Rows) -> bool:
        """Return whether rows are those of all members."""
        return self.system.single or len(rows) == len(self.members)

    def part(self, tensor: Tensor, rows: Rows) -> Tensor:
        """Return some rows of a tensor of the members; the tensor itself if these are all."""
        if len(self.members) == 1 or self.covers(rows):
            return tensor
        return tensor[self.system.indices(rows)]

    def replaced(self, tensor: Tensor, rows: Rows, values: Tensor) -> Tensor:
        """Return a tensor of the members with new values in some rows."""
        if len(self.members) == 1 or self.covers(rows):
            return values
        return tensor.index_copy(0, self.system.indices(rows), values)

    def finished(self) -> Values:
        """Return which members have reached their end or their event."""
        m, rows = self.members, self.all_rows
        finished = m.t[rows] >= self.record.ends[m.index[rows]]
        if self.problem.event is not None:
            finished |= m.event[rows] <= 0
        return finished

    def count_evals(self, rows: Rows, calls: int) -> None:
        """Add evaluations of some members to the counters."""
        self.problem.rhs_evals += calls * (1 if self.system.single else len(rows))
        self.members.evals[rows] += calls
