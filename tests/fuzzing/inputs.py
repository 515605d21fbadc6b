"""Strategies for hostile inputs; every valid problem among them is small.

Numbers are small, or so large that they must be refused at once: with those between, a valid
scenario could take hours.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import io
import itertools
import json
import signal
import struct
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import tomli_w
from hypothesis import strategies as st

from gflow.errors import Interrupted
from gflow.runs import checkpoints
from gflow.runs import runner as running
from gflow.scenario import scenario_names, setting_model, validate
from tests.fuzzing.observing import VICTIM, Case, Content, Folder, Link, Pipe

_COMMON = {"points": 3, "method": "dopri5", "rtol": 1e-3, "atol": 1e-6, "max_evals": 2000}
_COMMON |= {"data": "synthetic", "inputs": 2, "estimate_error": False}
_NETWORK = {"samples": 6, "width": 3, "depth": 1, "step_sizes": [0.25], "t_end": 1.0}
BASES: dict[str, dict[str, Any]] = {
    "deep-linear": {"samples": 5, "targets": 2, "t_end": 1.0, "step_sizes": [0.25]},
    "factorization": {"size": 3, "rank": 1, "t_end": 2.0},
    "grokking": {"data": "modular:3", "width": 3, "depth": 1, "step_sizes": [0.25], "t_end": 1.0}
    | {"train_fraction": 0.5},
    "in-context": {"inputs": 2, "samples": 2, "length": 3, "t_end": 2.0, "points": 4},
    "incremental-learning": {"size": 2, "samples": 6, "modes": [1.0], "init_scales": [0.1]},
    "kernel": {"samples": 4, "test_samples": 2, "t_end": 2.0},
    "kernel-to-rich": {"samples": 2, "init_scales": [1.0], "loss_end": 1e-3},
    "lazy-to-rich": {"size": 2, "modes": [2.0], "balances": [1.0], "points": 4, "t_end": 1.0},
    "matrix-completion": {"size": 3, "rank": 1, "samples": 7, "depths": [2], "loss_end": 0.1}
    | {"seeds": 1, "init_scales": [0.1]},
    "max-margin": {"samples": 4, "log10_loss_end": -2.0},
    "network": _NETWORK,
    "implicit-regularization": _NETWORK | {"step_sizes": [0.25, 0.125]},
    "continuous-vs-discrete": _NETWORK | {"proxy": 2},
    "edge-of-stability": _NETWORK | {"t_end": 4.0, "step_sizes": [1.0]},
    "saddle-to-saddle": {"samples": 2, "inputs": 3, "powers": [2.0], "jumps": 1},
    "two-by-two": {"depths": [3], "loss_end": 0.1},
    "wide-network": {"samples": 3, "test_samples": 2, "widths": [2, 3], "seeds": 1, "epochs": 4},
}
#: Keys of which a large value is valid and takes hours, or threads.
_LONG = {"epochs", "threads", "seeds"}

_INTEGERS = [
    0,
    -1,
    1,
    2,
    3,
    5,
    10**9,
    10**9 + 1,
    2**31,
    2**63 - 1,
    2**63,
    10**40,
    -(10**9),
    16**1000,
]
_FLOATS = [0.0, -0.0, 5e-324, 1e-300, 1e-9, 0.1, 0.25, 1.0, 2.0, 1e13, 1e300, 1.7e308, -1.0]
_FLOATS += [float("inf"), float("-inf"), float("nan")]
_STRINGS = [
    "",
    ".",
    "..",
    "../../x",
    "/etc/passwd",
    "a" * 300,
    "a\nb",
    "\x1b[2J",
    "\u202egnp",
    "é漢",
]
_STRINGS += ["$\\frac$", "[bold]x[/]", "{0}%s%n", "synthetic", "iris", "wine", "mnist:.", "mnist:"]
_STRINGS += ["cifar10:..", "openml:iris", "openml:../../x", "movielens:../..", "x.csv", "~/x.npz"]
_STRINGS += [
    "os:getcwd",
    ":",
    "a:b",
    "torch.nn:Identity",
    "cpu",
    "cuda:0",
    "meta",
    "cuda:99999999999",
]
_STRINGS += [
    "mps",
    "dopri5",
    "auto",
    "exact",
    "scipy:LSODA",
    "scipy:",
    "rkc2",
    "bdf",
    "log",
    "float32",
]
_STRINGS += ["relu", "cross-entropy", "cnn", "linear", "ntk", "all", "../outside/victim.csv"]


def _nested(depth: int) -> dict[str, Any]:
    return functools.reduce(lambda table, _: {"a": table}, range(depth), {})


values = st.deferred(
    lambda: st.one_of(
        st.sampled_from(_INTEGERS),
        st.sampled_from(_FLOATS),
        st.sampled_from(_STRINGS),
        st.text(max_size=20),
        st.booleans(),
        st.dates(),
        st.lists(st.sampled_from([0.25, 0.5, 1e300, 0.0, 2, "a", "1", float("nan")]), max_size=4),
        st.dictionaries(st.text(max_size=5), st.sampled_from([1, "a", 0.5]), max_size=3),
        st.sampled_from([_nested(50), _nested(400), [[[[1]]]], [0.25] * 40]),
    )
)


# -- bytes changed -------------------------------------------------------------------------


@st.composite
def mutated(draw: st.DrawFn, original: bytes) -> bytes:
    """Draw a file with bytes changed, removed, repeated or inserted."""
    data = bytearray(original)
    for _ in range(draw(st.integers(1, 6))):
        if not data:
            break
        at = draw(st.integers(0, len(data) - 1))
        kind = draw(
            st.sampled_from(["set", "set", "set", "cut", "insert", "delete", "double", "huge"])
        )
        if kind == "set":
            data[at] = draw(st.integers(0, 255))
        elif kind == "cut":
            del data[at:]
        elif kind == "insert":
            data[at:at] = draw(st.binary(max_size=9))
        elif kind == "delete":
            del data[at : at + draw(st.integers(1, 40))]
        elif kind == "double":
            data[at:at] = data[at : at + draw(st.integers(1, 40))]
        else:
            data[at : at + 8] = struct.pack("<q", draw(st.sampled_from([-1, 2**31, 2**40, 2**62])))
    return bytes(data)


def or_mutated(original: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return st.one_of(original, original, original.flatmap(mutated))


# -- scenarios ----------------------------------------------------------------------------


@st.composite
def tables(draw: st.DrawFn) -> dict[str, Any]:
    """Draw the keys of a small scenario, some of them changed."""
    setting = draw(st.sampled_from(sorted(BASES)))
    known = sorted(setting_model(setting).model_fields)
    keys = {k: v for k, v in (_COMMON | BASES[setting]).items() if k in known}
    keys["setting"] = setting
    for _ in range(draw(st.sampled_from([0, 1, 1, 1, 2, 3]))):
        key = draw(
            st.sampled_from([*known, *known, "setting", "a", "..", "/a\n", "sweep", "__class__"])
        )
        value = draw(values)
        if not (key in _LONG and isinstance(value, int) and value > 5):
            keys[key] = value
    for key in draw(st.lists(st.sampled_from(sorted(keys)), max_size=1)):
        if key not in ("points", "max_evals", "estimate_error", "method", "rtol", "epochs"):
            del keys[key]
    return keys


def _toml(keys: dict[str, Any]) -> bytes:
    return tomli_w.dumps(keys).encode("utf-8", "surrogatepass")


scenario_bytes = st.one_of(
    tables().map(_toml),
    tables().map(_toml),
    tables().map(_toml).flatmap(mutated),
    st.binary(max_size=200),
    st.text(alphabet="[]{}.=\"'\\#,\n a1_-+xe:", max_size=120).map(str.encode),
    st.sampled_from(
        [
            b"#\n" * 60_000,
            b"[" + b"a." * 10_000 + b"a]",
            b"a." * 10_000 + b"a = 1",
            b"a = " + b"[" * 9_000,
        ]
    ),
)
_SPECIAL = st.sampled_from(
    [Link(f"../{VICTIM}"), Link("/dev/zero"), Link("a.toml"), Pipe(), Folder()]
)


@st.composite
def scenarios(draw: st.DrawFn) -> Case:
    """Draw a scenario file of any kind that is run, studied or shown, or whose help is shown."""
    content: Content = draw(_SPECIAL if draw(st.integers(0, 19)) == 0 else scenario_bytes)
    stem = draw(
        st.sampled_from(["a", "a", "a", "-a", "..", "é", "a\nb", "\x1b[2J", "$a$", "a" * 240])
    )
    command = draw(st.sampled_from(["run", "run", "run", "run", "converge", "show"]))
    arguments = [command, f"./{stem}.toml"]
    if command != "show":
        arguments += draw(st.sampled_from([[], ["--help"], ["--json"], ["--output", "out"]]))
    figures = draw(st.integers(0, 60)) == 0
    return Case("scenario", tuple(arguments), {f"{stem}.toml": content}, figures=figures)


# -- data files ---------------------------------------------------------------------------


@st.composite
def _array(draw: st.DrawFn, targets: bool) -> np.ndarray:
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    good = [(6,), (6, 1)] if targets else [(6, 2), (6, 3)]
    if draw(st.integers(0, 3)):
        shape = draw(st.sampled_from(good))
        values = rng.integers(0, 2, shape)
        return values if targets and draw(st.booleans()) else values + rng.standard_normal(shape)
    shape = draw(st.sampled_from([*good, (5, 2), (6,), (0, 2), ()]))
    array = rng.integers(0, 2, shape)
    kinds = ["f4", "f2", "i8", "u1", "?", "U2", "S2", "c16", "O", "M8[s]"]
    kind = draw(st.sampled_from(["f8", "f8", "f8", "i8", *kinds]))
    if kind == "f8":
        scale = draw(st.sampled_from([1.0, 1e300, 1e-300, 1e-160, np.nan, np.inf]))
        with np.errstate(all="ignore"):
            return rng.standard_normal(shape) * scale
    return array.astype(kind)


def _npy_of(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@st.composite
def npy(draw: st.DrawFn) -> bytes:
    """Draw an array file, or a false header before a few bytes."""
    if draw(st.booleans()):
        return _npy_of(draw(_array(targets=draw(st.booleans()))))
    descr = draw(
        st.sampled_from(
            ["<f8", ">f4", "|O", "<U0", "<U4", "|V8", "<f16", "|b1", [("a", "<f8")], "x", 3]
        )
    )
    sizes = st.sampled_from([0, 1, 2, 6, -1, True, 2**31, 2**62, 10**30, 1.5, "6"])
    shape = draw(st.one_of(st.lists(sizes, max_size=4).map(tuple), sizes))
    header = repr(
        {"descr": descr, "fortran_order": draw(st.sampled_from([True, False, 3])), "shape": shape}
    )
    text = draw(
        st.sampled_from([header, header, "(" * 5000, "[" * 200, "__import__('os')", ""])
    ).encode()
    start = b"\x93NUMPY" + bytes([draw(st.sampled_from([1, 1, 2, 3, 9])), 0])
    length = draw(st.sampled_from([len(text), len(text), 0, 65535])) & 0xFFFF
    return start + struct.pack("<H", length) + text + draw(st.binary(max_size=100))


@st.composite
def npz(draw: st.DrawFn) -> bytes:
    """Draw an archive of arrays with any names."""
    names = draw(
        st.sampled_from([*[["inputs", "targets"], ["X", "y"]] * 3, ["inputs"], ["../inputs"], []])
    )
    how = draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA]))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", how) as archive:
        for name in names:
            valid = _array(targets=name in ("targets", "y")).map(_npy_of)
            archive.writestr(f"{name}.npy", draw(st.one_of(valid, valid, valid, npy())))
    return stream.getvalue()


def _csv_of(rows: list[list[str]]) -> bytes:
    return "\n".join(",".join(row) for row in rows).encode("utf-8", "surrogatepass")


_CELLS = st.sampled_from(
    [
        "1",
        "2.5",
        "-3",
        "0",
        "1e300",
        "1e999",
        "nan",
        "a",
        "b",
        "",
        '"',
        '"a,b"',
        " 4 ",
        "1_0",
        "\x00",
        "é",
        "\x1b",
    ]
)
csv = st.one_of(
    st.lists(st.lists(_CELLS, min_size=3, max_size=3), max_size=8).map(_csv_of),
    st.lists(st.lists(_CELLS, max_size=4), max_size=8).map(_csv_of),
    _array(False).map(
        lambda a: _csv_of([list(map(str, np.atleast_1d(row))) for row in np.atleast_1d(a)])
    ),
    st.binary(max_size=100),
    st.just(b'1,2,"' + b"a" * 200_000),
)


@st.composite
def mnist(draw: st.DrawFn) -> dict[str, bytes]:
    """Draw the two IDX files, gzipped or not, whose headers may be false."""
    files = {}
    sizes = st.sampled_from([6, 6, 6, 0, 1, 2**31, 2**32 - 1])
    for name, dims in (("train-images-idx3-ubyte", 3), ("train-labels-idx1-ubyte", 1)):
        shape = [draw(sizes), 2, 2][:dims] if dims == 3 else [draw(sizes)]
        body = bytes(
            i * 37 % 10 for i in range(draw(st.sampled_from([6 * 4 if dims == 3 else 6, 0, 3])))
        )
        magic = draw(st.sampled_from([bytes((0, 0, 8, dims))] * 4 + [b"\0\0\x0d\x03", b"\x80\x04"]))
        content = magic + struct.pack(f">{dims}I", *shape) + body
        if draw(st.booleans()):
            files[f"{name}.gz"] = draw(or_mutated(st.just(gzip.compress(content, mtime=0))))
        else:
            files[name] = draw(or_mutated(st.just(content)))
    return files


@st.composite
def data_files(draw: st.DrawFn) -> Case:
    """Draw a data set in any format for a small scenario."""
    form = draw(
        st.sampled_from(["npz", "npz", "npz", "npy", "csv", "csv", "mnist", "cifar10", "special"])
    )
    files: dict[str, Content] = {}
    if form == "mnist":
        files = {f"d/{k}": v for k, v in draw(mnist()).items()}
    elif form == "cifar10":
        records = st.lists(st.sampled_from([0, 1, 1, 0, 9, 11]), max_size=6).map(
            lambda labels: b"".join(
                bytes([label]) + bytes([7 * label + 1]) * 3072 for label in labels
            )
        )
        files = {
            f"d/data_batch_{i}.bin": draw(or_mutated(records))
            for i in range(draw(st.integers(0, 2)))
        }
    elif form == "special":
        name = draw(st.sampled_from(["d.csv", "d.npz", "d.npy"]))
        files = {name: draw(_SPECIAL)}
    else:
        files = {f"d.{form}": draw(or_mutated({"npz": npz(), "npy": npy(), "csv": csv}[form]))}
    name = f"{form}:d" if form in ("mnist", "cifar10") else next(iter(files))
    settings = ["kernel", "network", "wide-network"]
    if form != "cifar10":  # 3,072 columns would take long
        settings += ["deep-linear", "factorization"]
    setting = draw(st.sampled_from(settings))
    keys = dict(_COMMON, **BASES[setting]) | {"data": name}
    keys = {k: v for k, v in keys.items() if k in setting_model(setting).model_fields}
    if draw(st.booleans()):
        keys.pop("samples", None)
    if draw(st.integers(0, 5)) == 0:
        keys["classes"] = draw(st.sampled_from([["0", "1"], ["a", "b"], ["0"], [""]]))
    files["a.toml"] = _toml(keys | {"setting": setting})
    return Case("data", ("run", "a.toml", "--output", "out"), files)


# -- run folders --------------------------------------------------------------------------


@functools.cache
def run_files(stop_after: int | None = None) -> dict[str, bytes]:
    """Return the files of a run that is done, or was interrupted at a report of its progress."""
    reports = itertools.count()

    def report(t: float, loss: float) -> None:
        if next(reports) == stop_after:
            signal.raise_signal(signal.SIGTERM)

    keys = {"setting": "kernel", **_COMMON, **BASES["kernel"], "method": "tsit5", "name": "r"}
    job = running.Job(validate({k: v for k, v in keys.items() if k != "estimate_error"}, "here"))
    options = running.RunOptions(lambda name, t_end: report, draw=False)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        with contextlib.suppress(Interrupted):
            running.run(job, run, options)
        return {
            p.relative_to(run).as_posix(): p.read_bytes() for p in run.rglob("*") if p.is_file()
        }


_JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.sampled_from(_FLOATS + _INTEGERS[:-1]), st.text(max_size=8)
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


@st.composite
def _changed_json(draw: st.DrawFn, original: bytes) -> bytes:
    try:
        table = json.loads(original)
    except ValueError:
        table = {}
    for key in draw(st.lists(st.sampled_from([*table, "a"]), max_size=3)):
        table[key] = draw(_JSON)
    return json.dumps(table).encode()


@st.composite
def _changed_file(draw: st.DrawFn, name: str, original: bytes) -> Content:
    """Draw a file of a run's folder that is changed, replaced, or a link to elsewhere."""
    special = st.sampled_from(
        [
            Link(f"../../{VICTIM}"),
            Link("/dev/zero"),
            Link(name),
            Link("/etc/passwd"),
            Pipe(),
            Folder(),
            b"",
        ]
    )
    options = [
        mutated(original),
        mutated(original),
        special,
        st.binary(max_size=60),
        _JSON.map(json.dumps).map(str.encode),
    ]
    if name.endswith(".json"):
        deep = [
            b'{"a":' * 9_000,
            b'{"a": 1' + b"0" * 5_000 + b"}",
            b"[" * 9_000,
            b'{"a": NaN}',
            b"\xff",
        ]
        options += [_changed_json(original), _changed_json(original), st.sampled_from(deep)]
    if name.endswith(".toml"):
        options += [scenario_bytes, scenario_bytes]
    return draw(st.one_of(options))


