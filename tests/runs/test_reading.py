"""Runs are read back; a file that is missing, damaged or too large is an error of one line."""

import random

import pytest

import gflow
from gflow.errors import InputError
from gflow.runs import reading
from tests.runs.test_folder import write_run


def test_loading_a_result_closes_its_file(tmp_path):
    write_run(tmp_path / "run")
    run = gflow.load_run(tmp_path / "run")
    (tmp_path / "run" / "result.nc").write_bytes(b"")
    assert run.result["a"].values.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("name", ["manifest.json", "scenario.toml", "summary.json", "result.nc"])
def test_a_missing_file_is_named(name, tmp_path):
    folder = write_run(tmp_path / "run")
    (folder.path / name).unlink()
    with pytest.raises(InputError, match=f"no run at .*{name} is missing"):
        gflow.load_run(folder.path)


_GARBAGE = [b"\xff\xfe\x00", b"[1, 2\n", b"a = " + b"[" * 50_000]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *((name, c) for name in ("manifest.json", "summary.json") for c in (b"", *_GARBAGE)),
        *(("scenario.toml", c) for c in _GARBAGE),
        *(("result.nc", c) for c in (b"", *_GARBAGE, b"\x89HDF\r\n\x1a\n" + b"\0" * 99)),
    ],
)
def test_a_damaged_file_is_named_in_one_line(name, content, tmp_path):
    folder = write_run(tmp_path / "run")
    (folder.path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"damaged run at .*{name}") as caught:
        gflow.load_run(folder.path)
    assert "\n" not in str(caught.value)


def test_deeply_nested_json_is_refused(tmp_path):
    folder = write_run(tmp_path / "run")
    (folder.path / "summary.json").write_text("[" * 50_000)
    with pytest.raises(InputError, match=r"damaged run at .*summary\.json.* again$"):
        gflow.load_run(folder.path)


def test_json_that_is_not_an_object_is_refused(tmp_path):
    folder = write_run(tmp_path / "run")
    (folder.path / "summary.json").write_text("[1, 2]")
    with pytest.raises(InputError, match=r"summary\.json must be an object with keys"):
        gflow.load_run(folder.path)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # h5netcdf's close
def test_a_result_that_is_cut_or_garbled_is_refused_or_read(tmp_path):
    folder = write_run(tmp_path / "run")
    file = folder.path / "result.nc"
    complete = file.read_bytes()
    dice = random.Random(0)
    lines = []
    for _ in range(40):
        broken = bytearray(
            complete[: dice.randrange(len(complete))] if dice.random() < 0.5 else complete
        )
        for _ in range(20):
            if broken:
                broken[dice.randrange(len(broken))] = dice.randrange(256)
        file.write_bytes(broken)
        try:
            gflow.load_run(folder.path)
        except InputError as error:
            lines.append(str(error))
    assert len(lines) >= 20
    assert not any("\n" in line for line in lines)


def test_sizes_over_the_limits_are_refused(tmp_path, monkeypatch):
    folder = write_run(tmp_path / "run")
    monkeypatch.setattr(reading, "_MAX_ARRAYS", 15)
    with pytest.raises(InputError, match=r"result\.nc: it is over 15 bytes"):
        gflow.load_run(folder.path)
    monkeypatch.setattr(reading, "_MAX_TEXT", 10)
    with pytest.raises(InputError, match=r"manifest\.json: it is over 10 bytes"):
        gflow.load_run(folder.path)


def test_runs_are_found_to_a_depth_and_links_are_not_followed(tmp_path):
    for name in ("a", "b/c", "d/e/f/g/h"):
        (tmp_path / "outputs" / name).mkdir(parents=True)
        (tmp_path / "outputs" / name / "manifest.json").write_text("{}")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "manifest.json").write_text("{}")
    (tmp_path / "outputs" / "link").symlink_to(tmp_path / "elsewhere")
    outputs = tmp_path / "outputs"
    assert reading.find_runs(outputs) == [outputs / "a", outputs / "b/c"]
    assert len(reading.find_runs(outputs, depth=6)) == 3
    assert reading.find_runs(tmp_path / "nowhere") == []


@pytest.mark.parametrize(
    ("manifest", "state"),
    [
        ('{"state": "done"}', "damaged"),  # without its results
        ('{"state": "failed"}', "failed"),
        ('{"state": "running"}', "interrupted"),  # no process holds its lock
        ('{"state": "interrupted"}', "interrupted"),
        ('{"state": "odd"}', "damaged"),
        ("{", "damaged"),
    ],
)
def test_the_state_of_a_run(manifest, state, tmp_path):
    (tmp_path / "manifest.json").write_text(manifest)
    assert reading.state(tmp_path) == state
