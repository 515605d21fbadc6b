"""The command `figures` redraws what a run has."""

import matplotlib.image
import pytest
from click.testing import CliRunner

from gflow.cli.main import cli
from gflow.errors import InputError
from gflow.runs import Job, RunOptions, load_run, run
from gflow.scenario import load_scenario


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    keys = {"data": "synthetic", "samples": 12, "inputs": 3, "points": 3, "t_end": 1.0}
    path = tmp_path_factory.mktemp("runs") / "run"
    run(Job(load_scenario("deep-matrix", keys)), path, RunOptions(draw=False))
    return path


def figures(folder, *options):
    return CliRunner().invoke(cli, ["figures", str(folder), *options])


def test_figures_are_redrawn_in_a_format_and_size(folder):
    done = figures(folder, "--only", "loss", "--format", "png,svg", "--size", "3x2", "--title", "T")
    assert done.exit_code == 0, done.output
    files = sorted(path.name for path in (folder / "figures").iterdir())
    assert files == ["loss.png", "loss.svg"]
    assert [line.split("/")[-1] for line in done.stdout.split()] == files
    height, width, _ = matplotlib.image.imread(folder / "figures" / "loss.png").shape
    assert (width, height) == (600, 400)  # 200 points an inch


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "bmp"], "--format must be of png, pdf, svg, gif, mp4, got 'bmp'"),
        (["--size", "wide"], "--size must be WIDTHxHEIGHT in inches, .* got 'wide'"),
        (["--size", "1x1000"], "--size must be WIDTHxHEIGHT"),
        (["--only", "los"], "no figure 'los'.*did you mean 'loss'"),
        (["--style", "grayscal"], "by name or file, got 'grayscal'; did you mean 'grayscale'"),
    ],
)
def test_bad_options_are_refused_in_one_line(options, message, folder):
    done = figures(folder, *options)
    assert isinstance(done.exception, InputError)
    with pytest.raises(InputError, match=message):
        raise done.exception


def test_a_link_in_the_folder_is_not_followed(folder, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("figures"))
    (copy / "figures").symlink_to(tmp_path)
    with pytest.raises(InputError, match="must be a folder, got a link"):
        raise figures(copy).exception


def test_a_run_is_drawn_and_shown(folder):
    loaded = load_run(folder)
    assert loaded.plot("loss").get_ylabel() == "loss"
    assert repr(loaded).startswith("Run(deep-matrix on synthetic, certificate holds, ")
    assert "certificate holds" in loaded._repr_html_()
    assert loaded.to_dataset() is loaded.result