@st.composite
def _changed_part(draw: st.DrawFn, original: bytes) -> bytes:
    """Draw finished pieces in a valid archive with other contents."""
    with np.load(io.BytesIO(original)) as archive:
        arrays = dict(archive)
    for name in draw(
        st.lists(st.sampled_from([*arrays, "9", "0/a", "../0", "²"]), min_size=1, max_size=2)
    ):
        if name.isdigit() and name in arrays:
            meta = draw(_changed_json(arrays[name].tobytes()))
            arrays[name] = np.frombuffer(meta, np.uint8)
        else:
            arrays[name] = draw(_array(targets=False).filter(lambda a: a.dtype.kind != "O"))
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def _full(value: float, shape: tuple[int, ...], kind: str) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.full(shape, value).astype(kind)


@st.composite
def _changed_checkpoint(draw: st.DrawFn, original: bytes) -> bytes:
    """Draw a checkpoint with a valid checksum and other contents."""
    length = int.from_bytes(original[:8], "little")
    about = json.loads(json.loads(original[8 : 8 + length])["__metadata__"]["gflow"])
    arrays = safetensors.numpy.load(original)
    kinds = st.sampled_from(["f8", "f4", "i8", "u1", "?"])
    for name in draw(st.lists(st.sampled_from([*arrays, "a"]), max_size=2)):
        shape = draw(
            st.sampled_from([(), (0,), (1,), (4,), (4, 2), arrays.get(name, np.zeros(3)).shape])
        )
        arrays[name] = _full(draw(st.sampled_from([0, 1, -7, 1e300])), shape, draw(kinds))
    if draw(st.booleans()):
        about["meta"] = json.loads(draw(_changed_json(json.dumps(about["meta"]).encode())))
    if draw(st.booleans()):
        about |= {"index": draw(st.sampled_from([0, 1, 2, -1, 10**20, "1", None]))}
    about["crc32"] = checkpoints._crc(arrays)
    return safetensors.numpy.save(arrays, {"gflow": json.dumps(about)})


