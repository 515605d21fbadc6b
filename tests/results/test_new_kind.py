"""A new kind of result is one file: table, exit status, `inspect` and sweeps follow from it."""

import sys

import numpy as np
import pytest
from click.testing import CliRunner

import gflow.results
from gflow.cli.main import cli
from gflow.results.registry import result_kinds
from gflow.runs import Job, RunOptions, run
from gflow.settings.kernel import Kernel
from gflow.sweeping.dataset import load_sweep
from gflow.sweeping.folder import SweepFolder, run_path
from tests.sweeping.conftest import small_plan

WORDS = "kernel --data synthetic --samples 8 --test-samples 4 --inputs 3 --points 4"
SMALL = WORDS.split()


@pytest.fixture(autouse=True)
def _half_life_is_a_kind_of_result(monkeypatch, request):
    folder = request.path.parent / "another_folder"
    monkeypatch.setattr(gflow.results, "__path__", [*gflow.results.__path__, str(folder)])
    result_kinds.cache_clear()
    yield
    sys.modules.pop("gflow.results.half_life", None)
    vars(gflow.results).pop("half_life", None)
    result_kinds.cache_clear()


@pytest.fixture
def returned(monkeypatch):
    """Set what the scenario `kernel` returns: half-lives by step size."""

    def set_half_lives(half_lives):
        def run(scenario, stages):
            made = half_lives(scenario) if callable(half_lives) else half_lives
            return result_kinds()["half-life"].from_half_lives(made)

        monkeypatch.setattr(Kernel, "run", run)

    return set_half_lives


def test_command_prints_its_table_and_exits_by_its_verdict(returned, tmp_path):
    folder = str(tmp_path / "run")
    returned({0.5: 1.25, 0.25: None})
    done = CliRunner().invoke(cli, [*SMALL, "--output", folder])
    assert done.exit_code == 5  # a descent diverged
    for words in (
        "half-life",
        "1.250",
        "diverged from step 3",
        "longest      1.25",
        "certificate  holds",
    ):
        assert words in done.stdout
    inspected = CliRunner().invoke(cli, ["inspect", folder])
    assert inspected.exit_code == 0
    table = done.stdout[: done.stdout.index("folder")]
    assert inspected.stdout.index(table) > 0
    returned({0.5: 1.25})
    assert CliRunner().invoke(cli, [*SMALL, "--output", f"{folder}-2"]).exit_code == 0


@pytest.mark.parametrize("step_sizes", [(0.5,), (0.5, 0.25)])
def test_sweep_collects_the_numbers_of_the_kind(step_sizes, returned, tmp_path):
    returned(lambda scenario: {size: size + scenario.seed for size in step_sizes})
    plan = small_plan(seeds=2)
    with SweepFolder(tmp_path).lock(plan):
        for member in plan.members:
            options = RunOptions(draw=False)
            run(Job(member.scenario), run_path(tmp_path, member.id), options)
    ds = load_sweep(tmp_path, curves=False)
    assert ds.longest.values.tolist() == [0.5, 1.5]
    assert ds.longest.attrs == {"long_name": "longest", "units": "1"}
    # One number a run without curves: of several step sizes, each has its own.
    several = len(step_sizes) > 1
    for i, size in enumerate(step_sizes, start=1):
        half_life = ds[f"half_life_{i}" if several else "half_life"]
        assert half_life.dims == ("seed",)
        np.testing.assert_array_equal(half_life.values, [size, 1 + size])
        assert half_life.attrs["long_name"].startswith("time until the loss is half")
