"""The activation z²."""

import torch
from torch import nn

import gflow
from gflow.networks.square import Square


def test_outputs_are_sums_of_squares_of_what_neurons_read():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 5), Square(), nn.Linear(5, 2, bias=False)).double()
    x = torch.randn(4, 3, dtype=torch.float64)
    first, last = network[0], network[2]
    expected = torch.einsum("kh,nh,nh->nk", last.weight, first(x), first(x))
    assert torch.allclose(network(x), expected, rtol=0, atol=1e-14)


def test_squared_norms_around_it_differ_by_a_law():
    """d/dt (½‖w_h‖² − ‖v_h‖²) = 0 by Euler's identity, for each neuron h of degree 2."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Linear(3, 4, bias=False), Square(), nn.Linear(4, 2, bias=False)
    ).double()
    X, Y = torch.randn(6, 3, dtype=torch.float64), torch.randn(6, 2, dtype=torch.float64)
    flow = gflow.NetworkFlow(network, nn.functional.mse_loss, X, Y)
    assert len(gflow.laws.find(network)) == 1
    path = gflow.integrate(flow, flow.pack(), [0.0, 1.0], rtol=1e-10, atol=1e-13)

    def law(y):
        W, V = flow.parameters_dict(y).values()
        return W.square().sum(1) / 2 - V.square().sum(0)

    assert torch.allclose(law(path.ys[0]), law(path.ys[1]), rtol=0, atol=1e-8)
    assert float((path.ys[1] - path.ys[0]).norm()) > 0.1
