import pytest
import torch

from gflow.flows import EndToEndFlow, FactorFlow, LayerwiseFlow, ProductFlow
from gflow.losses import SquaredDistance
from gflow.trajectory import Certificate
from tests.helpers import make_loss, of_rank, randn

TS = torch.tensor([0.0, 1.0])


def diag(*values):
    return torch.diag(torch.tensor(values, dtype=torch.float64))


def test_a_determinant_that_changes_its_sign_is_seen():
    flow = EndToEndFlow(make_loss("distance", 3, 3), 3)
    same, changed = diag(1.0, 0.5, 0.1), diag(1.0, 0.5, -0.1)
    ys = torch.stack([same, same]), torch.stack([same, changed])
    assert [flow.discrete_changes(TS, y)["determinant_sign"] for y in ys] == [0, 1]
    layers = LayerwiseFlow(make_loss("distance", 3, 3), [3, 3, 3])
    start = layers.balanced_start(same)
    W_1, W_2 = layers.unpack(start)
    other = layers.pack([diag(1.0, 1.0, -1.0) @ W_1, W_2])
    assert layers.discrete_changes(TS, torch.stack([start, other]))["determinant_sign"] == 1
    assert (
        FactorFlow(make_loss("distance", 3, 3)).discrete_changes(TS, ys[1])["determinant_sign"] == 1
    )


def test_a_rank_that_grows_is_measured():
    W, more = of_rank(2, 4, 4), of_rank(2, 4, 4) + 0.01 * randn(4, 4)
    flow = EndToEndFlow(make_loss("distance", 4, 4), 2)
    change = flow.discrete_changes(TS, torch.stack([W, more]))["rank"]
    sigma = torch.linalg.svdvals(more)
    assert float(change) == pytest.approx(float(sigma[2] / sigma[0]), rel=1e-12)
    assert float(flow.discrete_changes(TS, torch.stack([W, W]))["rank"]) <= 1e-14
    product = ProductFlow(make_loss("distance", 4, 4))
    change = product.discrete_changes(TS, torch.stack([W @ W.mT, more @ more.mT]))["rank"]
    assert float(change) == pytest.approx(float((sigma[2] / sigma[0]) ** 2), rel=1e-9)


def test_lost_modes_count_where_they_may_grow():
    W = torch.stack([diag(1.0, 1e-3), diag(1.0, 1e-20)])
    for target, lost in ((diag(1.0, 1.0), 1), (diag(1.0, -1.0), 0)):
        flow = EndToEndFlow(SquaredDistance(target), 2)
        ts = torch.tensor([0.0, 100.0])
        assert flow.discrete_changes(ts, W)["resolved_rank"] == lost
        assert flow.discrete_changes(1e-3 * ts, W)["resolved_rank"] == 0


def test_nothing_discrete_is_conserved_by_one_layer_or_from_an_unbalanced_start():
    loss = make_loss("distance", 2, 3)
    assert EndToEndFlow(loss, 1).discrete_changes(TS, randn(2, 2, 3)) == {}
    assert LayerwiseFlow(loss, [3, 2]).discrete_changes(TS, randn(2, 6)) == {}
    changes = LayerwiseFlow(loss, [3, 3, 2]).discrete_changes(TS, randn(2, 15))
    assert all(float(change) == 0 for change in changes.values())


def test_members_of_an_ensemble_are_measured_one_by_one():
    flow = EndToEndFlow(make_loss("distance", 2, 2), 2)
    starts = torch.stack([diag(1.0, 0.5), diag(1.0, -0.5), diag(1.0, 0.0)])
    ends = torch.stack([diag(1.0, -0.5), diag(1.0, -0.2), diag(1.0, 0.2)])
    changes = flow.discrete_changes(TS, torch.stack([starts, ends]))
    assert changes["determinant_sign"].tolist() == [1, 0, 0]
    assert changes["rank"].tolist() == pytest.approx([0, 0, 0.2])


def test_a_change_is_a_failure_of_the_certificate():
    bounds = dict.fromkeys(
        ("energy_residual", "loss_increase", "velocity_error", "discrete_changes"), 1e-3
    ) | {"invariant_drift": 1e-3}
    changes = {"rank": 0.0, "determinant_sign": 1.0}
    certificate = Certificate(0.0, 0.0, {}, 0.0, None, bounds, discrete_changes=changes)
    assert certificate.failures() == ["determinant_sign changed, 1"]
    assert not certificate.holds
