"""How often the rank is looked at: seldom where it hardly changes, soon enough where it does."""

import pytest
import torch

import gflow
from gflow.flows import FactorFlow, LayerwiseFlow
from gflow.flows.lost_modes import Outside
from gflow.flows.rank_guards import FactorGuard, LayerGuard
from gflow.losses import SquaredDistance
from tests.helpers import make_loss, of_rank


def test_the_guard_sees_few_states_of_a_path_without_small_modes(monkeypatch):
    flow = LayerwiseFlow(make_loss("completion", 3, 3), [3, 3, 3])
    y0 = flow.balanced_start(of_rank(3, 3, 3))
    seen, check = [], LayerGuard.check
    monkeypatch.setattr(LayerGuard, "check", lambda self, y: (seen.append(y), check(self, y))[1])
    path = gflow.integrate(flow, y0, [0.0, 5.0], "tsit5", 1e-9, 1e-12)
    assert 1 <= len(seen) <= 2 + path.stats.accepted / 5
    monkeypatch.setattr(LayerGuard, "check", lambda self, y: None)
    assert torch.equal(gflow.integrate(flow, y0, [0.0, 5.0], "tsit5", 1e-9, 1e-12).ys, path.ys)


def test_an_ensemble_and_a_solve_with_checkpoints_are_not_interrupted():
    flow = LayerwiseFlow(make_loss("distance", 3, 3), [3, 3, 3])
    y0 = flow.balanced_start(of_rank(3, 3, 3))
    for start, options in ((torch.stack([y0, y0]), {}), (y0, {"checkpoint": lambda state: None})):
        path = gflow.integrate(flow, start, [0.0, 1.0], **options)
        assert path.certificate.holds, path.certificate
        assert set(path.certificate.discrete_changes) == {
            "rank",
            "determinant_sign",
            "resolved_rank",
        }


@pytest.fixture
def margins(monkeypatch):
    """The margins of every look at a factor."""
    seen, check = [], FactorGuard.check

    def look(guard, y):
        found = check(guard, y)
        seen.append(guard.margin)
        return found

    monkeypatch.setattr(FactorGuard, "check", look)
    return seen


def diagonal_path(target, columns, end):
    flow = FactorFlow(SquaredDistance(torch.diag(torch.tensor(target, dtype=torch.float64))))
    y0 = torch.diag(torch.tensor(columns, dtype=torch.float64))
    return flow, gflow.integrate(flow, y0, [0.0, end], "bdf", 1e-4, 1e-7)


def test_a_mode_that_stands_still_near_the_margin_is_seldom_looked_at(margins):
    # The second column ends at 2e-6 of the first; below 1e-6 it would be left out.
    _, path = diagonal_path([1.0, 4e-12], [0.1, 2e-6], 200.0)
    assert 0.5 < margins[-1] < 0.8
    assert len(margins) < path.stats.accepted / 4
    assert path.certificate.holds, path.certificate


@pytest.mark.parametrize("third", [1e-5, 1e-3])
def test_a_mode_that_decays_is_left_out_soon(margins, third):
    # λ̇ = 4λ(a − λ) for W = diag(λ): the second column decays as e^{−2t} and faster.
    flow, path = diagonal_path([1.0, -1.0, 0.5], [0.1, 0.1, third], 30.0)
    least = next(i for i, margin in enumerate(margins) if margin == 0.0)
    assert margins[least - 1] < 6.0  # a look or two before: it falls by that in two units of time
    assert "; 2 columns from t = " in path.stats.reason
    grown = (third**2 / (0.5 - third**2)) * torch.exp(torch.tensor(4 * 0.5 * 30.0).double())
    W = flow.end_to_end(path.ys[-1]).diagonal()
    right = torch.tensor([1.0, 0.0, 0.5 * grown / (1 + grown)], dtype=torch.float64)
    torch.testing.assert_close(W, right, rtol=1e-3, atol=1e-8)
    assert path.certificate.holds, path.certificate


@pytest.mark.parametrize("method", ["bdf", "tsit5"])
def test_modes_that_were_left_out_are_followed_to_the_end(monkeypatch, method):
    # Long steps and rest end a path between two looks: a mode may grow meanwhile.
    followed, add = [], Outside.add
    monkeypatch.setattr(Outside, "add", lambda self, t, W: (followed.append(t), add(self, t, W))[1])
    flow = FactorFlow(SquaredDistance(torch.diag(torch.tensor([1.0, -1.0], dtype=torch.float64))))
    y0 = 0.1 * torch.eye(2, dtype=torch.float64)
    for end in (20.0, 37.0, 500.0, 1e6):
        followed.clear()
        path = gflow.integrate(flow, y0, [0.0, end], method, 1e-4, 1e-7)
        assert "1 columns from t" in path.stats.reason
        assert followed == sorted(followed)
        assert followed[-1] == end
