"""A solve that leaves out a mode goes on as before, and does not start anew."""

import numpy as np
import pytest
import torch

import gflow
from gflow.flows import FactorFlow, LayerwiseFlow
from gflow.losses import SquaredDistance
from gflow.solvers.bdf import BDF
from gflow.solvers.explicit import Tsit5
from gflow.solvers.loop import rank_watch, stepping
from gflow.solvers.loop.carried import carry, carry_on
from gflow.solvers.loop.initialization import Initializer
from gflow.solvers.loop.member_removal import MemberRemoval
from gflow.solvers.loop.spectrum_monitor import SpectrumMonitor
from gflow.solvers.loop.state import LoopState
from gflow.solvers.problem import Problem
from tests.helpers import randn, relative, slow_except

# The second mode decays at once, after a hundred units of time the steps are long.
TARGET = torch.diag(torch.tensor([1.0, -0.05, 0.02, 0.7], dtype=torch.float64))


def problem_of(flow, y0, begin=0.0):
    return Problem(flow, y0, [begin, 300.0], rtol=1e-4, atol=1e-7)


def factor():
    return FactorFlow(SquaredDistance(TARGET)), 0.3 * randn(4, 4, seed=3)


def layers():
    flow = LayerwiseFlow(SquaredDistance(TARGET), [4, 4, 4])
    return flow, flow.balanced_start(0.1 * torch.eye(4, dtype=torch.float64))


def started(problem):
    """A loop state at its start, and 12 steps of the loop further."""
    state = LoopState.initial(problem, (Tsit5(), BDF()), starter=True)
    loop = stepping.SteppingLoop(state)
    Initializer(state, SpectrumMonitor(state), MemberRemoval(state)).evaluate()
    return state, loop


def test_all_that_is_known_goes_on():
    flow, y0 = factor()
    with np.errstate(all="ignore"):
        state, loop = started(problem_of(flow, y0))
        for _ in range(40):
            loop._advance()
        m = state.members
        half = torch.linalg.qr(randn(4, 4, seed=5))[0]  # all modes are kept, in another basis
        carried = carry(state, lambda U: U @ half)
        now = float(m.t[0])
        after, _ = started(problem_of(flow, m.y.reshape(4, 4) @ half, now))
        carry_on(after, carried)
    n, size = after.members, y0.numel()
    for name in ("method", "h", "last_step", "error_before", "radius", "growth", "age"):
        before, then = getattr(m, name)[0], getattr(n, name)[0]
        assert before == then or np.isnan(before) & np.isnan(then), name
    assert n.growth_t[0] == m.growth_t[0] - now <= 0
    assert (after.past.order, after.past.steps) == (state.past.order, state.past.steps)
    assert after.past.times == [t - now for t in state.past.times]
    assert after.past.energies[0] == 0.0
    turned = (state.past.stacked().reshape(-1, 4, 4) @ half).reshape(-1, size)
    assert relative(after.past.stacked(), turned) <= 1e-15
    assert relative(n.modes[0, 0].reshape(4, 4), m.modes[0, 0].reshape(4, 4) @ half) <= 1e-14


def test_a_mode_that_is_left_out_is_followed_no_longer():
    flow, y0 = factor()
    with np.errstate(all="ignore"):
        state, _ = started(problem_of(flow, y0))
        state.members.growth[0] = state.members.growth_h[0] = state.members.growth_t[0] = 1.0
        last = torch.zeros(4, 4, dtype=torch.float64)
        last[0, 3] = 1.0  # of the fourth column
        state.members.modes = torch.stack([last.reshape(-1), 0 * last.reshape(-1)])[None]
        carried = carry(state, lambda U: U[..., :3])
        after, _ = started(problem_of(flow, y0[:, :3].contiguous(), 1.0))
        carry_on(after, carried)
    assert after.members.growth[0] == 0
    assert np.isnan(after.members.growth_h[0])  # the next estimate is a first one
    assert torch.isfinite(after.members.modes).all()


@pytest.mark.parametrize("make", [factor, layers])
@pytest.mark.parametrize("method", slow_except(["auto", "bdf", "tsit5"], "auto"))
def test_a_path_that_is_carried_on_is_right_and_takes_fewer_steps(monkeypatch, make, method):
    flow, y0 = make()
    seen = []

    def watched(state, from_states):
        y, new = state.system.states(state.members.y), state.problem.renewed
        seen.append((relative(from_states(y), new.start), relative(new.states(new.start), y)))
        rows = torch.stack([y, 2 * y])
        seen.append((relative(from_states(rows)[1], 2 * new.start), 0.0))
        return carry(state, from_states)

    monkeypatch.setattr(rank_watch, "carry", watched)
    ts = [0.0, 30.0, 300.0]
    path = gflow.integrate(flow, y0, ts, method, 1e-4, 1e-7)
    assert any(word in path.stats.reason for word in ("columns from t", "layers of rank"))
    assert path.certificate.holds, path.certificate
    right = gflow.integrate(flow, y0, ts, "dop853", 1e-10, 1e-13)
    assert relative(*(flow.end_to_end(p.ys[-1]) for p in (path, right))) <= 1e-4
    maps = torch.tensor(seen)
    assert maps[:, 0].max() <= 1e-14  # the state becomes the start
    assert maps[:, 1].max() <= 1e-5  # but for the mode that is left out
    monkeypatch.setattr(rank_watch, "carry", lambda state, from_states: None)
    anew = gflow.integrate(flow, y0, ts, method, 1e-4, 1e-7).stats
    trials = [stats.accepted + stats.rejected for stats in (path.stats, anew)]
    # tsit5 is at its edge of stability in both.
    assert trials[0] <= 1.1 * trials[1] if method == "tsit5" else trials[0] < 0.9 * trials[1]
