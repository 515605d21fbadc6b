"""What a solve of many members leaves behind: states, energies, failures, events."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gflow.solvers.base import Problem, Stop
from gflow.solvers.dense import hermite
from gflow.solvers.elementwise import Rows, Values, rows_of, some
from gflow.solvers.members import Members


class Record:
    """States at the requested times, and each member's end; NaN where it did not get."""

    def __init__(self, problem: Problem):
        self._problem = problem
        self._ts = np.array([*problem.ts, np.nan])  # nothing lands after the last
        count = problem.batch.numel()
        y = problem.y0.reshape(count, -1)
        self.saved = y.new_full((len(problem.ts), *y.shape), torch.nan)
        self.saved[0] = y
        self.last = y.clone()  # each member's last good state
        self.dissipated = np.zeros(count)
        self.t = np.full(count, problem.ts[0])
        self.reached = np.ones(count, np.int64)
        self.rise = np.zeros(count)
        self.failures: dict[int, str] = {}
        self.event_times: dict[int, float] = {}

    def land(self, members: Members, rows: Rows) -> None:
        """Save the states of rows that ended a step on a requested time."""
        landed = members.t[rows] == self._ts[members.next[rows]]
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
        m, ts, t = members, self._problem.ts, np.atleast_1d(t)
        for i, row in enumerate(np.atleast_1d(rows).tolist()):
            first = 1 if np.isnan(m.older_t[row]) else 0
            times = [m.older_t[row], m.t[row], t[i]][first:]
            values = [m.older_y[row], m.y[row], y[i]][first:]
            slopes = [m.older_f[row], m.f[row], f[i]][first:]
            while m.next[row] < len(ts) and ts[m.next[row]] < t[i]:
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
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of `tensors`."""
        for name in ("saved", "last"):
            getattr(self, name).copy_(tensors[name])
        self.t[:], self.reached[:] = tensors["record_t"].numpy(), tensors["reached"].numpy()
        self.rise[:], self.dissipated[:] = tensors["rise"].numpy(), tensors["dissipated"].numpy()