@st.composite
def run_folders(draw: st.DrawFn) -> Case:
    """Draw a run's folder with one or two changed files."""
    good = run_files(draw(st.sampled_from([None, None, 0, 2, 3, 5, 9])))
    files: dict[str, Content] = {f"r/{name}": content for name, content in good.items()}
    extra = ["parts", "figures", "metrics.jsonl", ".manifest.json.part", ".result.nc.part"]
    for name in draw(
        st.lists(st.sampled_from(sorted({*good, *extra})), min_size=1, max_size=2, unique=True)
    ):
        if draw(st.integers(0, 9)) == 0 or (f"r/{name.partition('/')[0]}" in files and "/" in name):
            files.pop(f"r/{name}", None)
            continue
        original = good.get(name, b"")
        files = {k: v for k, v in files.items() if not k.startswith(f"r/{name}/")}
        if name.startswith("parts/") and draw(st.booleans()):
            files[f"r/{name}"] = draw(_changed_part(original))
        elif name.startswith("checkpoint") and draw(st.booleans()):
            files[f"r/{name}"] = draw(_changed_checkpoint(original))
        else:
            files[f"r/{name}"] = draw(_changed_file(name, original))
    commands = [["load_run", "r"], ["inspect", "r"], ["inspect", "r", "--json"], ["runs", "."]]
    commands += [["compare", "r", "r"], ["cite", "r"], ["report", "r"]]
    commands += [["runs", ".", "--json"], *[["resume", "r"]] * 4]
    return Case("run folder", tuple(draw(st.sampled_from(commands))), files, output=("r",))


