"""Scenario files and their models: loaded, resolved, read back, refused."""

import functools
import os
import tomllib
from pathlib import Path

import pytest
import torch

from gflow.data import names
from gflow.errors import InputError
from gflow.scenario import (
    load_scenario,
    read_scenario,
    scenario_names,
    scenario_text,
    setting_model,
    validate,
)
from gflow.settings.base import Scenario
from gflow.settings.laboratory_base import LaboratoryScenario
from gflow.text import CONTROL
from tests.cli.test_main import call

GOOD = {"setting": "deep-linear", "data": "synthetic", "t_end": 1.0}
_TEXTS = ("title", "data", "method", "device")
NESTED = functools.reduce(lambda table, _: {"a": table}, range(10_000), {})


def test_required_scenarios_are_shipped():
    required = {"deep-linear", "deep-matrix", "factorization", "kernel", "wide-network"}
    assert required <= set(scenario_names())


@pytest.mark.parametrize("name", scenario_names())
def test_shipped_scenarios_have_a_title_and_real_data(name):
    scenario = load_scenario(name)
    assert isinstance(scenario, Scenario)
    assert scenario.name == name
    assert scenario.title
    if not isinstance(scenario, LaboratoryScenario):  # which is about the data of its paper
        assert scenario.data in names() or scenario.data.startswith("modular:")
    assert scenario_text(name).startswith("# ")


@pytest.mark.parametrize("name", scenario_names())
def test_resolved_scenario_is_read_back_to_the_same_model(name, tmp_path):
    import tomli_w

    scenario = load_scenario(name, {"seed": 7, "step_sizes": (0.5, 0.25)})
    text = tomli_w.dumps(scenario.resolved())
    file = tmp_path / "other.toml"
    file.write_text(text, encoding="utf-8")
    assert load_scenario(str(file)) == scenario
    assert tomllib.loads(text)["setting"] == scenario.setting


@pytest.mark.parametrize("name", scenario_names())
def test_every_field_has_a_description(name):
    model = setting_model(read_scenario(name)["setting"])
    assert model.__doc__
    for field, info in model.model_fields.items():
        assert info.description, field


def test_a_scenario_has_the_name_of_its_file_and_keys_can_be_changed(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('setting = "deep-linear"\ndata = "iris"\nt_end = 2\nclasses = ["a", "b"]\n')
    scenario = load_scenario(str(file), {"depth": 5})
    assert (scenario.name, scenario.depth, scenario.t_end) == ("mine", 5, 2.0)
    assert scenario.classes == ("a", "b")


def test_models_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        load_scenario("kernel").seed = 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"setting": None}, "must name its setting: one of continuous-vs-discrete, deep-linear"),
        ({"setting": "kernels"}, "there is no setting 'kernels'; did you mean 'kernel'?"),
        ({"setting": "_paths"}, "there is no setting '_paths'"),
        ({"deepth": 2}, "my file: there is no key 'deepth'; did you mean 'depth'?"),
        ({"DEPTH": 2}, "my file: there is no key 'DEPTH'; did you mean 'depth'?"),
        ({"step-sizes": [0.1]}, "there is no key 'step-sizes'; did you mean 'step_sizes'?"),
        ({"network": {"depth": 2}}, "my file: there is no key 'network' that holds a table; write"),
        (
            {"outputs": "al"},
            "should be 'single' or 'all', got 'al'; did you mean 'all'?",
        ),
        ({"dtype": "Float32"}, "got 'Float32'; did you mean 'float32'?"),
        ({"outputs": 3}, "outputs: input should be 'single' or 'all', got 3"),
        ({"depth": 0}, "depth: input should be greater than or equal to 1, got 0"),
        ({"depth": 3.0}, "depth: input should be a valid integer"),
        ({"t_end": "1"}, "t-end: input should be a valid number, got '1'"),
        ({"rtol": False}, "rtol: input should be a valid number, got False"),
        ({"noise": -1.0}, "noise: input should be greater than or equal to 0"),
        ({"outputs": "both"}, "outputs: input should be 'single' or 'all'"),
        ({"classes": []}, "classes: "),
        ({"classes": [1]}, "classes: input should be a valid string, got 1"),
        ({"step_sizes": 0.1}, "step-sizes: input should be a valid tuple, got 0.1"),
        ({"points": 1}, "points: input should be greater than or equal to 2"),
        ({"name": "a/b"}, "name: "),
        ({"name": ".."}, "name: "),
        ({"estimate_error": "yes"}, "estimate-error: input should be a valid boolean"),
        ({"data": "x" * 300, "depth": 0}, "depth: "),
        *(({key: "a\x1b[2J"}, f"{key}: must be one line of text") for key in _TEXTS),
        ({"classes": ["a\n"]}, "classes: must be one line of text without control characters"),
        ({"name": "a\nb"}, "name: must be one line"),
        ({"name": "/etc"}, "name: "),
        ({"name": "\ud800"}, "name: "),
        ({"seed": 16**5000}, "seed: input should be less than"),
        ({"depth": NESTED}, "depth: input should be a valid integer, got dict too large to show"),
        ({"a\nb\x1b": 1}, "there is no key 'a b'"),
    ],
)
def test_invalid_keys_are_refused_in_one_line(change, message):
    with pytest.raises(InputError) as caught:
        validate(GOOD | change, "my file")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_key_is_explained():
    with pytest.raises(InputError, match="my file: 't_end' is missing: length of the path"):
        validate({"setting": "deep-linear", "data": "iris"}, "my file")


