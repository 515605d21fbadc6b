"""Products with the empirical NTK against the kernel from a plain loop over Jacobians."""

import pytest
import torch

import gflow
from gflow.errors import InputError
from gflow.kernels import empirical_ntk, empirical_ntk_product
from tests.helpers import randn, relative, slow_except
from tests.kernels.modules import MODULES, by_loop, make, mean_over_outputs


@pytest.mark.parametrize("name", sorted(MODULES.keys() - {"recurrent"}))
@pytest.mark.parametrize("max_memory", slow_except([2**32, None], 2**32))
def test_products_make_the_kernel_times_a_vector(name, max_memory):
    module, x, _ = make(name)
    if max_memory is None:  # the least, so that points and vectors are taken one by one
        with pytest.raises(InputError, match="max_memory must be at least about") as error:
            empirical_ntk_product(module, x, max_memory=1)
        max_memory = int(str(error.value).split("about ")[1].split()[0])
    for full in (True, False):
        for points in ((x, None), (x[:2], x[1:])):
            kernel = by_loop(module, *points)
            matrix = kernel.flatten(2).flatten(0, 1) if full else mean_over_outputs(kernel)
            product = empirical_ntk_product(module, *points, full=full, max_memory=max_memory)
            for shape in ((), (1,), (3,)):
                v = randn(matrix.shape[1], *shape)
                result = product(v)
                assert result.shape == (len(matrix), *shape)
                assert relative(result, matrix @ v) <= 1e-12


def test_a_product_goes_straight_into_kernel_flow():
    module, x, _ = make("perceptron")
    u0 = module(x).detach()
    y = randn(*u0.shape, seed=1)
    H, H_test = empirical_ntk(module, x[:4]), empirical_ntk(module, x[4:], x[:4])
    known = gflow.KernelFlow(H, y[:4], H_test)
    flow = gflow.KernelFlow(
        empirical_ntk_product(module, x[:4]), y[:4], empirical_ntk_product(module, x[4:], x[:4])
    )
    ts = torch.tensor([0.0, 0.3, 5.0], dtype=torch.float64)
    path = gflow.integrate(flow, u0[:4], ts, "krylov", 1e-10, 1e-12)
    assert relative(path.ys, known.exact(ts, u0[:4])) <= 1e-9
    result = flow.predict(ts, u0[:4], u0[4:], method="krylov", rtol=1e-10).test
    assert relative(result, known.predict(ts, u0[:4], u0[4:], method="exact").test) <= 1e-9
    # The full kernel couples the outputs: it is the flow of u as one vector.
    full = empirical_ntk(module, x, full=True).flatten(2).flatten(0, 1)
    full_flow = gflow.KernelFlow(empirical_ntk_product(module, x, full=True), y.flatten())
    rate = full_flow(0.0, u0.flatten())
    assert relative(rate, full @ (y - u0).flatten()) <= 1e-12
