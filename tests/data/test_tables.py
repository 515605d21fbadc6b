"""Files: round trips, false headers, pickles, damage, and every error message."""

from __future__ import annotations

import io
import pickle
import random
import tracemalloc
import zipfile

import numpy as np
import pytest

from gflow.data import load
from gflow.errors import InputError

X = np.arange(6.0).reshape(3, 2)


def refused(path, line):
    with pytest.raises(InputError, match=line) as caught:
        load(str(path))
    assert "\n" not in str(caught.value)


def npy(array) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asarray(array))
    return stream.getvalue()


def header(shape, dtype="<f8") -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"shape": shape, "fortran_order": False, "descr": dtype}
    )
    return stream.getvalue()


def archive(path, **members: bytes):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


# -- arrays -----------------------------------------------------------------------


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("keys", [("inputs", "targets"), ("X", "y")])
def test_npz_round_trip(tmp_path, save, keys):
    y = np.array([0.5, 1.5, -1.0])
    save(tmp_path / "a.npz", **dict(zip(keys, (X, y), strict=True)))
    data = load(str(tmp_path / "a.npz"))
    assert data.name == "a.npz"
    assert np.array_equal(data.inputs, X)
    assert np.array_equal(data.targets, y[:, None])
    assert data.classes is None
    assert data.features == ("x0", "x1")


@pytest.mark.parametrize(
    ("y", "classes", "index"),
    [
        (np.array([7, 3, 7]), ("3", "7"), [1, 0, 1]),
        (np.array([[7], [3], [7]], dtype=np.uint8), ("3", "7"), [1, 0, 1]),
        (np.array([True, False, True]), ("False", "True"), [1, 0, 1]),
        (np.array(["cat", "dog", "ant"]), ("ant", "cat", "dog"), [1, 2, 0]),
    ],
)
def test_integers_and_strings_are_classes(tmp_path, y, classes, index):
    np.savez(tmp_path / "a.npz", inputs=X, targets=y)
    data = load(str(tmp_path / "a.npz"))
    assert data.classes == classes
    assert data.targets[:, 0].tolist() == index


def test_several_columns_of_integers_are_numbers(tmp_path):
    np.savez(tmp_path / "a.npz", inputs=X.astype(np.int16), targets=np.eye(3, dtype=int))
    data = load(str(tmp_path / "a.npz"))
    assert data.classes is None
    assert np.array_equal(data.targets, np.eye(3))
    assert np.array_equal(data.inputs, X)


@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_round_trip(tmp_path, order):
    np.save(tmp_path / "a.NPY.npy", np.asarray(X, order=order))
    data = load(str(tmp_path / "a.NPY.npy"))
    assert np.array_equal(data.inputs, X)
    assert data.targets.shape == (3, 0)
    assert data.classes is None


class Bomb:
    def __reduce__(self):
        return exec, ("raise SystemExit('code ran')",)


def test_pickles_are_refused(tmp_path):
    objects = np.array([Bomb(), None], dtype=object)
    np.savez(tmp_path / "a.npz", inputs=objects)
    refused(tmp_path / "a.npz", "inputs in a.npz must hold numbers, got dtype object")
    np.save(tmp_path / "a.npy", objects)
    refused(tmp_path / "a.npy", "a.npy must hold numbers, got dtype object")
    np.savez(tmp_path / "b.npz", inputs=X, targets=objects)
    refused(tmp_path / "b.npz", "targets in b.npz must hold numbers or strings, got dtype object")
    (tmp_path / "c.npy").write_bytes(pickle.dumps(Bomb()))
    refused(tmp_path / "c.npy", "readable .npy file, but ValueError.*save it again")


@pytest.mark.parametrize("shape", [(20_000, 10_000), (2**40, 2**40), (10**30, 8)])
def test_a_false_header_allocates_no_memory(tmp_path, shape):
    small = archive(tmp_path / "a.npz", inputs=header(shape) + bytes(64))
    (tmp_path / "a.npy").write_bytes(header(shape) + bytes(64))
    tracemalloc.start()
    refused(small, "must (take at most|hold the) .* bytes")
    refused(tmp_path / "a.npy", "must (take at most|hold the) .* bytes")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


