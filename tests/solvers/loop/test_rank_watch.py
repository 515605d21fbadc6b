import torch

import gflow
from gflow.flows import LayerwiseFlow
from gflow.flows.rank_guards import LayerGuard
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
