"""What a solve of many members leaves behind: states, energies, failures, events."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gflow.solvers.elementwise import Rows, Values, rows_of, some
from gflow.solvers.loop.interpolation import hermite
from gflow.solvers.loop.members import Members
from gflow.solvers.problem import Problem, Stop


class Record:
    """States at the requested times, and each member's end; NaN where it did not get."""

    def __init__(self, problem: Problem):
        self._problem = problem
        count = problem.batch.numel()
        #: Each member's requested times, (members, times + 1); nothing lands on a NaN.
        self.ts = _padded(problem.own_ts or [problem.ts], count)
        self.ends = np.broadcast_to([ts[-1] for ts in problem.own_ts or [problem.ts]], count)
        y = problem.y0.reshape(count, -1)
        self.saved = y.new_full((self.ts.shape[1] - 1, *y.shape), torch.nan)
        self.saved[0] = y
        self.last = y.clone()  # each member's last good state
        self.dissipated = np.zeros(count)
        self.t = np.full(count, problem.ts[0])
        self.reached = np.ones(count, np.int64)
        self.rise = np.zeros(count)
        #: What was spent on each member: evaluations, good steps, bad ones.
        self.spent = np.zeros((3, count), np.int64)
        self.failures: dict[int, str] = {}
        self.event_times: dict[int, float] = {}

    def land(self, members: Members, rows: Rows) -> None:
        """Save the states of rows that ended a step on a requested time."""
        landed = members.t[rows] == self.ts[members.index[rows], members.next[rows]]
        if some(landed):
            there = rows_of(rows, landed)
            device = self.saved.device
            which = torch.as_tensor(members.next[there], device=device)
            index = torch.as_tensor(members.index[there], device=device)
            at = torch.as_tensor(there, device=device)
            self.saved[which, index] = members.y[at]
            members.next[there] += 1

    def interpolate(self, members: Members, rows: Rows, t: Values, y: Tensor, f: Tensor) -> None:
        """Save the states between the starts of good steps of rows and their ends (t, y, f),
        by dense output through those and the start of the step before."""
        m, t = members, np.atleast_1d(t)
        for i, row in enumerate(np.atleast_1d(rows).tolist()):
            ts = self.ts[m.index[row]]
            first = 1 if np.isnan(m.older_t[row]) else 0
            times = [m.older_t[row], m.t[row], t[i]][first:]
            values = [m.older_y[row], m.y[row], y[i]][first:]
            slopes = [m.older_f[row], m.f[row], f[i]][first:]
            while ts[m.next[row]] < t[i]:
                which = m.next[row]
                self.saved[which, m.index[row]] = hermite(ts[which], times, values, slopes)
                m.next[row] += 1

    def leave(self, members: Members, gone: np.ndarray) -> None:
        """Keep where members ended."""
        index = members.index[gone]
        device = self.saved.device
        to, at = (torch.as_tensor(i, device=device) for i in (index, np.flatnonzero(gone)))
        self.last[to] = members.y[at]
        self.dissipated[index] = members.energy[gone]
        self.t[index] = members.t[gone]
        self.reached[index] = members.next[gone]
        self.spent[:, index] = [v[gone] for v in (members.evals, members.good, members.bad)]

    def hand_in(self) -> None:
        """Give the problem its results.

        Raises
        ------
        Stop
            If no member got to its end.
        """
        problem, batch = self._problem, self._problem.batch
        last = self.last.reshape(problem.y0.shape)
        problem.y, problem.t = last, float(self.t.min())
        problem.y_norm = problem.flow.norm(last)
        problem.dissipated = torch.as_tensor(self.dissipated).to(self.saved).reshape(batch)
        problem.largest_rise = torch.as_tensor(self.rise).to(self.saved).reshape(batch)
        problem.spent = self.spent
        problem.accepted, problem.rejected = (int(n) for n in self.spent[1:].sum(1))
        reached = int(self.reached.max())
        problem.saved = list(self.saved[:reached].reshape(reached, *problem.y0.shape))
        problem.failures, problem.event_times = self.failures, self.event_times
        if len(self.failures) == len(self.t):
            raise Stop(next(iter(self.failures.values())))

    def tensors(self) -> dict[str, Tensor]:
        """All of it, copied, as tensors."""
        return {
            "saved": self.saved.clone(),
            "last": self.last.clone(),
            "dissipated": torch.tensor(self.dissipated),
            "record_t": torch.tensor(self.t),
            "reached": torch.tensor(self.reached),
            "rise": torch.tensor(self.rise),
            "spent": torch.tensor(self.spent),
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of `tensors`."""
        for name in ("saved", "last"):
            getattr(self, name).copy_(tensors[name])
        self.t[:], self.reached[:] = tensors["record_t"].numpy(), tensors["reached"].numpy()
        for name in ("rise", "dissipated", "spent"):
            getattr(self, name)[:] = tensors[name].numpy()


def _padded(times: list[list[float]], count: int) -> np.ndarray:
    """Times of every member, with NaN after the last; read-only where all have the same."""
    longest = max(map(len, times))
    rows = [[*ts, *[np.nan] * (longest + 1 - len(ts))] for ts in times]
    return np.broadcast_to(rows, (count, longest + 1))
