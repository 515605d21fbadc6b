"""Files: round trips, false headers, pickles, damage, and every error message."""

from __future__ import annotations

import gzip
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
@pytest.mark.parametrize(
    "keys", [("inputs", "targets"), ("X", "y"), ("x_train", "y_train"), ("data", "target")]
)
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
        (np.array([b"cat", b"dog", b"ant"]), ("ant", "cat", "dog"), [1, 2, 0]),
    ],
)
def test_integers_and_strings_are_classes(tmp_path, y, classes, index):
    np.savez(tmp_path / "a.npz", inputs=X, targets=y)
    data = load(str(tmp_path / "a.npz"))
    assert data.classes == classes
    assert data.targets[:, 0].tolist() == index


def test_arrays_without_names_are_inputs_and_targets(tmp_path):
    np.savez(tmp_path / "a.npz", X, X[:, 0])
    data = load(tmp_path / "a.npz")
    assert np.array_equal(data.inputs, X)
    assert np.array_equal(data.targets, X[:, :1])


def test_several_columns_of_integers_are_numbers(tmp_path):
    np.savez(tmp_path / "a.npz", inputs=X.astype(np.int16), targets=np.eye(3, dtype=int))
    data = load(str(tmp_path / "a.npz"))
    assert data.classes is None
    assert np.array_equal(data.targets, np.eye(3))
    assert np.array_equal(data.inputs, X)


