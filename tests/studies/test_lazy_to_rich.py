"""Two linear layers by balance: kernels against their matrices, and the closed form."""

import pytest
import torch

import gflow
from gflow.errors import InputError
from gflow.losses import SquaredDistance
from gflow.studies.lazy_to_rich import kernel_measures, lazy_to_rich
from tests.helpers import randn, relative
from tests.settings.scenarios import make


def test_kernels_are_those_of_the_jacobian():
    M = randn(3, 2)
    flow = gflow.LayerwiseFlow(SquaredDistance(M), [2, 4, 3])
    ys = randn(5, 20, seed=1)
    J = torch.stack([torch.autograd.functional.jacobian(flow.end_to_end, y) for y in ys])
    J = J.flatten(1, 2)
    K, v = J @ J.mT, M.flatten()
    size = torch.linalg.matrix_norm(K)
    found = kernel_measures(flow, ys, ys[0], M)
    assert relative(found.distances, torch.linalg.matrix_norm(K - K[0]) / size[0]) <= 1e-12
    assert relative(found.start_alignments, (K * K[0]).sum((1, 2)) / (size * size[0])) <= 1e-12
    assert relative(found.target_alignments, (K @ v) @ v / (size * v.square().sum())) <= 1e-12
    assert relative(found.losses, flow.loss(ys)) == 0


def test_large_balances_are_lazy_and_paths_are_the_closed_form():
    M = torch.diag(torch.tensor([2.0, 1.0, 0.5], dtype=torch.float64))
    W0 = 0.01 * torch.eye(3, dtype=torch.float64) + 1e-3 * randn(3, 3)
    found = lazy_to_rich(M, W0, [10.0, 0.0, -10.0], t_end=30.0, points=9)
    assert found.balances == (-10.0, 0.0, 10.0)
    lazy, rich, other = (float(m.distances[-1]) for m in found.measured)
    assert lazy < 0.1 < 1 < rich
    # K = W₂W₂ᵀ ⊗ I + I ⊗ W₁ᵀW₁ depends on λ² alone.
    assert other == pytest.approx(lazy, rel=1e-6)
    assert 0 < float(found.errors.max()) < 1e-6
    assert all(float(m.losses[-1]) < 1e-6 for m in found.measured)
    assert {path.stats.method for path in found.paths} == {"tsit5"}
    # At the end the closed form and the steps measure the same.
    for path, theory in zip(found.measured, found.theory, strict=True):
        assert relative(path.distances[-1], theory.distances[-1]) <= 1e-6
    assert "3 balances from -10 to 10" in repr(found)


def test_what_cannot_be_followed_is_refused():
    eye = torch.eye(2, dtype=torch.float64)
    with pytest.raises(InputError, match="balances must differ"):
        lazy_to_rich(eye, eye, [1.0, 1.0])
    with pytest.raises(InputError, match=r"must be square, got \(2, 3\)"):
        lazy_to_rich(randn(2, 3), randn(2, 3), [1.0])
    with pytest.raises(InputError, match="balance 0 must have a closed form"):
        lazy_to_rich(eye, torch.diag(torch.tensor([1.0, -1.0])).double(), [0.0])
    with pytest.raises(InputError, match="t_end must be"):
        lazy_to_rich(eye, eye, [0.0], t_end=-1.0)


@pytest.mark.parametrize("seed", range(4))
def test_the_start_of_the_scenario_does_not_stay_at_a_saddle(seed):
    setup = make("lazy-to-rich", size=2, modes=[2.0, 1.0], seed=seed).setup()
    assert setup.flow.closed_form(setup.y0) is not None


def test_more_modes_than_rows_are_refused():
    with pytest.raises(InputError, match="size 2 has at most 2 modes, got 3"):
        make("lazy-to-rich", size=2, modes=[3.0, 2.0, 1.0]).setup()
