"""The user's configuration file: defaults that the environment and the command line override."""

import json

import pytest

from gflow.cli.configuration import COMMON, config_file, read_defaults
from gflow.cli.options import json_option, quiet_option, run_option_flags
from gflow.errors import InputError
from gflow.settings.base import Scenario
from tests.cli.test_main import call, small


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Return a function that writes the configuration file."""
    file = tmp_path / "config.toml"
    monkeypatch.setenv("GFLOW_CONFIG", str(file))
    monkeypatch.chdir(tmp_path)
    return file.write_text


def depth(*options):
    completed = call(*small("deep-linear"), "--json", *options)
    assert completed.status == 0, completed
    return json.loads(completed.out)["depth"]


def test_command_line_before_environment_before_file(write, monkeypatch):
    write("no-figures = true\n[deep-linear]\ndepth = 2\n")
    assert depth() == 2
    monkeypatch.setenv("GFLOW_DEEP_LINEAR_DEPTH", "4")
    assert depth("--depth", "5") == 5
    assert depth() == 4


def test_lists_and_files_of_the_user(write, tmp_path):
    write("quiet = true\nno-figures = true\n[mine]\nstep-sizes = [0.1, 0.05]\n")
    (tmp_path / "mine.toml").write_text(call("show", "deep-linear").out, encoding="utf-8")
    for command in (["mine.toml"], ["run", "mine.toml"]):
        folder = tmp_path / str(len(command))
        completed = call(*command, *small("deep-linear")[1:], "-o", folder)
        assert (completed.status, completed.out) == (0, f"{folder}\n"), completed
        assert "step_sizes = [\n    0.1,\n    0.05,\n]" in (folder / "scenario.toml").read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[deep-linear]\ndepht = 2", "config.toml: [deep-linear]: there is no option 'depht'; did"),
        ("quite = true", "there is no option for all commands 'quite'; did you mean 'quiet'?"),
        ("depth = 3", "there is no option for all commands 'depth'"),
        ("[sweep]\nworkers = 3", "[sweep] takes no defaults"),
        ("[deep-linear]\ndepth = 'two'", "'two' is not a valid"),
        ("not toml", "cannot read the configuration file"),
    ],
)
def test_what_the_file_cannot_say_is_one_line(write, text, message):
    write(text)
    completed = call("deep-linear")
    assert completed.status == 2
    assert message in completed.err
    assert completed.err.count("\n") == 1


def test_common_options_are_options_of_runs():
    options = {o.name for o in (*run_option_flags(), quiet_option(), json_option())}
    assert set(COMMON) <= options | set(Scenario.model_fields)
    assert options <= set(COMMON)


def test_place_of_the_file(tmp_path, monkeypatch):
    monkeypatch.delenv("GFLOW_CONFIG")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert config_file() is read_defaults() is None
    (tmp_path / "gflow").mkdir()
    (tmp_path / "gflow" / "config.toml").write_text("pdf = true")
    assert config_file() == tmp_path / "gflow" / "config.toml"
    assert read_defaults().get("kernel") == {"pdf": True}
    monkeypatch.setenv("GFLOW_CONFIG", str(tmp_path / "no.toml"))  # named: it must exist
    with pytest.raises(InputError, match="cannot read the configuration file"):
        read_defaults()
