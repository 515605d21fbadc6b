"""The folder of a run: new or empty, and without traces of an attempt that failed."""

import pytest
import xarray as xr

import gflow
from gflow.errors import InputError
from gflow.runs import folder as store
from gflow.runs import manifest

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


def test_discard_removes_only_the_folders_it_made(tmp_path):
    (tmp_path / "there").mkdir()
    store.RunFolder(tmp_path / "there" / "new" / "run").discard()
    assert files(tmp_path) == ["there"]
    store.RunFolder(tmp_path / "there").discard()
    assert files(tmp_path) == ["there"]
    folder = store.RunFolder(tmp_path / "there" / "new" / "run")
    folder.write_text("a.txt", "written")
    folder.discard()
    assert (folder.path / "a.txt").read_text() == "written"


def test_a_folder_that_is_not_empty_is_refused(tmp_path):
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(InputError, match=r"is not empty; choose another --output"):
        store.RunFolder(tmp_path)
    assert files(tmp_path) == ["notes"]


@pytest.mark.parametrize("name", ["notes", "notes/run", "a/b/" + "n" * 300])
def test_paths_that_cannot_be_folders_are_refused(name, tmp_path):
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(InputError, match="cannot write the output folder"):
        store.RunFolder(tmp_path / name)
    assert files(tmp_path) == ["notes"]


def test_reopening_removes_files_that_a_killed_process_was_writing(tmp_path):
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