@pytest.mark.parametrize(
    ("shape", "dtype", "line"),
    [
        (
            (2**20, 2**9),
            "|u1",
            r"at most 2147483648 bytes .* shape \(1048576, 512\) of uint8, 42949",
        ),
        ((4, 4), "<f8", "must hold the 128 bytes .*, got 64; the file is damaged"),
        ((1, 4), "<f8", "must hold the 32 bytes .*, got 64; the file is damaged"),
        ((-8, -1), "<f8", r"shape \(-8, -1\)"),
        ((8,), "<c16", "must hold numbers, got dtype complex128"),
        ((8,), "<U2", "must hold numbers, got dtype <U2"),
        ((8,), "<M8[s]", "must hold numbers, got dtype datetime64"),
        ((8,), [("a", "<f8")], "must hold numbers, got dtype"),
    ],
)
def test_headers(tmp_path, shape, dtype, line):
    content = header(shape, dtype) + bytes(64)
    refused(archive(tmp_path / "a.npz", inputs=content), "inputs in a.npz " + ".*" + line)
    (tmp_path / "a.npy").write_bytes(content)
    refused(tmp_path / "a.npy", "a.npy " + ".*" + line)


def test_the_size_limit_holds_for_both_arrays_together(tmp_path, monkeypatch):
    monkeypatch.setattr("gflow.data.tables.MAX_BYTES", 2000)
    path = archive(tmp_path / "a.npz", inputs=npy(np.ones((200, 1))), targets=npy(np.ones(51)))
    refused(path, "targets in a.npz must take at most 400 bytes in memory")
    (tmp_path / "a.csv").write_text("1,2\n" * 100)
    refused(tmp_path / "a.csv", "at most 250 bytes as text, got 400; save it as .npz")


def test_a_member_with_a_false_size_is_refused(tmp_path):
    path = archive(tmp_path / "a.npz", inputs=header((1000, 1000)) + bytes(80))
    raw = path.read_bytes()
    real = (len(header((1000, 1000))) + 80).to_bytes(4, "little")
    path.write_bytes(
        raw.replace(real, (len(header((1000, 1000))) + 8_000_000).to_bytes(4, "little"))
    )
    refused(path, "readable .npz file, but ")


def test_header_of_a_newer_version_is_refused(tmp_path):
    raw = bytearray(npy(X))
    raw[6] = 3
    (tmp_path / "a.npy").write_bytes(raw)
    refused(tmp_path / "a.npy", r"plain array, got format version \(3, 0\)")
    raw[0] = 0
    (tmp_path / "a.npy").write_bytes(raw)
    refused(tmp_path / "a.npy", "readable .npy file, but ValueError: the magic string")


def test_version_2_header_is_read(tmp_path):
    with (tmp_path / "a.npy").open("wb") as stream:
        np.lib.format.write_array(stream, X, version=(2, 0))
    assert np.array_equal(load(str(tmp_path / "a.npy")).inputs, X)


@pytest.mark.parametrize(
    ("arrays", "line"),
    [
        ({f"a{i}": X for i in range(99)}, "got 'a0', .*'a8'; save"),
        ({"a": X, "b": X}, r"must hold an array inputs .*, or X .*, got 'a', 'b'; save it under"),
        ({"targets": X}, "must hold an array inputs"),
        ({}, "got no array"),
        ({"inputs": X[0]}, r"must be a matrix .* got shape \(2,\)"),
        ({"inputs": X[None]}, r"reshape to \(samples, -1\)"),
        ({"inputs": np.float64(3)}, r"got shape \(\)"),
        ({"inputs": X[:0]}, "must not be empty"),
        ({"inputs": X[:, :0]}, "at least one column"),
        ({"inputs": X, "targets": np.ones(2)}, "got 3 and 2 rows"),
        ({"inputs": X, "targets": X[None]}, r"targets of a.npz must be a matrix"),
        ({"inputs": X, "targets": np.float64(1)}, r"got shape \(\)"),
        ({"inputs": X, "targets": np.full((3, 2), "a")}, "one column of class names"),
        ({"inputs": np.where(X == 3, np.inf, X)}, r"got inf at row 1, column 1"),
        ({"inputs": X, "targets": np.array([0, np.nan, 0])}, "targets .* got nan at row 1"),
    ],
)
def test_invalid_arrays_are_refused(tmp_path, arrays, line):
    np.savez(tmp_path / "a.npz", **arrays)
    refused(tmp_path / "a.npz", line)


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".csv"])
def test_a_missing_file_is_refused(tmp_path, suffix):
    refused(tmp_path / f"a{suffix}", f"there is no file .*a{suffix}'; check the path")
    (tmp_path / f"a{suffix}").mkdir()
    refused(
        tmp_path / f"a{suffix}", f"data must be a file, got the folder .*a{suffix}'; check the path"
    )
    (tmp_path / f"b{suffix}").write_bytes(b"")
    refused(tmp_path / f"b{suffix}", "'b.* must ")
    (tmp_path / f"c{suffix}").write_bytes(b"\xff\x00garbage\n\xfe")
    refused(tmp_path / f"c{suffix}", "must be a readable .* save it again")


