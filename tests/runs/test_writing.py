"""Progress, results and the manifest are written into the run's folder."""

from gflow.runs import reading, runner
from gflow.runs.runner import Job, RunOptions
from tests.execution.test_checkpointing import small_scenario


def small():
    return Job(small_scenario("deep-linear"))


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
