"""Files appear whole or not at all; damaged ones are told in one line."""

import json
import random

import pytest
import xarray as xr

import gflow
from gflow.errors import InputError
from gflow.runs import folder as store
from gflow.runs import manifest, reading
from gflow.text import plain

DATA = xr.Dataset({"a": ("x", [1.0, 2.0], {"long_name": "a", "units": "1"})})


def write_run(path):
    folder = store.RunFolder(path)
    folder.write_text("scenario.toml", 'setting = "kernel"\nrtol = 1e-8\n')
    folder.write_json("summary.json", {"x": 1.5, "bad": float("nan"), "far": float("inf")})
    folder.write_json("manifest.json", manifest.manifest("done", {"seed": 3}, {}))
    folder.write_dataset("result.nc", DATA)
    return folder


def files(path):
    return sorted(str(f.relative_to(path)) for f in path.rglob("*"))


def test_round_trip(tmp_path):
    write_run(tmp_path / "run")
    run = gflow.load_run(str(tmp_path / "run"))
    assert run.scenario == {"setting": "kernel", "rtol": 1e-8}
    assert run.summary == {"x": 1.5, "bad": None, "far": "inf"}
    assert run.manifest["state"] == "done"
    assert run.manifest["seed"] == 3
    assert set(run.manifest["packages"]) >= {"torch", "numpy", "scipy", "xarray"}
    xr.testing.assert_identical(run.result, DATA)


def test_loaded_result_does_not_hold_the_file_open(tmp_path):
    write_run(tmp_path / "run")
    run = gflow.load_run(tmp_path / "run")
    (tmp_path / "run" / "result.nc").write_bytes(b"")
    assert run.result["a"].values.tolist() == [1.0, 2.0]


def test_discard_removes_only_the_folders_it_made(tmp_path):
    (tmp_path / "there").mkdir()
    store.RunFolder(tmp_path / "there" / "new" / "run").discard()
    assert files(tmp_path) == ["there"]
    store.RunFolder(tmp_path / "there").discard()
    assert files(tmp_path) == ["there"]
    kept = store.RunFolder(tmp_path / "there" / "new" / "run")
    kept.write_text("a.txt", "written")
    kept.discard()
    assert (kept.path / "a.txt").read_text() == "written"


def test_refuses_a_folder_that_holds_something(tmp_path):
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(InputError, match=r"is not empty; choose another --output"):
        store.RunFolder(tmp_path)
    assert files(tmp_path) == ["notes"]


@pytest.mark.parametrize("name", ["notes", "notes/run", "a/b/" + "n" * 300])
def test_refuses_what_cannot_be_a_folder(name, tmp_path):
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(InputError, match="cannot write the output folder"):
        store.RunFolder(tmp_path / name)
    assert files(tmp_path) == ["notes"]


@pytest.mark.parametrize("name", ["manifest.json", "scenario.toml", "summary.json", "result.nc"])
def test_missing_file_is_told(name, tmp_path):
    folder = write_run(tmp_path / "run")
    (folder.path / name).unlink()
    with pytest.raises(InputError, match=f"no run at .*{name} is missing"):
        gflow.load_run(folder.path)


_NOTHING_GOOD = [b"\xff\xfe\x00", b"[1, 2\n", b"a = " + b"[" * 50_000]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *((name, c) for name in ("manifest.json", "summary.json") for c in (b"", *_NOTHING_GOOD)),
        *(("scenario.toml", c) for c in _NOTHING_GOOD),
        *(("result.nc", c) for c in (b"", *_NOTHING_GOOD, b"\x89HDF\r\n\x1a\n" + b"\0" * 99)),
    ],
)
def test_damaged_file_is_told_in_one_line(name, content, tmp_path):
    folder = write_run(tmp_path / "run")
    (folder.path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"damaged run at .*{name}") as caught:
        gflow.load_run(folder.path)
    assert "\n" not in str(caught.value)


def test_deeply_nested_json_is_told(tmp_path):
    folder = write_run(tmp_path / "run")
    (folder.path / "summary.json").write_text("[" * 50_000)
    with pytest.raises(InputError, match=r"damaged run at .*summary\.json"):
        gflow.load_run(folder.path)


def test_json_that_is_no_object_is_told(tmp_path):
    folder = write_run(tmp_path / "run")
    (folder.path / "summary.json").write_text("[1, 2]")
    with pytest.raises(InputError, match=r"summary\.json must be an object with keys"):
        gflow.load_run(folder.path)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # h5netcdf's close
def test_result_cut_or_garbled_anywhere_is_told_or_read(tmp_path):
    folder = write_run(tmp_path / "run")
    file = folder.path / "result.nc"
    whole = file.read_bytes()
    dice = random.Random(0)
    lines = []
    for _ in range(40):
        broken = bytearray(whole[: dice.randrange(len(whole))] if dice.random() < 0.5 else whole)
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


def test_sizes_beyond_the_caps_are_refused(tmp_path, monkeypatch):
    folder = write_run(tmp_path / "run")
    monkeypatch.setattr(reading, "_MAX_ARRAYS", 15)
    with pytest.raises(InputError, match=r"result\.nc: it is over 15 bytes"):
        gflow.load_run(folder.path)
    monkeypatch.setattr(reading, "_MAX_TEXT", 10)
    with pytest.raises(InputError, match=r"manifest\.json: it is over 10 bytes"):
        gflow.load_run(folder.path)


def test_plain_is_json_that_any_reader_takes():
    nested = {"a": (1, float("inf")), 2: {"b": float("nan")}, "c": [True, None, "x", -2.5]}
    found = plain(nested)
    assert found == {"a": [1, "inf"], "2": {"b": None}, "c": [True, None, "x", -2.5]}
    json.dumps(found, allow_nan=False)


def test_default_folder_names_the_resolved_scenario():
    first, again = (manifest.default_folder("kernel", {"depth": 3}) for _ in range(2))
    other = manifest.default_folder("kernel", {"depth": 4})
    assert first.parts[:2] == ("outputs", "kernel")
    digest = first.name.split("-")[-1]
    assert again.name.endswith(digest)
    assert not other.name.endswith(digest)


def test_manifest_keeps_slurm_variables(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    assert manifest.manifest("done", {}, {})["slurm"]["SLURM_JOB_ID"] == "17"


def test_what_a_killed_process_was_writing_is_gone_when_its_run_goes_on(tmp_path):
    folder = store.RunFolder(tmp_path / "run")
    folder.begin({"state": "running"}, "")
    folder.close()
    half_written = [".checkpoint.safetensors.part", ".tmpmzX3k2", "parts/.000000.npz.part"]
    for name in half_written:
        file = tmp_path / "run" / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"half")
    store.RunFolder.reopen(tmp_path / "run").close()
    assert not [name for name in half_written if (tmp_path / "run" / name).exists()]