@pytest.mark.parametrize("suffix", [".npz", ".npy"])
def test_damage_raises_no_other_error(tmp_path, suffix):
    """Every truncation, and 300 random changes of a byte: InputError, or the data."""
    path = tmp_path / f"a{suffix}"
    if suffix == ".npz":
        np.savez_compressed(path, inputs=X, targets=np.array([1, 2, 3]))
    else:
        np.save(path, X)
    good = path.read_bytes()
    rng = random.Random(0)
    broken = [good[:size] for size in range(0, len(good), 7)]
    for _ in range(300):
        changed = bytearray(good)
        changed[rng.randrange(len(good))] = rng.randrange(256)
        broken.append(bytes(changed))
    for content in broken:
        path.write_bytes(content)
        try:
            load(str(path))
        except InputError as error:
            assert "\n" not in str(error)  # noqa: PT017
    path.write_bytes(good[: len(good) // 2])
    refused(path, "a.np")


# -- csv --------------------------------------------------------------------------


@pytest.mark.parametrize("head", ["", "a,b,c\n", "a, b ,c\n\n"])
def test_csv_numbers(tmp_path, head):
    (tmp_path / "a.csv").write_text(head + "1,2,3\n4,5.5,-6e0\n")
    data = load(str(tmp_path / "a.csv"))
    assert data.inputs.tolist() == [[1, 2], [4, 5.5]]
    assert data.targets.tolist() == [[3], [-6]]
    assert data.classes is None
    assert data.features == (("a", "b") if head else ("x0", "x1"))


@pytest.mark.parametrize("head", ["", "a,b,kind\n", '"a","b, c",kind\n'])
def test_csv_classes(tmp_path, head):
    (tmp_path / "a.csv").write_text("\ufeff" + head + "1,2,dog\r\n4,5,cat\r\n\r\n1,1, dog\r\n")
    data = load(str(tmp_path / "a.csv"))
    assert data.classes == ("cat", "dog")
    assert data.targets[:, 0].tolist() == [1, 0, 1]


def test_csv_header_of_numbers_with_a_word_at_the_end(tmp_path):
    (tmp_path / "a.csv").write_text("0,1,target\n4,5,6\n7,8,9\n")
    assert load(str(tmp_path / "a.csv")).inputs.tolist() == [[4, 5], [7, 8]]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a,b\n", "must have rows of numbers, got none"),
        ("\n\n", "got none; add samples"),
        ("1\n2\n", "at least two columns, inputs and a target, got 1"),
        ("1;2\n3;4\n", "got 1; separate them by commas"),
        ("1,2,3\n4,5\n", "3 columns in every line, got 2 in line 2; correct"),
        ("a,b\n1,2\n\n1,2,3\n", "2 columns in every line, got 3 in line 4"),
        ("1,2,3\n4,x,6\n", "numbers before its last column, got 'x' in line 2"),
        ("1,x,3\n4,5,6\n", "numbers before its last column, got 'x' in line 1"),
        ("a,b,c\n1,,3\n", "got '' in line 2"),
        ("1,2\n3,oops\n", "must hold only numbers as in line 1, got 'oops' in line 2"),
        ("1,cat\n3,4\n5,cat\n", "only words as in line 1|got 'cat' in line 3"),
        ("1,cat\n2,dog\n3,4\n", "must hold only words as in line 1, got '4' in line 3"),
        ("1,2\n3,\n", "only numbers as in line 1, got '' in line 2"),
        ("1,\n3,\n", "got '' in line 1"),
        ("a,b\n1,2\n3,nan\n", "targets of a.csv must be finite, got nan at row 1, column 0"),
        ("1,2\n1e999,4\n", "inputs of a.csv must be finite, got inf at row 1, column 0"),
        ('1,"' + "x" * 200_000 + '"\n', "readable .csv file, but Error: field larger"),
    ],
)
def test_invalid_csv_files_are_refused(tmp_path, text, line):
    (tmp_path / "a.csv").write_text(text)
    refused(tmp_path / "a.csv", line)
