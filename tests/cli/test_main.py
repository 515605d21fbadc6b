"""The command line: every scenario runs small; every bad input is one line and status 2."""

import contextlib
import functools
import io
import json
import math
import re
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import xarray as xr

import gflow
from gflow import plots
from gflow.cli import main as cli
from gflow.data import names as data_names
from gflow.errors import Interrupted
from gflow.runs import folder as store
from gflow.runs import reading
from gflow.scenario import (
    load_scenario,
    read_scenario,
    scenario_names,
    setting_model,
    setting_models,
)
from gflow.trajectory import Certificate
from tests.helpers import slow_except

#: Small values of the keys of scenarios: each run of a test uses those that its model has.
SMALL = {
    "samples": 20,
    "inputs": 3,
    "test_samples": 4,
    "size": 4,
    "rank": 2,
    "width": 4,
    "widths": "16,32",
    "epochs": 8,
    "seeds": 2,
    "points": 4,
    "t_end": 2,  # only where the scenario has an end
}
#: Further options of a scenario, or of all scenarios of a setting; most need none.
EXTRA = {
    "continuous-vs-discrete": "--samples 12 --t-end 1 --criterion squared-error",
    "deep-linear": "--rtol 1e-6 --atol 1e-9",
    "deep-matrix": "--targets 2",
    "edge-of-stability": "--depth 1 --points 8 --t-end 20 --step-sizes 1.05,1.0",
    "factorization": "--t-end 9 --init-scale 0.1",
    "grokking": "--step-sizes 0.05,0.02",
    "implicit-regularization": "--depth 1 --step-sizes 0.2,0.1",
    "in-context": "--inputs 2 --samples 6 --t-end 300 --points 20",
    "incremental-learning": "--modes 3,1 --points 9 --init-scales 1e-2,1e-3",
    "kernel": "--samples 8 --t-end 3",
    "kernel-to-rich": "--samples 2 --init-scales 3,0.3 --loss-end 1e-6",
    "lazy-to-rich": "--size 2 --modes 2 --balances=-2,0,2 --points 8",
    "matrix-completion": "--samples 12 --depths 2,3 --init-scales 1e-2 --loss-end 1e-4"
    " --method auto",
    "max-margin": "--samples 6 --log10-loss-end=-20 --points 20",
    "network": "--depth 1 --step-sizes 0.2,0.1",
    "saddle-to-saddle": "--samples 3 --powers 20 --points 20",
    "two-by-two": "--depths 3 --loss-end 1e-2 --points 12",
    "wide-network": "--samples 4 --test-samples 3 --threads 1 --method dopri5 --rtol 1e-3",
}
#: Data of a setting that needs classes; all others draw synthetic ones.
DATA = {"grokking": "modular:5"}
SCENARIOS = scenario_names()
RUN = slow_except(SCENARIOS, "deep-linear", "kernel", "two-by-two")


def data_of(name: str) -> str:
    """Return the data of a small run of a scenario."""
    return DATA.get(read_scenario(name)["setting"], "synthetic")


def small(name: str) -> list[str]:
    """Return the arguments of a run of a scenario that takes about a second."""
    keys = read_scenario(name)
    fields = setting_model(keys["setting"]).model_fields
    options = [
        f"--{key.replace('_', '-')}={value}"
        for key, value in SMALL.items()
        if key in fields and (key != "t_end" or key in keys)
    ]
    extra = EXTRA.get(name) or EXTRA.get(keys["setting"], "")
    return [name, "--data", data_of(name), *options, *extra.split()]


def figure_names(folder: Path) -> set[str]:
    """Return the names of the figures that the result in a folder has."""
    result = gflow.load_run(folder).result
    return {
        spec.name for spec in plots.figure_specs() if set(spec.variables) <= set(result.variables)
    }


def call(*arguments) -> SimpleNamespace:
    """Run the command line in this process; return its exit status, output and error output."""
    out, err = io.StringIO(), io.StringIO()
    streams = (contextlib.redirect_stdout(out), contextlib.redirect_stderr(err))
    with streams[0], streams[1], pytest.raises(SystemExit) as exit_:
        cli.main([str(a) for a in arguments])
    return SimpleNamespace(status=exit_.value.code, out=out.getvalue(), err=err.getvalue())


@pytest.fixture(autouse=True)
def _empty_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _no_progress_lines(monkeypatch):
    """Print none: how long a run takes is that of the machine."""
    monkeypatch.setattr("gflow.cli.progress.LINE_INTERVAL", math.inf)


