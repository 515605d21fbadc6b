"""Files appear complete or not at all, and a failed write is an error of one line."""

import json

import pytest
import xarray as xr
from matplotlib.figure import Figure

from gflow.errors import OutputError
from gflow.io.atomic import Folder, cannot_write

DATA = xr.Dataset({"a": ("x", [1.0, 2.0], {"long_name": "a", "units": "1"})})


class ResultFolder(Folder):
    def __init__(self, path):
        self.path = path


def files(path):
    return sorted(str(f.relative_to(path)) for f in path.rglob("*"))


def test_each_kind_of_file_is_written(tmp_path):
    folder = ResultFolder(tmp_path)
    folder.write_text("a.txt", "ü\udcff")
    folder.write_json("a.json", {"nan": float("nan"), "far": float("inf")})
    folder.write_dataset("a.nc", DATA)
    folder.write_figure("loss", Figure(), ["png", "pdf"])
    assert (tmp_path / "a.txt").read_text("utf-8") == "ü\\udcff"
    assert json.loads((tmp_path / "a.json").read_text()) == {"nan": None, "far": "inf"}
    xr.testing.assert_identical(xr.load_dataset(tmp_path / "a.nc"), DATA)
    assert files(tmp_path / "figures") == ["loss.pdf", "loss.png"]
    assert len(files(tmp_path)) == 6


def test_the_previous_file_is_preserved_under_its_name(tmp_path):
    folder = ResultFolder(tmp_path)
    for text in ("first", "second"):
        folder.write("now", lambda path, text=text: path.write_text(text), before="previous")
    assert (tmp_path / "now").read_text() == "second"
    assert (tmp_path / "previous").read_text() == "first"


def test_a_removed_folder_is_not_created_again(tmp_path):
    with pytest.raises(OutputError, match=r"cannot write .*a\.txt: No such file"):
        ResultFolder(tmp_path / "gone").write_text("a.txt", "")
    assert files(tmp_path) == []


def test_the_message_names_the_file_and_the_reason(tmp_path):
    assert cannot_write(tmp_path / "a", OSError("odd")) == f"cannot write {tmp_path / 'a'}: odd"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("case", ["text", "dataset", "figure", "replace"])
def test_a_write_that_fails_half_way_leaves_no_file(case, error, tmp_path, monkeypatch):
    folder = ResultFolder(tmp_path)

    def write_half(path, *args, **kwargs):
        with open(path, "wb") as file:
            file.write(b"half")
        raise error

    def write():
        if case == "text":
            monkeypatch.setattr("pathlib.Path.write_text", write_half)
            folder.write_text("manifest.json", "{}")
        elif case == "replace":
            monkeypatch.setattr("pathlib.Path.replace", write_half)
            folder.write_text("manifest.json", "{}")
        elif case == "dataset":
            monkeypatch.setattr("gflow.io.netcdf.write", lambda dataset, path: write_half(path))
            folder.write_dataset("result.nc", DATA)
        else:
            monkeypatch.setattr(Figure, "savefig", lambda self, path, **k: write_half(path))
            folder.write_figure("loss", Figure(), ["png", "pdf"])

    with pytest.raises((OutputError, KeyboardInterrupt)) as caught:
        write()
    if isinstance(error, OSError):
        assert isinstance(caught.value, OutputError)
        assert "No space left on device" in str(caught.value)
        assert "\n" not in str(caught.value)
    assert [f for f in files(folder.path) if f != "figures"] == []


def test_a_failed_write_preserves_the_old_file(tmp_path, monkeypatch):
    folder = ResultFolder(tmp_path)
    folder.write_text("a.txt", "old")

    def fails(*args):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.fsync", fails)
    with pytest.raises(OutputError, match="Input/output error"):
        folder.write_text("a.txt", "new")
    assert (folder.path / "a.txt").read_text() == "old"
    assert files(folder.path) == ["a.txt"]
