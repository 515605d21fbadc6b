import pytest
import torch
from torch import nn

from gflow.errors import InputError
from gflow.settings.architectures import ACTIVATIONS, build, cnn, factory, linear, mlp, require_fit
from tests.helpers import randn, relative


def test_mlp_is_the_tanh_network_of_the_design():
    module = build(lambda: mlp(64, 10, 64, 2, "tanh"), 0, torch.float64)
    torch.manual_seed(0)
    layers = [nn.Linear(a, b, dtype=torch.float64) for a, b in ((64, 64), (64, 64), (64, 10))]
    by_hand = nn.Sequential(layers[0], nn.Tanh(), layers[1], nn.Tanh(), layers[2])
    x = randn(3, 64)
    assert torch.equal(module(x), by_hand(x))
    assert sum(p.numel() for p in module.parameters()) == 8970


def test_mlp_without_biases_is_a_chain_of_matrices():
    module = build(lambda: mlp(3, 2, 5, 1, "relu", bias=False), 0, torch.float64)
    first, last = (p.detach() for p in module.parameters())
    x = randn(4, 3)
    assert torch.equal(module(x).detach(), (x @ first.mT).clamp_min(0) @ last.mT)


def test_building_does_not_change_the_state_of_torch():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    module = build(lambda: nn.Linear(2, 2), 1, torch.float64)
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_default_dtype() == torch.float32
    assert module.weight.dtype == torch.float64
    again = build(lambda: nn.Linear(2, 2), 1, torch.float64)
    assert torch.equal(module.weight, again.weight)
    assert not torch.equal(module.weight, build(lambda: nn.Linear(2, 2), 2, torch.float64).weight)


def test_linear_is_a_product_of_matrices():
    module = build(lambda: linear(3, 2, 5, 2), 0, torch.float64)
    shapes = [tuple(p.shape) for p in module.parameters()]
    assert shapes == [(5, 3), (5, 5), (2, 5)]
    W = module[2].weight @ module[1].weight @ module[0].weight
    assert relative(module(randn(4, 3)).detach(), (randn(4, 3) @ W.mT).detach()) <= 1e-14
    assert [tuple(p.shape) for p in linear(3, 2, 9, 0).parameters()] == [(2, 3)]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_can_be_used(activation):
    assert mlp(2, 1, 3, 1, activation)(torch.ones(4, 2)).shape == (4, 1)


@pytest.mark.parametrize("image", [(1, 8, 8), (3, 32, 32), (1, 28, 28), (2, 5, 7), (1, 1, 1)])
@pytest.mark.parametrize("width", [1, 16])
def test_cnn_accepts_images_of_any_shape(image, width):
    rows = torch.zeros(2, image[0] * image[1] * image[2])
    assert cnn(image, 4, width, "relu")(rows).shape == (2, 4)


@pytest.fixture
def user(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(name, text):
        (tmp_path / f"{name}.py").write_text(text)

    return write


def test_a_users_model_is_imported_from_the_current_folder(user):
    user("user_good", "from torch import nn\ndef make(): return nn.Linear(3, 2)\n")
    assert factory("user_good:make")().weight.shape == (2, 3)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("user_missing:make", "must be importable, but ModuleNotFoundError"),
        ("user_bad_a:nothing", "must name a function in user_bad_a, got no such name"),
        ("user_bad_a:", "got no such name"),
        ("user_bad_a:number", "must name a function in user_bad_a, got a int"),
        ("user_bad_b:make", "must be importable, but SyntaxError"),
        ("user_bad_c:make", "must be importable, but ZeroDivisionError"),
        (":make", "must be importable, but ValueError"),
        ("user_bad_a:needs", "callable without arguments, but TypeError"),
        ("user_bad_a:text", "must return a torch.nn.Module, got str; correct its return"),
    ],
)
def test_errors_of_a_users_model_are_reported_in_one_line(user, path, message):
    user("user_bad_a", "number = 3\ndef needs(x): pass\ndef text(): return 'x'\n")
    user("user_bad_b", "def make(:\n")
    user("user_bad_c", "1 / 0\n")
    with pytest.raises(InputError, match=message) as error:
        factory(path)()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Linear(4, 2), r"must take inputs of shape \('n', 3\), but RuntimeError"),
        (nn.Linear(3, 5), r"outputs of shape \(2, 2\) for 2 samples, got \(2, 5\)"),
        (nn.LSTM(3, 2), "got tuple"),
    ],
)
def test_a_model_of_wrong_shape_is_reported_in_one_line(module, message):
    with pytest.raises(InputError, match=message):
        require_fit(module, torch.zeros(6, 3), 2)