@pytest.fixture
def no_figures(monkeypatch):
    """Draw no figures: they take most of the time, and no test here depends on them."""
    monkeypatch.setattr(plots, "fitting_specs", lambda dataset, only=(): [])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return a function of a name: the completed command and its folder, run once per scenario."""

    @functools.cache
    def run(name):
        folder = tmp_path_factory.mktemp("runs") / name
        return call(*small(name), "--json", "--output", folder), folder

    return run


def refused(*arguments, message="", status=2):
    """Check for one line on standard error, the status, and no new files."""
    before = sorted(Path().rglob("*"))
    completed = call(*arguments)
    assert completed.status == status, completed
    assert completed.err.startswith("gflow: ")
    assert completed.err.count("\n") == 1
    assert completed.err.endswith("\n")
    assert completed.out == ""
    assert message in completed.err
    assert sorted(Path().rglob("*")) == before


# -- scenarios ----------------------------------------------------------------------------


def test_options_of_small_runs_belong_to_scenarios_or_settings():
    assert set(EXTRA) <= {*SCENARIOS, *setting_models()}
    assert set(SMALL) <= {key for model in setting_models().values() for key in model.model_fields}


@pytest.mark.parametrize("name", SCENARIOS)
def test_help_lists_every_field(name):
    model = setting_model(read_scenario(name)["setting"])
    for arguments in ([name, "--help"], ["run", name, "--help"], ["converge", name, "--help"]):
        completed = call(*arguments)
        assert completed.status == 0
        assert completed.err == ""
        for field in set(model.model_fields) - {"name", "title"}:
            assert f"--{field.replace('_', '-')}" in completed.out
        assert "--output" in completed.out
        text = completed.out.split("\n\n")[1].strip()
        assert text[0].isupper()
        assert "--json" in completed.out


@pytest.mark.parametrize("name", RUN)
def test_run_folder_is_complete(name, finished):
    completed, folder = finished(name)
    assert completed.status == 0, f"{completed}; a new scenario may need options in EXTRA"
    assert completed.err == ""
    figures = figure_names(folder)
    assert figures
    drawn = {f"figures/{f}.png" for f in figures}
    texts = {"scenario.toml", "manifest.json", "summary.json", "result.nc", "metrics.jsonl"}
    files = {str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file()}
    assert files == drawn | texts
    for file in files - {"metrics.jsonl"}:  # empty after less than a second
        head = (folder / file).read_bytes()[:5]
        assert head
        if file.endswith("png"):
            assert head == b"\x89PNG\r"


@pytest.mark.parametrize("name", RUN)
def test_every_array_and_every_dimension_is_labelled(name, finished):
    with xr.open_dataset(finished(name)[1] / "result.nc") as ds:
        assert set(ds.dims) <= set(ds.coords)
        for variable in ds.variables.values():
            assert {"long_name", "units"} <= set(variable.attrs)


@pytest.mark.parametrize("name", RUN)
def test_json_is_one_object_equal_to_the_summary_in_the_folder(name, finished):
    completed, folder = finished(name)
    summary = json.loads(completed.out)
    assert summary["scenario"] == name
    assert summary["data"] == data_of(name)
    assert summary["folder"] == str(folder)
    assert summary["certificate"]["holds"] is True
    stored = json.loads((folder / "summary.json").read_text())
    assert stored == {k: v for k, v in summary.items() if k in stored}
    assert set(summary) - set(stored) == {"scenario", "data", "folder"}


@pytest.mark.parametrize("name", RUN)
def test_result_opens_with_xarray_and_every_variable_is_labelled(name, finished):
    _, folder = finished(name)
    with xr.open_dataset(folder / "result.nc") as result:
        assert result.attrs["scenario"] == name
        assert result.data_vars
        for variable in result.variables.values():
            assert variable.attrs["long_name"]
            assert variable.attrs["units"]


@pytest.mark.parametrize("name", RUN)
def test_load_run_reads_the_folder(name, finished):
    _, folder = finished(name)
    run = gflow.load_run(folder)
    assert run.path == folder
    assert run.manifest["state"] == "done"
    assert run.manifest["gflow"] == gflow.__version__
    assert run.manifest["seed"] == run.scenario["seed"] == read_scenario(name).get("seed", 0)
    assert run.manifest["threads"] == 1
    assert run.summary["certificate"]["holds"]
    assert run.result.sizes
    assert load_scenario(str(folder / "scenario.toml")).resolved() == run.scenario


@pytest.mark.parametrize("name", SCENARIOS)
def test_shown_scenario_is_the_scenario(name, tmp_path):
    shown = call("show", name)
    assert shown.status == 0
    file = tmp_path / "my.toml"
    file.write_text(shown.out, encoding="utf-8")
    assert load_scenario(str(file)) == load_scenario(name)


def test_shown_scenario_saved_and_run_is_the_same_run(finished, monkeypatch):
    run = gflow.load_run(finished("kernel")[1])
    Path("my.toml").write_text(call("show", "kernel").out, encoding="utf-8")
    monkeypatch.setattr(plots, "fitting_specs", lambda dataset, only=(): [])
    completed = call("run", "my.toml", *small("kernel")[1:], "--output", "mine", "--json")
    assert completed.status == 0, completed
    mine = gflow.load_run("mine")
    assert mine.scenario == run.scenario
    assert mine.result.identical(run.result)


def test_quiet_prints_the_folder_and_no_figures_draws_none(tmp_path):
    completed = call(*small("deep-linear"), "-q", "--no-figures", "-o", "mine")
    assert (completed.status, completed.out, completed.err) == (0, "mine\n", "")
    assert not Path("mine", "figures").exists()
    assert call("inspect", "mine").out.count("figures") == 0
    refused(*small("deep-linear"), "--no-figures", "--pdf", message="exclude each other")


def test_a_file_is_a_command(no_figures):
    Path("my.toml").write_text(call("show", "deep-linear").out, encoding="utf-8")
    completed = call("my.toml", *small("deep-linear")[1:], "--json")
    assert completed.status == 0, completed
    assert json.loads(completed.out)["scenario"] == "deep-linear"
    refused("other.toml", message="cannot read the scenario file other.toml")


@pytest.mark.parametrize(
    ("arguments", "usage"),
    [
        (["-h"], "gflow [OPTIONS] COMMAND [ARGS]..."),
        (["kernel", "-h"], "gflow kernel [OPTIONS]"),
        (["run", "kernel", "-h"], "gflow run kernel [OPTIONS]"),
        (["converge", "kernel", "-h"], "gflow converge kernel [OPTIONS]"),
        (["converge", "-h"], "gflow converge SCENARIO [OPTIONS]"),
        (["sweep", "kernel", "-h"], "gflow sweep kernel [OPTIONS]"),
        (["report", "-h"], "gflow report [OPTIONS] RUN..."),
    ],
)
def test_usage(arguments, usage):
    assert call(*arguments).out.splitlines()[0] == f"Usage: {usage}"


def test_help_says_the_default_once_and_names_the_data():
    shown = " ".join(call("network", "-h").out.split())
    assert "--step-sizes NUMBER,... step sizes of descent [default: 0.5,0.4,0.2]" in shown
    assert "stability limit" not in shown
    other = " ".join(call("kernel", "-h").out.split())
    assert "[default: 1/2, 1/4, 1/8, ... of the stability limit 2/lambda_max]" in other
    assert all(name in other for name in data_names())
    assert "[default: yes]" in other


def test_list_as_json():
    rows = json.loads(call("list", "--json").out)
    assert [row["name"] for row in rows] == SCENARIOS
    assert all(row["title"] and row["setting"] in setting_models() for row in rows)


def test_table_goes_to_standard_output(no_figures):
    completed = call(*small("deep-linear"))
    assert completed.status == 0
    assert completed.err == ""
    for words in ("deep-linear on synthetic", "largest gap", "loss", "certificate holds", "cost"):
        assert words in " ".join(completed.out.split())


def test_default_folder_is_under_outputs(tmp_path, no_figures):
    completed = call(*small("kernel"), "--json")
    (folder,) = (tmp_path / "outputs" / "kernel").iterdir()
    assert json.loads(completed.out)["folder"] == str(folder.relative_to(tmp_path))
    call(*small("kernel"))
    assert len(list((tmp_path / "outputs" / "kernel").iterdir())) == 2


@pytest.mark.parametrize(("name", "samples"), [("deep-linear", 14), ("kernel", 8)])
@pytest.mark.parametrize("kind", ["npz", "csv"])
def test_data_from_a_file(name, samples, kind, tmp_path, no_figures):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((14, 3)), rng.standard_normal(14)
    file = tmp_path / f"odd [$name$]{kind}.{kind}"  # nothing in a name is markup
    if kind == "npz":
        np.savez(file, inputs=X, targets=y)
    else:
        np.savetxt(file, np.column_stack([X, y]), delimiter=",")
    options = ["--data", file, "--samples", samples, "--output", "o"]
    completed = call(*small(name), *options)
    assert completed.status == 0, completed
    assert re.search("^certificate +holds$", completed.out, re.MULTILINE)


def test_a_smaller_file_is_used_whole_and_that_is_said(tmp_path, no_figures):
    np.savetxt(tmp_path / "my.csv", np.random.default_rng(0).standard_normal((14, 3)))
    options = "--data my.csv --width 3 --depth 1 --t-end 0.5 --points 2 --step-sizes 0.25"
    options += " --rtol 1e-3 --output o"
    completed = call("network", *options.split())
    assert "my.csv has 14 samples, fewer than the 500 of the scenario" in completed.err
    assert gflow.load_run("o").summary["samples"] == 14


def test_files_of_both_kinds_give_the_same_run(tmp_path, no_figures):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((14, 3)), rng.standard_normal(14)
    np.savez("a.npz", inputs=X, targets=y)
    np.savetxt("a.csv", np.column_stack([X, y]), delimiter=",", fmt="%.17g")
    for kind in ("npz", "csv"):
        options = f"--data a.{kind} --depth 2 --points 4 --t-end 2 --rtol 1e-5 --output {kind}"
        call("deep-linear", *options.split())
    xr.testing.assert_identical(
        gflow.load_run("npz").result.drop_attrs(), gflow.load_run("csv").result.drop_attrs()
    )


@pytest.mark.slow
def test_same_seed_same_numbers_other_seed_others(no_figures):
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        call(*small("deep-linear"), "--seed", seed, "--output", folder)
    a, b, c = (gflow.load_run(f).result for f in "abc")
    xr.testing.assert_identical(a, b)
    assert not a["loss"].equals(c["loss"])


def test_an_empty_output_folder_is_accepted(tmp_path, no_figures):
    (tmp_path / "mine").mkdir()
    assert call(*small("kernel"), "--output", "mine").status == 0


def test_the_environment_sets_defaults_and_the_command_line_overrides_them(monkeypatch, no_figures):
    monkeypatch.setenv("GFLOW_DEEP_LINEAR_DEPTH", "2")
    assert json.loads(call(*small("deep-linear"), "--json").out)["depth"] == 2
    assert json.loads(call(*small("deep-linear"), "--json", "--depth", "4").out)["depth"] == 4
    monkeypatch.setenv("GFLOW_DEEP_LINEAR_DEPTH", "two")
    assert call(*small("deep-linear")).status == 2


@pytest.mark.parametrize(
    "options",
    [
        "--dtype float32 --rtol 1e-4 --atol 1e-7",
        "--method scipy:LSODA",
        "--no-estimate-error",
        "--step-sizes 0.4,0.2",
        "--outputs all --depth 1",
    ],
)
def test_valid_options_are_accepted(options, no_figures):
    assert call(*small("deep-linear"), *options.split()).status == 0


def test_an_error_that_was_not_measured_is_printed_as_not_measured(no_figures):
    completed = call(*small("deep-linear"), "--no-estimate-error")
    assert "not measured" in completed.out
    assert "nan" not in completed.out


def test_wide_network_measures_the_error_on_request(no_figures):
    options = "--widths 16 --epochs 2 --json"
    completed = call(*small("wide-network"), *options.split())
    (row,) = json.loads(completed.out)["widths"]
    assert row["solver_error"] > 0
    completed = call(*small("wide-network"), *options.split(), "--no-estimate-error")
    assert "solver_error" not in json.loads(completed.out)


def test_list_names_every_scenario():
    completed = call("list")
    assert [line.split()[0] for line in completed.out.splitlines()] == SCENARIOS


# -- converge -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", slow_except(["deep-linear", "kernel"], "deep-linear"))
def test_converge_fits_order_one(name):
    sizes = "0.1,0.05,0.025,0.0125"
    completed = call(
        "converge",
        *small(name),
        "--step-sizes",
        sizes,
        "--points",
        "3",
        "--output",
        "o",
        "--json",
        "--pdf",
    )
    assert completed.status == 0, completed
    summary = json.loads(completed.out)
    assert abs(summary["order"] - 1) < 0.05
    assert summary["order_interval"][0] <= summary["order"] <= summary["order_interval"][1]
    run = gflow.load_run("o")
    assert {f.name for f in run.path.joinpath("figures").iterdir()} == {
        f"{figure}.{suffix}" for figure in figure_names(run.path) for suffix in ("pdf", "png")
    }
    assert {"gap", "step_size"} <= figure_names(run.path)
    assert run.result.sizes["save"] == 4  # --points is used
    for variable in run.result.variables.values():
        assert variable.attrs["long_name"]
        assert variable.attrs["units"]


def test_converge_against_the_modified_flow(no_figures):
    sizes = ["--step-sizes", "0.05,0.025,0.0125", "--points", "2", "--rtol", "1e-9"]
    completed = call("converge", *small("deep-linear"), *sizes, "--modified")
    assert completed.status == 0, completed
    assert re.search(r"^modified +order 2\.", completed.out, re.MULTILINE)
    assert "gap to modified flow" in completed.out
    refused = call("converge", *small("kernel"), *sizes, "--modified")
    assert refused.status == 2
    assert "modified flow needs a flow of parameters, got KernelFlow" in refused.err
    assert "no option --modified" in call("deep-linear", "--modified").err


def test_laws_are_listed_counted_and_measured(no_figures):
    options = ["--data", "iris", "--model", "linear", "--depth", "1", "--step-sizes", "0.05,0.02"]
    completed = call("laws", *small("network"), *options)
    assert completed.status == 0
    assert "1.weightᵀ·1.weight − 0.weight·0.weightᵀ" in completed.out
    assert "10 independent laws = 28 parameters − 18 dimensions; all are found" in completed.out
    refused = call("laws", *small("kernel"))
    assert (refused.status, refused.err.count("\n")) == (2, 1)
    assert "must conserve something that is known" in refused.err


def test_converge_chooses_step_sizes(no_figures):
    completed = call("converge", *small("kernel"), "--json")
    assert len(json.loads(completed.out)["step_sizes"]) == 6


def test_converge_of_a_network(no_figures):
    options = ["--t-end", "0.5", "--step-sizes", "0.1,0.05", "--rtol", "1e-4"]
    assert call("converge", *small("wide-network"), *options).status == 0


def test_converge_prints_why_it_has_no_fit(no_figures):
    completed = call("converge", *small("kernel"), "--step-sizes", "0.1,0.05")
    assert completed.status == 0
    assert "not fitted: 2 stable step sizes with a gap, a fit needs 3" in completed.out


def test_converge_marks_unstable_sizes(no_figures):
    sizes = ["--t-end", "60", "--step-sizes", "10,0.1,0.05,0.025"]
    table = call("converge", *small("kernel"), *sizes).out
    assert "10 (unstable)" in table
    assert table.count("unstable") == 1
    rows = json.loads(call("converge", *small("kernel"), *sizes, "--json").out)["step_sizes"]
    assert [row["stable"] for row in rows] == [False, True, True, True]
    assert not rows[0]["fitted"]


# -- bad input ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("deep-liner", "did you mean 'deep-linear'"),
        ("zzz", "there is no command 'zzz'"),
        ("show kernal", "did you mean 'kernel'"),
        ("run kernal", "did you mean 'kernel'"),
        ("converge kernal", "did you mean 'kernel'"),
        ("run", "a scenario is required"),
        ("converge", "a scenario is required"),
        ("converge wide-network --data synthetic", "--t-end"),
        ("--halp", "no option --halp"),
        ("deep-linear --dept 3", "did you mean --depth"),
        ("run deep-linear --dept 3", "did you mean --depth"),
        (
            "deep-linear --set depth=3",
            "no option --set; give one value as --KEY VALUE; for several",
        ),
        ("run deep-linear --set depth=3", "use gflow sweep"),
        ("converge deep-linear --set depth=3", "use gflow sweep"),
        ("converge deep-linear --step-size 1,2", "did you mean --step-sizes"),
        ("deep-linear --depth", "requires an argument"),
        ("deep-linear --depth x", "'x' is not a valid integer"),
        ("deep-linear --depth 2.5", "'2.5' is not a valid integer"),
        ("deep-linear --depth -1", "depth: input should be greater than or equal to 1, got -1"),
        ("deep-linear --t-end nan", "t-end: input should be a finite number, got nan"),
        ("deep-linear --t-end inf", "t-end: input should be a finite number, got inf"),
        ("deep-linear --t-end 0", "t-end: input should be greater than 0"),
        ("deep-linear --step-sizes 0.1,0", "step-sizes: input should be greater than 0, got 0"),
        ("deep-linear --step-sizes nan", "step-sizes: input should be a finite number"),
        ("deep-linear --step-sizes 0.1,x", "'x' is not a valid float; separate numbers by commas"),
        ("deep-linear --step-sizes 100", "at most t_end"),
        ("deep-linear --rtol 0", "rtol: input should be greater than 0"),
        ("deep-linear --atol -1", "atol: input should be greater than or equal to 0"),
        ("deep-linear --rtol 1e-30", "float64 cannot reach rtol"),
        ("deep-linear --dtype float32 --rtol 1e-12", "float32 cannot reach rtol"),
        ("deep-linear --dtype float16", "'float16' is not one of"),
        ("deep-linear --device meta", "--device cpu"),
        ("deep-linear --device gpu", "--device cpu"),
        ("deep-linear --threads 1000000", "threads: input should be less than"),
        ("deep-linear --seed -1", "seed: input should be greater"),
        ("deep-linear --seed 9223372036854775808", "seed: input should be less"),
        ("deep-linear --method dopri6", "did you mean 'dopri8'"),
        ("deep-linear --method exact", "no closed form"),
        ("deep-linear --method euler", "step_size"),
        ("deep-linear --outputs all --hidden-width 1 --data synthetic", "hidden_width of at least"),
        ("deep-linear --data diabets", "did you mean diabetes"),
        ("deep-linear --data missing.csv", "missing.csv"),
        ("deep-linear --data missing.xyz", "missing.xyz"),
        ("run missing.toml", "cannot read the scenario file missing.toml"),
        ("kernel --data iris --samples 150", "at most 149"),
        ("network --data iris --samples 151", "at most 150"),
        ("factorization --observed 1.5", "observed: input should be less than or equal to 1"),
        ("factorization --observed 0", "observed: input should be greater than 0"),
        ("network --model mpl", "did you mean 'mlp'"),
        ("network --model nowhere:make", "must be importable, but ModuleNotFoundError"),
        ("network --data mnist:nowhere", "mnist must be read from a folder"),
        ("network --data diabetes --samples 9 --criterion cross-entropy", "needs classes"),
        ("wide-network --widths 0,4", "widths: input should be greater"),
        ("wide-network --data digits --classes 0,1,2", "two"),
        ("wide-network --data digits --classes 0", "two"),
        ("wide-network --data digits --classes 0,x", "classes"),
        ("wide-network --step-sizes 0.1,0.2", "takes one step size, got 2; keep one of them"),
        ("two-by-two --depths 1", "depths: input should be greater than or equal to 2, got 1\n"),
        ("matrix-completion --samples 99999", "at most the 10000 entries of the matrix"),
        ("incremental-learning --size 2", "has at most 2 modes, got 4"),
        ("kernel-to-rich --samples 100", "rows of X must be independent, got 100 rows of 40"),
        ("saddle-to-saddle --powers 0", "powers: input should be greater than 0, got 0.0\n"),
        ("max-margin --gap 100", "0 are 100 from the plane; use a smaller gap"),
    ],
)
def test_bad_input_is_one_line(arguments, message):
    refused(*arguments.split(), message=message)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_missing_cuda_is_reported():
    refused("deep-linear", "--device", "cuda", message="device 'cuda' cannot be used here")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("setting = 'deep-liner'", "did you mean 'deep-linear'"),
        ("data = 'iris'", "must name its setting"),
        ("setting = 'deep-linear'", "'data' is missing"),
        ("setting = 'deep-linear'\ndata = 'iris'", "'t_end' is missing"),
        ("setting = 'deep-linear'\ndata = 'iris'\nt_end = 1.0\ndeph = 3", "did you mean 'depth'"),
        ("setting = 'deep-linear'\ndata = 'iris'\nt_end = 'long'", "t-end: input"),
        ("setting = 'deep-linear'\ndata = 'iris'\nt_end = nan", "finite"),
        ("setting = 'deep-linear'\ndata = 'iris'\nt_end = true", "t-end: input should be a valid"),
        ("setting = 'deep-linear'\ndata = 'iris'\nt_end = 1.0\ndepth = true", "valid integer"),
        ("setting = 'deep-linear'\ndata = 'iris'\nt_end = 1.0\ndepth = '3'", "valid integer"),
        ("setting = 'deep-linear'\ndata = 'iris'\nt_end = 1.0\nstep_sizes = []", "step-sizes"),
        ("setting = 'deep-linear'\ndata = 3\nt_end = 1.0", "data: input should be a valid string"),
        ("setting = 'deep-linear'\ndata = 'iris'\nt_end = 1\nname = '../x'", "name: "),
        ("setting = 'deep-linear'\ndata = 'iris'\nt_end = -1\ndepth = 0", "(and 1 more)"),
        ("setting = 'wide-network'\ndata = 'synthetic'\nwidths = []", "widths"),
        ("setting = 'wide-network\n", "not valid TOML"),
        ("a = " + "[" * 5000, "lines of at most 2000 characters"),
        ("a = " + "[\n" * 5000, "not valid TOML"),
    ],
)
def test_bad_scenario_file_is_one_line(text, message, tmp_path):
    (tmp_path / "my.toml").write_text(text)
    refused("run", "my.toml", message=message)
    refused("converge", "my.toml", message=message)


@pytest.mark.parametrize("bad", ["nan", "inf"])
def test_data_that_is_not_finite_is_refused(bad, tmp_path):
    (tmp_path / "x.csv").write_text(f"1,2\n3,{bad}\n")
    refused("deep-linear", "--data", "x.csv", message=bad)


def test_data_without_targets_is_refused(tmp_path):
    np.save("x.npy", np.eye(4, 2))
    refused("deep-linear", "--data", "x.npy", message="targets")


def test_an_output_folder_that_is_not_empty_is_refused(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("mine")
    refused(*small("kernel"), "--output", "mine", message="mine is not empty")


@pytest.mark.parametrize("output", ["file", "file/run", "new/" + "n" * 300])
def test_an_output_folder_that_cannot_be_written_is_refused(output, tmp_path):
    (tmp_path / "file").write_text("")
    refused(*small("kernel"), "--output", output, message="cannot write the output folder")


def test_without_arguments_the_help_is_shown():
    completed = call()
    assert completed.status == 2
    assert completed.out == ""
    assert "deep-linear" in completed.err


# -- other exit statuses ------------------------------------------------------------------


def test_a_solver_that_stops_is_status_3_and_its_partial_path_is_written():
    completed = call(*small("deep-linear"), "--max-evals", "20", "--output", "o")
    assert completed.status == 3
    assert completed.out == ""
    assert [line[:7] for line in completed.err.splitlines()] == ["gflow: "] * 2
    run = gflow.load_run("o")
    assert run.manifest["state"] == "failed"
    assert "budget of 20" in run.summary["stopped"]
    assert float(run.result["time"][-1]) == run.summary["t"]
    assert {f.stem for f in (run.path / "figures").iterdir()} == figure_names(run.path)
    assert "singular_values" in figure_names(run.path)


def test_a_certificate_that_does_not_hold_is_status_4_and_printed(monkeypatch, no_figures):
    honest = Certificate.failures

    def planted(self):
        return honest(replace(self, velocity_error=0.5))

    monkeypatch.setattr(Certificate, "failures", planted)
    completed = call(*small("kernel"), "--output", "o")
    assert completed.status == 4
    assert "DOES NOT HOLD: velocity_error 0.5" in completed.out
    assert gflow.load_run("o").summary["certificate"]["holds"] is False


def test_diverging_descent_is_status_5(no_figures):
    completed = call(*small("kernel"), "--t-end", "3000", "--step-sizes", "30", "--output", "o")
    assert completed.status == 5
    assert "diverged from step 0" in completed.out
    saved = gflow.load_run("o").summary
    assert saved["descent"][0]["stable"] is False
    assert f"2/λ_max = {saved['stability_limit']:.4g}; beyond it: 30" in completed.out
    line = "^time +t = epochs × step size, on the sum ½‖u − y‖² over 8 points"
    assert re.search(line, completed.out, re.MULTILINE)


def test_diverging_networks_are_status_5(no_figures):
    options = ["--step-sizes", "20", "--epochs", "10", "--widths", "16"]
    completed = call(*small("wide-network"), *options, "--output", "o")
    assert completed.status == 5
    assert "diverged from step 0" in completed.out
    assert "warning: the step size 20 is beyond 2/λ_max" in completed.err
    assert gflow.load_run("o").summary["widths"][0]["diverged_at"] == 0


# -- interrupted runs -------------------------------------------------------------------------


_BEFORE_FIGURES = "gflow.settings.base.Scenario.generator"


@pytest.mark.parametrize(
    ("where", "why", "status"),
    [
        (_BEFORE_FIGURES, "SIGINT", 130),
        (_BEFORE_FIGURES, "SIGTERM", 143),
        (_BEFORE_FIGURES, "time", 143),
        pytest.param("gflow.plots.figures", "SIGTERM", 143, marks=pytest.mark.slow),
    ],
)
def test_an_interruption_prints_how_to_resume(where, why, status, monkeypatch):
    if where == _BEFORE_FIGURES:
        monkeypatch.setattr(plots, "fitting_specs", lambda dataset, only=(): [])

    def interrupted(*args, **kwargs):
        raise Interrupted(why)

    with monkeypatch.context() as patch:
        patch.setattr(where, interrupted)
        completed = call(*small("deep-linear"), "--output", "run")
    assert completed.status == status
    reason = "the time limit was reached" if why == "time" else why
    expected = f"gflow: interrupted ({reason}); resume it by: gflow resume run"
    assert completed.err.strip() == expected
    listed = call("runs", ".")
    assert listed.out.split()[0] == "interrupted"
    assert "resume    gflow resume run" in call("inspect", "run").out
    resumed = call("resume", "run")
    assert resumed.status == 0, resumed.err
    assert call("runs", ".").out.split()[0] == "done"


@pytest.mark.slow
def test_a_run_resumed_after_its_walltime_has_the_same_result(no_figures):
    arguments = [*small("deep-linear"), "--t-end", "200", "--points", "50"]
    assert call(*arguments, "--output", "uninterrupted").status == 0
    completed = call(*arguments, "--output", "run", "--max-walltime", "0.1")
    assert completed.status == 143
    assert "the time limit was reached" in completed.err
    assert call("resume", "run").status == 0
    uninterrupted, run = gflow.load_run("uninterrupted"), gflow.load_run("run")
    assert uninterrupted.result.identical(run.result)
    assert run.manifest["command"] == uninterrupted.manifest["command"] == sys.argv
    assert run.manifest["started"] <= run.manifest["written"]


def test_runs_that_are_done_failed_or_missing_are_not_resumed(no_figures):
    assert call(*small("kernel"), "--output", "run").status == 0
    completed = call("resume", "run")
    assert (completed.status, completed.err.count("\n")) == (2, 1)
    assert "is done: there is nothing to resume" in completed.err
    failed = call(*small("deep-linear"), "--output", "short", "--max-evals", "9")
    assert failed.status == 3
    completed = call("resume", "short")
    assert completed.status == 2
    assert "the budget of 9 evaluations ran out" in completed.err
    assert "reason    integration stopped" in call("inspect", "short").out
    expected = "gflow: no run at nothing: manifest.json is missing; `gflow runs` lists runs\n"
    assert call("resume", "nothing").err == expected


def test_a_running_run_cannot_be_resumed(no_figures):
    arguments = [*small("kernel"), "--output", "run"]
    assert call(*arguments, "--max-walltime", "0.001").status == 143
    with contextlib.closing(store.RunFolder.reopen(Path("run"))):
        assert reading.state(Path("run")) == "running"
        completed = call("resume", "run")
    assert (completed.status, completed.err.count("\n")) == (2, 1)
    assert "is running: wait for it" in completed.err


def test_runs_are_listed_with_their_state(no_figures):
    call(*small("kernel"), "--output", "o/done")
    call(*small("deep-linear"), "--output", "o/failed", "--max-evals", "9")
    call(*small("kernel"), "--output", "o/interrupted", "--max-walltime", "0.001")
    call(*small("kernel"), "--output", "o/damaged")
    Path("o/damaged/result.nc").unlink()
    Path("o/no-run").mkdir()
    rows = json.loads(call("runs", "o", "--json").out)
    assert {Path(row["folder"]).name: row["state"] for row in rows} == {
        name: name for name in ("done", "failed", "interrupted", "damaged")
    }
    assert call("runs", "elsewhere").status == 2
    report = json.loads(call("inspect", "o/done", "--json").out)
    assert report["state"] == "done"
    assert report["summary"]["certificate"]["holds"] is True


def test_runs_of_a_new_place_are_none():
    listed = call("runs")
    assert (listed.status, listed.out, listed.err) == (0, "", "no runs in outputs/\n")
    assert call("runs", "--json").out == "[]\n"
    refused = call("runs", "outputs")
    assert refused.status == 2
    assert "FOLDER must be a folder that exists, got outputs" in refused.err


@pytest.mark.parametrize("given", ["0", "-1", "soon", "nan", "1:2:3:4", "inf"])
def test_an_invalid_time_is_refused_in_one_line(given):
    completed = call(*small("kernel"), "--max-walltime", given)
    assert (completed.status, completed.err.count("\n")) == (2, 1)
    assert "max-walltime" in completed.err


# -- as a process -------------------------------------------------------------------------


def test_process_exit_status_and_streams(tmp_path):
    command = [sys.executable, "-m", "gflow", "deep-linear", "--depth", "-1"]
    completed = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert completed.returncode == 2
    assert completed.stdout == ""
    assert completed.stderr == "gflow: depth: input should be greater than or equal to 1, got -1\n"


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from gflow.cli.main import main\n"
        "for arguments in ['--help'], ['deep-linear', '--help'], ['list']:\n"
        "    try: main(arguments)\n"
        "    except SystemExit as end: assert not end.code, end.code\n"
        "    print('END')\n"
        "heavy = {'torch', 'matplotlib', 'xarray', 'scipy', 'sklearn', 'rich'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    command = [sys.executable, "-c", code]
    completed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stderr
    *outputs, _ = completed.stdout.split("END")
    assert len(outputs) == 3
    for output in outputs:
        assert "deep-linear" in output or "--depth" in output


def test_shown_toml_has_every_field_that_is_set():
    keys = tomllib.loads(call("show", "deep-linear").out)
    assert keys["setting"] == "deep-linear"
    assert keys["depth"] == 3
    assert keys["rtol"] == 1e-8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name = "a\\u0000b"', "name: must be one line of text without control characters"),
        ("seed = " + "9" * 5000, "lines of at most 2000 characters"),
        ("hidden_width = 3_000_000", "not enough memory"),
    ],
)
def test_unusual_scenario_files(text, message, tmp_path):
    head = 'setting = "deep-linear"\ndata = "synthetic"\nt_end = 1.0\n'
    (tmp_path / "odd.toml").write_text(head + text + "\n")
    refused("run", "odd.toml", message=message)


def test_columns_that_do_not_vary(tmp_path):
    (tmp_path / "const.csv").write_text("1,1,2.5\n1,1,3.5\n1,1,1.5\n")
    refused("deep-linear", "--data", "const.csv", "--depth", "2", message="input that varies")


def test_environment_reaches_a_scenario_run_by_name(monkeypatch):
    monkeypatch.setenv("GFLOW_DEEP_LINEAR_DEPTH", "0")
    refused("run", "deep-linear", message="depth: input should be greater")


# -- the process is restored --------------------------------------------------------------