def test_a_misspelt_key_is_named_and_not_the_key_that_is_missing():
    for key, known in (("dta", "data"), ("seting", "setting")):
        keys = {key if k == known else k: v for k, v in GOOD.items()}
        with pytest.raises(InputError, match=f"there is no key '{key}'; did you mean '{known}'"):
            validate(keys, "my file")


def test_a_scenario_may_be_a_path_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.toml").write_text(scenario_text("deep-linear"))
    assert load_scenario(Path("~/mine.toml")).name == "mine"
    with pytest.raises(InputError, match="a path must be a string"):
        load_scenario(3)


def test_only_a_number_of_samples_among_the_changes_refuses_smaller_data():
    assert load_scenario("network").fewer_samples
    assert load_scenario("network", {"data": "iris"}).fewer_samples
    assert not load_scenario("network", {"samples": 500}).fewer_samples
    assert load_scenario("network", {"samples": 500, "fewer_samples": True}).fewer_samples


def test_a_byte_order_mark_is_read_over(tmp_path):
    file = tmp_path / "a.toml"
    file.write_text("\ufeff" + scenario_text("network"), encoding="utf-8")
    assert load_scenario(str(file)) == load_scenario("network", {"name": "a"})


def test_large_or_binary_file_is_refused(tmp_path):
    file = tmp_path / "a.toml"
    file.write_bytes(b"#\n" * 50_001)
    with pytest.raises(InputError, match="it is over 100000 bytes"):
        load_scenario(str(file))
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="cannot read the scenario file"):
        load_scenario(str(file))
    with pytest.raises(InputError, match="cannot read the scenario file"):
        load_scenario(f"{tmp_path}/folder.toml")


def test_the_generator_depends_on_the_seed():
    draws = [torch.rand(3, generator=validate(GOOD | {"seed": s}, "x").generator()) for s in (1, 1)]
    assert torch.equal(*draws)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_torch_options_have_the_device_and_dtype(dtype):
    options = validate(GOOD | {"dtype": dtype}, "x").torch_options()
    assert options == {"device": torch.device("cpu"), "dtype": getattr(torch, dtype)}


# -- untrusted files ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (".".join("a" * 10_000) + " = 1", "lines of at most 2000 characters"),
        ("[" + ".".join("a" * 10_000) + "]", "lines of at most 2000 characters"),
        (".".join(['"\u2028"'] * 1_000) + " = 1", "lines of at most 2000 characters"),
        ("a = " + "[\n" * 10_000, "is not valid TOML: maximum recursion depth"),
        ("seed = " + "9" * 1_990, "seed: input should be less than"),
        ("seed = 0x" + "f" * 1_980, "seed: input should be less than"),
        ("\n".join(f"[{'.'.join('a' * (i + 1))}]" for i in range(300)), "no key 'a'"),
    ],
)
def test_oversized_tables_are_refused(tmp_path, text, message):
    file = tmp_path / "a.toml"
    file.write_text('setting = "deep-linear"\ndata = "synthetic"\nt_end = 1.0\n' + text)
    with pytest.raises(InputError, match=message) as caught:
        load_scenario(str(file))
    assert len(str(caught.value)) < 1_000


def test_pipes_and_devices_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "link.toml").symlink_to("/dev/zero")
    for name in ("pipe", "link"):
        with pytest.raises(InputError, match="it is not a plain file"):
            load_scenario(str(tmp_path / f"{name}.toml"))


@pytest.mark.parametrize("setting", ["network", "continuous-vs-discrete"])
def test_code_named_by_a_scenario_file_is_not_run(tmp_path, monkeypatch, setting):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("open('ran', 'w').close()\nfrom torch.nn import Identity as make")
    Path("a.toml").write_text(
        f'setting = "{setting}"\ndata = "synthetic"\nt_end = 1.0\nmodel = "mine:make"\n'
    )
    with pytest.raises(InputError, match="if you trust it, pass --model mine:make"):
        load_scenario("a.toml")
    with pytest.raises(InputError, match="if you trust it, pass --model mine:make"):
        load_scenario("a.toml", {"samples": 3})
    assert load_scenario("a.toml", {"model": "mine:make"}).model == "mine:make"
    assert load_scenario("a.toml", code=True).model == "mine:make"
    assert not Path("ran").exists()


def test_help_of_a_file_prints_no_control_characters(tmp_path):
    file = tmp_path / "a\x1b[2J.toml"
    file.write_text(
        'setting = "kernel"\ntitle = "\\u001b[2J"\ndata = "\\u009b2J"\nclasses = ["\\u202e"]\n'
        f"seed = 0x{'f' * 1_990}\n{'.'.join(['depth'] * 300)} = 1\n"
    )
    completed = call("run", file, "--help")
    assert completed.status == 0
    assert CONTROL.search(completed.out.replace("\n", "")) is None