@pytest.mark.parametrize("dtype", ["<f8", ">f4", "f2", "i1", "u8", "longdouble"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_round_trip(tmp_path, order, dtype):
    np.save(tmp_path / "a.NPY.npy", np.asarray(X, dtype, order=order))
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
    refused(tmp_path / "c.npy", "'c.npy' must be a .npy file, but it is a pickle, which could run")


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
        ({"X": X, "x_train": X}, "one array of inputs .*, got 'X' and 'x_train'; leave out"),
        ({"X": X, "y": X, "labels": X}, "one of targets, got 'y' and 'labels'"),
        ({"arr_0": X, "arr_1": X, "arr_2": X}, "got 'arr_0', 'arr_1', 'arr_2'; save it under"),
        ({"X": X, "y": np.array(["1", "2.5", "3"])}, "numbers written as words, such as '1'; save"),
        (
            {"X": X, "y": np.array([b"a", b"b", b"\xe9"])},
            "readable .npz file, but Unicode",
        ),
        (
            {"X": np.zeros(3, [("a", "f8")])},
            r"dtype \[\('a', '<f8'\)\]; save its columns as a matrix",
        ),
        ({"X": X, "y": np.array(["a", "nan", "nan"])}, "missing, got 'nan' at row 1 .*2 such rows"),
        ({"X": np.ones((20, 1)), "y": np.arange(20)}, "all 20 differ; save numbers .* as floating"),
        ({"X": X, "Target": X[:, 0]}, "named targets or y, but beside 'X' it holds 'Target'; save"),
        ({}, "got no array"),
        ({"inputs": X[0]}, r"must be a matrix .* got shape \(2,\)"),
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


# -- tables as people have them ---------------------------------------------------

INPUTS = [[1.5, 2.0], [2.5, 3.0]]
#: Name, text, and inputs with targets (numbers, or the names of classes); or a word of the refusal.
TABLES = [
    ("plain", "a,b,y\n1.5,2,3\n2.5,3,4\n", (INPUTS, [3, 4])),
    ("no header", "1.5,2,3\n2.5,3,4\n", (INPUTS, [3, 4])),
    ("words are classes", "a,b,kind\n1.5,2,dog\n2.5,3,cat\n", (INPUTS, ["dog", "cat"])),
    ("semicolons", "a;b;y\n1.5;2;3\n2.5;3;4\n", (INPUTS, [3, 4])),
    ("decimal commas", "a;b;y\n1,5;2;3\n2,5;3;4,0\n", (INPUTS, [3, 4])),
    ("quoted decimal commas", 'a,b,y\n"1,5",2,3\n"2,5",3,4\n', (INPUTS, [3, 4])),
    ("tabs", "a\tb\ty\n1.5\t2\t3\n2.5\t3\t4\n", (INPUTS, [3, 4])),
    ("tabs and decimal commas", "1,5\t2\t3\n2,5\t3\t4\n", (INPUTS, [3, 4])),
    ("bars", "a|b|y\n1.5|2|3\n2.5|3|4\n", (INPUTS, [3, 4])),
    ("blanks", " 1.5  2 3\n 2.5  3\t4 \n", (INPUTS, [3, 4])),
    ("blanks after commas", "a, b, y\n1.5, 2, yes\n2.5, 3, no\n", (INPUTS, ["yes", "no"])),
    ("Excel's sep=", "sep=;\na;b;y\n1.5;2;3\n2.5;3;4\n", (INPUTS, [3, 4])),
    ("comments", "# by a tool, v. 2\n\n% m\na,b,y\n1.5,2,3\n#0,0,0\n2.5,3,4\n", (INPUTS, [3, 4])),
    ("header in a comment", "# a b y\n1.5 2 3\n2.5 3 4\n", (INPUTS, [3, 4])),
    ("byte order mark, CRLF", "\ufeffa,b,y\r\n1.5,2,3\r\n2.5,3,4\r\n", (INPUTS, [3, 4])),
    ("CR", "a,b,y\r1.5,2,3\r2.5,3,4\r", (INPUTS, [3, 4])),
    ("UTF-16", "a,b,ÿ\n1.5,2,é\n2.5,3,ü\n".encode("utf-16"), (INPUTS, ["é", "ü"])),
    ("blank lines", "a,b,y\n\n1.5,2,3\n,,\n2.5,3,4\n , ,\n", (INPUTS, [3, 4])),
    ("separators at the ends", "a,b,y,\n1.5,2,3,\n2.5,3,4,\n", (INPUTS, [3, 4])),
    ("separators after rows only", "a,b,y\n1.5,2,3,\n2.5,3,4,\n", (INPUTS, [3, 4])),
    ("bars around", "|a|b|y|\n|1.5|2|3|\n|2.5|3|4|\n", (INPUTS, [3, 4])),
    ("pandas' index", ",a,b,y\n0,1.5,2,3\n1,2.5,3,4\n", (INPUTS, [3, 4])),
    ("pandas' index, twice", ",Unnamed: 0,a,b,y\n0,7,1.5,2,3\n1,3,2.5,3,4\n", (INPUTS, [3, 4])),
    ("pandas' index and names", ",0,1,2\n0,1.5,2,3\n1,2.5,3,4\n", (INPUTS, [3, 4])),
    ("R's row names", '"a" "b" "y"\n"Mazda 4" 1.5 2 3\n"Ford" 2.5 3 4\n', (INPUTS, [3, 4])),
    ("numeric names, named target", "0,1,y\n1.5,2,3\n2.5,3,4\n", (INPUTS, [3, 4])),
    ("numeric names, floats", "0,1,2\n1.5,2.0,3\n2.5,3.0,4\n", (INPUTS, [3, 4])),
    ("numeric names, integers", "0,1,2\n1.5,2,3\n2.5,3,4\n", "line 1 .* 0,1,2, can be names"),
    ("booleans", "a,b,y\nTRUE,2,3\nfalse,3,4\n", ([[1.0, 2.0], [0.0, 3.0]], [3, 4])),
    ("booleans, no header", "True,1,yes\nFalse,0,no\n", ([[1, 1], [0, 0]], ["yes", "no"])),
    ("signs as classes", "a,y\n1,+\n2,-\n", ([[1], [2]], ["+", "-"])),
    ("equal targets", "a,b,y\n1.5,2,3\n2.5,3,3\n", (INPUTS, [3, 3])),
    (
        "large integers",
        "a,y\n123456789012345678901,3\n-7,4\n",
        ([[float(123456789012345678901)], [-7]], [3, 4]),
    ),
    ("repeated names", "a,a,y\n1.5,2,3\n2.5,3,4\n", (INPUTS, [3, 4])),
    ("commas in words", 'a,b,y\n1.5,2,"x, z"\n2.5,3,"u, v"\n', (INPUTS, ["x, z", "u, v"])),
    ("gzip", gzip.compress(b"a;b;y\n1,5;2;3\n2,5;3;4\n"), (INPUTS, [3, 4])),
    ("an integer as a float", "a,b,y\n1.5,2.,+3\n2.5e0,3E0,4\n", (INPUTS, [3, 4])),
    ("Latin-1", "a,b,y\n1.5,2,é\n2.5,3,u\n".encode("latin-1"), (INPUTS, ["é", "u"])),
    ("a missing number", "a,b,y\n1.5,2,3\n2.5,,4\n,NA,4\n", r"missing in line 4 \(column 'a'\)"),
    ("a missing label", "a,y\n1,yes\n2,NA\n3,no\n", r"missing in line 3 \(column 'y'\), got 'NA'"),
    ("an empty target", "a,y\n1,\n2,4\n", "missing in line 2"),
    ("question marks", "?,1,yes\n2,1,no\n", "missing in line 1"),
    ("NaN", "a,y\n1,nan\n2,3\n", "missing in line 2"),
    ("Excel's errors", "a,y\n#DIV/0!,2\n2,3\n", "missing in line 2"),
    ("infinity", "a,y\ninf,2\n2,3\n", "finite numbers .* 'inf' in line 2"),
    ("overflow", "a,y\n1,2\n2,1e999\n", "finite numbers .* '1e999' in line 3"),
    ("a word", "a,b,y\n1,2,3\n4,x,6\n", r"got 'x' in line 3 \(column 'b'\); correct"),
    ("a word in the first line", "1,x,3\n4,5,6\n", "got 'x' in line 1 .* none of them may be a"),
    ("categories", "a,y\nred,1\nblue,2\n", "got 'red' in line 2 .* one column of 0 and 1"),
    ("percent signs", "a,y\n50%,1\n20%,2\n", "got '50%' in line 2 .* write plain numbers"),
    ("percent signs in targets", "a,y\n1,50%\n2,20%\n", "plain numbers .* '50%' in line 2"),
    ("dates", "a,y\n1,2020-01-31\n2,2020-02-01\n", "plain numbers .* '2020-01-31' in line 2"),
    ("thousands", 'a,y\n"1,000.5",2\n3,4\n', "'1,000.5' in line 2 .* write plain numbers"),
    ("thousands or decimals", 'a,y\n"1,000",2\n3,4\n', "'1,000' in line 2 .* is 1000 .* and 1.000"),
    ("both signs", "a;y\n1,5;2\n2.5;3\n", "one decimal sign .*'1,5' in line 2 .*'2.5' in line 3"),
    ("underscores", "a,y\n1_0,2\n3,4\n", "got '1_0' in line 2"),
    ("other digits", "a,y\n\u0661,2\n3,4\n", "got '\u0661' in line 2"),
    ("a short line", "a,b,y\n1,2,3\n4,5\n", "3 columns in every line, got 2 in line 3"),
    ("a long line", "1,2,3\n4,5,6\n\n7,8,9,10\n", "3 columns in every line, got 4 in line 4"),
    (
        "an open quotation mark",
        'a,y\n1,"x\n2,z\n',
        "in pairs.* in line 2 unexpected",
    ),
    ("a repeated header", "a,y\n1,2\na,y\n3,4\n", "got 'a' in line 3"),
    ("words and numbers", "a,y\n1,cat\n2,dog\n3,4\n", "only words as in line 2, got '4' in line 4"),
    ("a comma or a blank", "1,5 cat\n2,5 dog\n", "commas and as separated by blanks; put the line"),
    ("a nameless column", ",a,y\n0.5,1,2\n0.5,2,3\n", "no name and does not number the rows"),
    ("all labels differ", "a,y\n" + "".join(f"{i},n{i}\n" for i in range(20)), "all 20 differ"),
    ("a header alone", "a,y\n", "rows of numbers, got none"),
    ("one column", "a\n1\n2\n", "at least two columns"),
    ("one column, decimal commas", "a\n1,5\n2,5\n", "at least two columns"),
    ("an empty file", "", "rows of numbers, got none"),
    (
        "git-lfs",
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n",
        "run: git lfs",
    ),
    ("a web page", "\n<!DOCTYPE html>\n<p>404, not found", "a web page"),
    ("JSON", '[{"a": 1, "y": 2}]', "JSON"),
    ("ARFF", "% iris\n@RELATION iris\n@DATA\n1,2\n", "ARFF"),
    ("a workbook", b"PK\x03\x04\x14\0\0\0[Content_Types].xml", "a spreadsheet .* save it as CSV"),
    ("a pickle", pickle.dumps([1.0, 2.0]), "a pickle"),
    ("UTF-32", "a,b,ÿ\n1.5,2,é\n2.5,3,ü\n".encode("utf-32"), (INPUTS, ["é", "ü"])),
    ("two byte order marks", "\ufeff\ufeff1.5,2,3\n\ufeff2.5,3,4\n", (INPUTS, [3, 4])),
    (
        "labels that look alike",
        "a,b,y\n1.5,2,\u00e9\n2.5,3,e\u0301\n1,1,\u200be\u0301\n",
        ([*INPUTS, [1.0, 1.0]], ["é"] * 3),
    ),
    ("a line break in a label", 'a,b,y\n1.5,2,"x\nz"\n2.5,3,u\n', (INPUTS, ["x z", "u"])),
    ("names that begin alike", "a,b,y\n1.5,2,1st\n2.5,3,2nd\n", (INPUTS, ["1st", "2nd"])),
    ("ranges", "a,b,y\n1.5,2,18-25\n2.5,3,26-35\n", (INPUTS, ["18-25", "26-35"])),
    ("thresholds", "a,b,y\n1.5,2,<=50K\n2.5,3,>50K\n", (INPUTS, ["<=50K", ">50K"])),
    ("other missing labels", "a,y\n1,x\n2,N.A.\n3,z\n", "missing in line 3"),
    ("a dash for a label", "a,y\n1,x\n2,\u2014\n3,z\n", "missing in line 3"),
    ("years above numbers", "2000,2001,2002\n1.5,2.5,3.5\n2.5,3.0,4\n", "can be names of columns"),
    ("a short header", "a,b\n1,2,3\n4,5,6\n", r"a name for every column, got 2 \(a,b\) for 3"),
    ("a long header", "a,b,c,y\n1,2,3\n4,5,6\n", "got 4 .* for 3 columns; correct the header"),
    ("a title", "My data\na,b,y\n1,2,3\n", "got 1 in line 1 and 3 below; remove what is above"),
    ("another sign in the header", "a,b,y\n1;2;3\n4;5;6\n", "got 1 in line 1 and 3 below"),
    ("units under names", "a,y\n[m],[s]\n1,2\n", r"got '\[m\]' in line 2"),
    (
        "svmlight",
        "# x\n+1 1:0.5 3:2\n-1 1:0.25\n",
        r"svmlight \(index:value pairs\); read it by sklearn",
    ),
    ("svmlight of one feature", "1 1:0.5\n2 1:0.25\n", "it is svmlight"),
    ("ARFF behind a comment", "% iris\n" * 200 + "@relation iris\n@data\n1,2\n", "it is ARFF"),
    ("UTF-16 without its mark", "a,y\n1,2\n".encode("utf-16-le"), "the byte 0 in line 1"),
]


@pytest.mark.parametrize(("text", "expected"), [t[1:] for t in TABLES], ids=[t[0] for t in TABLES])
@pytest.mark.filterwarnings("ignore:.* is (not in UTF-8|read as names)")
def test_tables_as_people_have_them(tmp_path, text, expected):
    path = tmp_path / "a.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    if isinstance(expected, str):
        refused(path, expected)
        return
    data = load(path)
    inputs, targets = expected
    assert data.inputs.tolist() == inputs
    if isinstance(targets[0], str):
        assert [data.classes[int(i)] for i in data.targets[:, 0]] == targets
    else:
        assert data.classes is None
        assert data.targets[:, 0].tolist() == targets


@pytest.mark.parametrize(
    "cells",
    [
        ("0x1F", "0x2F"),
        ("1.0D+02", "4.0D0"),
        ("1.0+100", "4.-10"),
        ("(1.5)", "(2)"),
        ("\u22121", "\u22122.5"),
        ("1-", "2-"),
        ("1/2", "3/4"),
        ("1+2j", "3j"),
        ('"=""1"""', '"=""2"""'),
        ("3 kg", "6.5 kg"),
        ("3kg", "6kg"),
        ("30°", "60°"),
        ("1.5 EUR", "2 EUR"),
        ("1 Jan 2020", "2 Feb 2020"),
        ("Jan-20", "Feb-20"),
        ("2020-01-01T00:00:00+00:00", "2020-01-02T00:00:00+00:00"),
    ],
)
def test_numbers_in_another_notation_are_no_classes(tmp_path, cells):
    path = tmp_path / "a.csv"
    path.write_text("sep=;\na;y\n1;{}\n2;{}\n".format(*cells), encoding="utf-8")
    refused(path, "names of classes, got .* in line 3; write plain numbers")
    path.write_text("sep=;\na;y\n{};1\n{};2\n".format(*cells), encoding="utf-8")
    refused(path, r"numbers before its last column, got .* in line 3 \(column 'a'\); write plain")


def test_a_target_that_is_not_the_last_column_is_reported(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("label,a,b\n1,0.5,2\n0,1.5,3\n")
    with pytest.warns(UserWarning, match="column 'label' of 'a.csv' is read as an input and the l"):
        assert load(path).features == ("label", "a")


def test_addresses_and_names_too_long_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"got the address 'https://a\.b/c\.csv'; download"):
        load("https://a.b/c.csv")
    with pytest.raises(InputError, match=r"there is no file .*; check the path"):
        load("x" * 5000 + ".csv")


@pytest.mark.parametrize("suffix", [".csv", ".TSV", ".txt", ".dat", ".data", ".csv.gz", ".txt.gz"])
def test_suffixes_of_tables_as_text(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_text("a\tb\ty\n1\t2\t3\n")
    assert load(path).features == ("a", "b")


def test_a_gzip_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("gflow.data.tables.MAX_BYTES", 2000)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"1,2\n" * 100))
    refused(tmp_path / "a.csv.gz", "at most 250 bytes as text, got more")
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"1,2\n" * 100)[:-4])
    refused(tmp_path / "a.csv.gz", "at most 250|readable .csv.gz file, but EOFError")
