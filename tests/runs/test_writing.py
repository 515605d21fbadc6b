"""Progress, results and the manifest are written into the run's folder."""

import json

import pytest

import gflow
from gflow import plots
from gflow.runs import reading, runner
from gflow.runs.runner import Job, RunOptions
from gflow.scenario import load_scenario
from tests.execution.test_checkpointing import small_scenario


def small():
    return Job(small_scenario("deep-linear"))


def break_the_figure(monkeypatch, name):
    def draw(ds, *args, only=(), **look):
        if name in only:
            raise RuntimeError("no such colour\nat all")
        return figures(ds, *args, only=only, **look)

    figures = plots.figures
    monkeypatch.setattr(plots, "figures", draw)


def test_a_figure_that_fails_loses_nothing_else(tmp_path, monkeypatch):
    break_the_figure(monkeypatch, "loss")
    with pytest.warns(UserWarning, match="the figure loss cannot be drawn") as seen:
        done = runner.run(small(), tmp_path / "run")
    assert len(seen) == 1
    assert "\n" not in str(seen[0].message)
    assert reading.state(tmp_path / "run") == "done"
    assert "loss" not in done.figures
    drawn = {file.stem for file in (tmp_path / "run" / "figures").glob("*.png")}
    assert drawn == set(done.figures) > {"gap"}


def test_a_stopped_run_is_failed_even_if_its_figure_fails(tmp_path, monkeypatch):
    break_the_figure(monkeypatch, "singular_values")
    job = Job(small_scenario("deep-linear").model_copy(update={"max_evals": 20}))
    with (
        pytest.warns(UserWarning, match="the figure singular_values cannot be drawn"),
        pytest.raises(gflow.IntegrationError),
    ):
        runner.run(job, tmp_path / "run")
    assert reading.state(tmp_path / "run") == "failed"
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["kind"] == "stopped"


@pytest.mark.parametrize("seeds", [1, 2])
def test_figures_of_an_ensemble_that_stopped_are_drawn(tmp_path, seeds):
    keys = {"size": 4, "rank": 1, "samples": 12, "depths": (3,), "seeds": seeds, "max_evals": 20}
    with pytest.raises(gflow.IntegrationError):
        runner.run(Job(load_scenario("matrix-completion", keys)), tmp_path / "run")
    assert reading.state(tmp_path / "run") == "failed"
    assert (tmp_path / "run" / "figures" / "invariants.png").is_file()


def test_each_line_of_the_metrics_is_json(tmp_path, monkeypatch):
    monkeypatch.setattr("gflow.runs.writing._METRICS_INTERVAL", 0.0)
    runner.run(small(), tmp_path / "run", RunOptions(draw=False))
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    last = reading.last_metrics(tmp_path / "run")
    assert len(lines) > 10
    assert set(last) == {"written", "seconds", "stage", "t", "t_end", "loss"}
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"torn": ')
    assert reading.last_metrics(tmp_path / "run") == last


def test_the_manifest_is_written_last(tmp_path, monkeypatch):
    names = []
    write = runner.RunFolder.write

    def recorded(self, name, *args, **kwargs):
        names.append(name)
        write(self, name, *args, **kwargs)

    monkeypatch.setattr(runner.RunFolder, "write", recorded)
    runner.run(small(), tmp_path / "run", RunOptions(draw=False))
    assert names[-3:] == ["result.nc", "summary.json", "manifest.json"]
