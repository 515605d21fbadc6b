"""The results of a solve, by member: states, energies, failures, events."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gflow.linalg.arrays import on_device
from gflow.solvers.elementwise import Rows, any_true, select_rows
from gflow.solvers.loop.members import Members
from gflow.solvers.problem import Problem, Stop


class Record:
    """States at the requested times, and each member's end; NaN at times it did not reach."""

    def __init__(self, problem: Problem, methods: int = 1):
        self._problem = problem
        count = problem.batch.numel()
        #: Each member's requested times, (members, times + 1); nothing lands on a NaN.
        self.ts = _padded(problem.member_ts or [problem.ts], count)
        self.ends = np.broadcast_to([ts[-1] for ts in problem.member_ts or [problem.ts]], count)
        y = problem.y0.reshape(count, -1)
        self.saved = y.new_full((self.ts.shape[1] - 1, *y.shape), torch.nan)
        self.saved[0] = y
        #: Each member's last accepted state, of one member the tensor itself.
        self.last = y if count == 1 else y.clone()
        self.before = self.last if count == 1 else y.clone()  #: the one before
        self.dissipated = np.zeros(count)
        self.t = np.full(count, problem.ts[0])  #: of the last accepted state
        self.reached = np.ones(count, np.int64)  #: number of requested times reached
        self.rise = np.zeros(count)  #: the largest rise of the loss in a step
        self.gain = np.zeros(count)  #: log of the largest growth of a perturbation
        self.round_off = np.zeros(count)  #: relative error at rest, by round-off of the velocity
        self.rest = np.full(count, np.inf)  #: the time from which a member is at rest
        #: Evaluations, accepted steps and rejected steps of each member.
        self.spent = np.zeros((3, count), np.int64)
        #: Accepted steps of each member by method, (methods, members).
        self.steps = np.zeros((methods, count), np.int64)
        self.failures: dict[int, str] = {}
        self.event_times: dict[int, float] = {}

    def save_landed(self, members: Members, rows: Rows) -> None:
        """Save the states of those rows whose step ended on a requested time."""
        landed = members.t[rows] == self.ts[members.index[rows], members.next[rows]]
        if any_true(landed):
            rows = select_rows(rows, landed)
            device = self.saved.device
            time, index, at = (
                on_device(i, device) for i in (members.next[rows], members.index[rows], rows)
            )
            self.saved[time, index] = members.y[at]
            members.next[rows] += 1

    def save_ends(self, members: Members, mask: np.ndarray) -> None:
        """Save where the members end for which the mask is true."""
        index = members.index[mask]
        device = self.saved.device
        if len(self.last) == 1:
            self.last, self.before = members.y, members.older_y
        else:
            to, at = (on_device(i, device) for i in (index, np.flatnonzero(mask)))
            self.last[to], self.before[to] = members.y[at], members.older_y[at]
        self.dissipated[index] = members.energy[mask]
        self.t[index] = members.t[mask]
        self.reached[index] = members.next[mask]
        self.gain[index] = np.fmax(members.total_gain, members.speed_gain)[mask]
        self.spent[:, index] = [v[mask] for v in (members.evals, members.good, members.bad)]

    def write_results(self) -> None:
        """Write the results to the problem.

        Raises
        ------
        Stop
            If no member reached its end.
        """
        problem, batch = self._problem, self._problem.batch
        last = self.last.reshape(problem.y0.shape)
        problem.y, problem.t = last, float(self.t.min())
        problem.before = self.before.reshape(problem.y0.shape)
        problem.y_norm = problem.flow.tolerance_scale(last)
        problem.dissipated = torch.as_tensor(self.dissipated).to(self.saved).reshape(batch)
        problem.largest_rise = torch.as_tensor(self.rise).to(self.saved).reshape(batch)
        problem.round_off = max(problem.round_off, float(self.round_off.max(initial=0.0)))
        problem.spent, problem.gain, problem.rest = self.spent, self.gain, self.rest
        problem.accepted, problem.rejected = (int(n) for n in self.spent[1:].sum(1))
        reached = int(self.reached.max())
        problem.saved = list(self.saved[:reached].reshape(reached, *problem.y0.shape))
        problem.failures, problem.event_times = self.failures, self.event_times
        if len(self.failures) == len(self.t):
            first = self.failures[int(self.t.argmin())]  # the time is in the error already
            raise Stop(first.removeprefix(f"stopped at t = {self.t.min():.6g}: "))

    def tensors(self) -> dict[str, Tensor]:
        """Return copies of everything except failures and events, as tensors."""
        return {
            "saved": self.saved.clone(),
            "last": self.last.clone(),
            "before": self.before.clone(),
            "dissipated": torch.tensor(self.dissipated),
            "record_t": torch.tensor(self.t),
            "reached": torch.tensor(self.reached),
            "rise": torch.tensor(self.rise),
            "record_gain": torch.tensor(self.gain),
            "rest": torch.tensor(self.rest),
            "record_round_off": torch.tensor(self.round_off),
            "spent": torch.tensor(self.spent),
            "steps": torch.tensor(self.steps),
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Restore the result of `tensors`."""
        self.saved.copy_(tensors["saved"])
        self.last = tensors["last"].to(self.saved, copy=True)
        self.before = tensors["before"].to(self.saved, copy=True)
        self.t[:], self.reached[:] = tensors["record_t"].numpy(), tensors["reached"].numpy()
        self.gain[:] = tensors["record_gain"].numpy()
        self.round_off[:] = tensors["record_round_off"].numpy()
        for name in ("rise", "rest", "dissipated", "spent", "steps"):
            getattr(self, name)[:] = tensors[name].numpy()


def _padded(times: list[list[float]], count: int) -> np.ndarray:
    """Return the times of every member, with NaN after the last; read-only if all are equal."""
    longest = max(map(len, times))
    rows = [[*ts, *[np.nan] * (longest + 1 - len(ts))] for ts in times]
    return np.broadcast_to(rows, (count, longest + 1))
