"""When to estimate the spectral radius that sets the stages of a stabilised method."""

from __future__ import annotations

import math

import numpy as np
import torch

from gflow.solvers.elementwise import Values, any_true
from gflow.solvers.loop.control import FAULTS
from gflow.solvers.loop.proposal import StepPlan
from gflow.solvers.loop.spectral_radius import PRODUCTS, with_margin
from gflow.solvers.loop.state import LoopState
from gflow.solvers.loop.switching import HIGH_ORDER
from gflow.solvers.problem import NOT_FINITE

_MAX_AGE = 10  # good steps between two estimates
_MAX_AGE_AMPLE = 50  # the same where a radius larger by this factor would need no more stages:
_AMPLE = 5.0


class SpectrumMonitor:
    """Keeps the spectral radius of every member up to date.

    It uses the sharpness at requested times as an estimate, where that is measured anyway.
    """

    def __init__(self, state: LoopState):
        self._state = state
        problem, flow = state.problem, state.problem.flow
        #: Whether the Hessian's largest eigenvalue is the radius that the methods need.
        self._sharpness_is_radius = (
            problem.sharpness_path is not None
            and flow.is_of_parameters
            and flow.spectral_radius(problem.y0) is None
        )

    def measure_sharpness(self) -> None:
        """Measure the sharpness of a single start at the times just reached, if it is requested.

        Each measurement starts from the eigenvector of the last estimate.
        """
        m, path, shared = (
            self._state.members,
            self._state.problem.sharpness_path,
            self._sharpness_is_radius,
        )
        if path is None:
            return
        for i in range(len(path.values), int(m.next[0])):
            if shared and path.vectors is not None:
                path.vectors = torch.cat([m.vector, path.vectors[1:]])
            top = path.add(self._state.system.states(self._state.record.saved[i]))
            radius = float(top.values[0])
            if shared and math.isfinite(radius):
                m.radius[0], m.vector = with_margin(radius), top.vectors[:1]
                m.age[0] = m.due[0] = 0

    def mark_due(self, plan: StepPlan, rejected: Values) -> None:
        """Mark the members of a step whose estimate is too old for the next one."""
        state, m, rows = self._state, self._state.members, plan.rows
        method = state.methods[plan.method]
        high_order = plan.method == HIGH_ORDER and not state.methods.starter
        if not (method.stabilised or high_order) or state.problem.flow.affine:
            return
        ample = _AMPLE * plan.reach <= method.reach(plan.stages)
        old = m.age[rows] >= (_MAX_AGE_AMPLE if ample else _MAX_AGE)
        m.due[rows] = old | (rejected & (m.age[rows] > 0)) if method.stabilised else old

    def over_budget(self) -> Values | None:
        """Return which members lack the budget for an estimate that is due; None if none is due."""
        state, m = self._state, self._state.members
        if not any_true(m.due[state.all_rows]):
            return None
        return (m.due > 0) & (m.evals + PRODUCTS > state.problem.max_evals)

    def estimate_due(self) -> None:
        """Estimate the radius of the members that are due."""
        m = self._state.members
        # Refresh members that are nearly due as well: estimating a few radii costs about as much
        # as estimating many.
        nearly = self._state.methods.stabilised[m.method] & (m.age >= _MAX_AGE // 2)
        self._estimate(np.flatnonzero((m.due > 0) | nearly))

    def estimate_unless_fresh(self, rows: np.ndarray) -> None:
        """Estimate the radius of those members whose last estimate is not fresh."""
        m = self._state.members
        if not len(rows):
            return
        max_age = _MAX_AGE if self._sharpness_is_radius else 1
        self._estimate(rows[np.isnan(m.radius[rows]) | (m.age[rows] >= max_age)])

    def _estimate(self, rows: np.ndarray) -> None:
        state, m, system = self._state, self._state.members, self._state.system
        known = ~np.isnan(m.radius[rows])
        rows = rows[~known | (m.evals[rows] + PRODUCTS < state.problem.max_evals)]
        if not len(rows):
            return
        system.select(m.index[rows])
        before, t = system.calls, system.scalars(m.t[rows])
        y, f, first = (state.part(x, rows) for x in (m.y, m.f, m.vector))
        radius, vectors = system.radius(t, y, f, first)
        if np.isnan(radius).any():  # estimate again: the fault may have been transient
            radius, vectors = system.radius(t, y, f, first)
        m.radius[rows] = np.where(np.isnan(radius), m.radius[rows], radius)
        m.vector = state.replaced(m.vector, rows, vectors)
        m.age[rows] = m.due[rows] = 0
        state.count_evals(rows, system.calls - before)
        lost = rows[np.isnan(m.radius[rows]) & state.methods.stabilised[m.method[rows]]]
        m.h[lost], m.fault[lost] = 0.0, FAULTS.index(NOT_FINITE)
