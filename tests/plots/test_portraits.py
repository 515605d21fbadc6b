"""Pictures of the state: phase portraits and neurons."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

import gflow
from gflow.errors import InputError
from gflow.plots import animations
from gflow.results.portraits import neurons_dataset, phase_portrait_dataset

VALLEY = gflow.flow_from_loss(lambda w: (w[0] * w[1] - 1) ** 2 / 2)
START = torch.tensor([2.0, 0.1], dtype=torch.float64)
PATH = gflow.integrate(VALLEY, START, [0.0, 0.5, 1.0])
DESCENT = gflow.descend(VALLEY, START, 0.1, 3)


def test_portrait_has_the_velocity_and_the_loss_on_its_grid():
    ds = phase_portrait_dataset(PATH, [DESCENT])
    x, y = ds.first_parameter.values[None], ds.second_parameter.values[:, None]
    np.testing.assert_allclose(ds.portrait_loss, (x * y - 1) ** 2 / 2, atol=1e-14)
    np.testing.assert_allclose(ds.velocity, -(x * y - 1) * y, atol=1e-14)
    np.testing.assert_allclose(ds.velocity_2, -(x * y - 1) * x, atol=1e-14)
    for states in (ds.state, ds.descent_state[0]):
        for i, grid in enumerate((ds.first_parameter, ds.second_parameter)):
            assert float(grid[0]) < float(states[:, i].min())
            assert float(states[:, i].max()) < float(grid[-1])
    np.testing.assert_array_equal(ds.descent_state[0], DESCENT.ys)


def test_portrait_and_neurons_are_drawn_and_move(monkeypatch):
    axes = gflow.plot(PATH, DESCENT, observable="phase_portrait")
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), PATH.ys)
    assert axes.get_title().startswith("The flow goes from (2, 0.1) to (")
    plt.close("all")
    monkeypatch.setattr(animations, "_SECONDS", 0.2)
    animated = gflow.animate(PATH, DESCENT, observable="phase_portrait")
    animated._draw_frame(0.75)
    (axes,) = animated._fig.axes
    head = axes.lines[1].get_xydata()[0]
    np.testing.assert_allclose(head, (PATH.ys[1] + PATH.ys[2]) / 2)
    assert len(axes.lines[2].get_xydata()) == 4  # descent at 0, 0.1, 0.2 and 0.3
    assert axes.get_title() == "t = 0.75"


def test_neurons_are_in_the_plane_that_holds_most_of_them():
    X = torch.eye(4, dtype=torch.float64)
    signs = torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64)
    flow = gflow.TwoLayerFlow(X, torch.ones(4, dtype=torch.float64), signs)
    W = torch.zeros(3, 4, dtype=torch.float64)
    W[:, :2] = torch.tensor([[3.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    path = gflow.integrate(flow, W, [0.0, 1e-9])
    ds = neurons_dataset(path)
    assert float(ds.neuron_share) == pytest.approx(1.0)
    np.testing.assert_allclose(np.linalg.norm(ds.neurons[0], axis=-1), W.norm(dim=-1), atol=1e-6)
    assert ds.neuron_sign.values.tolist() == [1.0, -1.0, 1.0]
    assert gflow.animate(path, observable="neurons")._fig.axes[0].collections[0] is not None


def test_flows_with_hidden_neurons_name_them():
    module = torch.nn.Sequential(torch.nn.Linear(2, 5), torch.nn.Tanh(), torch.nn.Linear(5, 1))
    flow = gflow.NetworkFlow(module.double(), torch.nn.MSELoss(), START[None], START[None, :1])
    y = torch.stack([flow.pack(), 2 * flow.pack()])
    weights, signs = flow.neurons(y)
    torch.testing.assert_close(weights, torch.stack([module[0].weight, 2 * module[0].weight]))
    torch.testing.assert_close(signs, module[2].weight[0].sign())
    factors, U = gflow.FactorFlow.example()
    torch.testing.assert_close(factors.neurons(U)[0], U.mT)
    layers = gflow.LayerwiseFlow(gflow.losses.SquaredDistance(torch.eye(2).double()), [2, 3, 2])
    start = layers.pack([torch.ones(3, 2).double(), torch.ones(2, 3).double()])
    assert layers.neurons(start)[0].shape == (3, 2)


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        ("phase_portrait", r"needs two parameters, one start, got a state of shape \(1,\)"),
        ("neurons", r"KernelFlow has no neurons to draw"),
    ],
)
def test_what_has_no_such_picture_is_refused(picture, message):
    kernel = gflow.KernelFlow(torch.eye(1).double(), torch.ones(1).double())
    path = gflow.integrate(kernel, torch.zeros(1).double(), [0.0, 1.0])
    for draw in (gflow.plot, gflow.animate):
        with pytest.raises(InputError, match=message):
            draw(path, observable=picture)