# -- command lines ------------------------------------------------------------------------


@st.composite
def command_lines(draw: st.DrawFn) -> Case:
    """Draw a command with options that exist or not, and values of any kind."""
    commands = [
        *scenario_names(),
        "run",
        "converge",
        "show",
        "list",
        "--help",
        "--version",
        "kernle",
        "",
    ]
    command = draw(st.sampled_from(commands))
    arguments = [command] if draw(st.integers(0, 9)) else []
    if command in ("run", "converge", "show"):
        arguments += draw(
            st.sampled_from(
                [[], ["kernel"], ["deep-linear"], ["x.toml"], ["--help"], ["\udcff.toml"]]
            )
        )
    named = next((a for a in reversed(arguments) if a in scenario_names()), "kernel")
    model = setting_model(
        named if named in BASES else {"deep-matrix": "deep-linear"}.get(named, "wide-network")
    )
    small = dict(_COMMON, **BASES[model.setting], threads=1)
    options = {
        k: _argument(v)
        for k, v in small.items()
        if k in model.model_fields and k != "estimate_error"
    }
    if command in (*scenario_names(), "run", "converge"):
        for name, value in options.items():
            arguments += [f"--{name.replace('_', '-')}", value]
    fields = [f for f in model.model_fields if f not in _LONG]
    flags = st.one_of(
        st.sampled_from([f"--{f.replace('_', '-')}" for f in fields]),
        st.sampled_from(
            ["--json", "--help", "--no-estimate-error", "--modified", "--", "-x", "--sed", "-"]
        ),
        st.text(max_size=6),
    )
    for _ in range(draw(st.integers(0, 3))):
        arguments.append(draw(flags))
        if draw(st.booleans()):
            arguments.append(draw(st.one_of(values.map(_argument), st.text(max_size=9))))
    place = draw(
        st.sampled_from(["out", "out", "out/a/b", "out/\udcff", "out/" + "n" * 300, "blocked/a"])
    )
    if command in scenario_names():
        arguments += ["--output", place]
    files = {"blocked": b""}
    arguments = [a.replace("\0", "") for a in arguments]  # arguments of a program cannot have one
    return Case("command line", tuple(arguments), files, output=("out", "outputs", "blocked/a"))


def _argument(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else _number(value)


def _number(value: Any) -> str:
    return hex(value) if isinstance(value, int) and value.bit_length() > 10_000 else str(value)


KINDS = {
    "scenario": scenarios(),
    "data": data_files(),
    "run folder": run_folders(),
    "command line": command_lines(),
}
