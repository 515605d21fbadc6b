"""Run the command line on one hostile input in this process, and observe its errors.

Errors are an undocumented exit status, an exception, more or less than one line on standard error,
a control character in the output, a hang, a write outside the output folder (every ``open`` and
rename of this process is audited, and the file trees are compared), and a program or a connection
that is started.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import sklearn.datasets
import torch

import gflow
from gflow import plots
from gflow.cli import main as cli
from gflow.errors import InputError
from gflow.text import CONTROL, printable

STATUSES = {0, 2, 3, 4, 5, 7, 130, 143}
KINDS = ("traceback", "hang", "outside", "line", "status", "started")
WAIT = 6
VICTIM = "outside/victim.csv"  # the target of links in hostile folders
_CACHE = "cache"  # torch's own
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass(frozen=True)
class Link:
    """A symbolic link in a hostile folder."""

    to: str


@dataclass(frozen=True)
class Pipe:
    """A named pipe without a writer."""


@dataclass(frozen=True)
class Folder:
    """An empty folder where a file should be."""


Content = bytes | Link | Pipe | Folder


@dataclass(frozen=True)
class Case:
    """Hostile files and a command line.

    ``arguments`` of ``("load_run", FOLDER)`` call `gflow.load_run`. Writing is allowed below
    ``output`` only. Names are relative to the working folder, which is beside ``outside``.
    """

    kind: str
    arguments: tuple[str, ...]
    files: Mapping[str, Content] = field(default_factory=dict)
    output: tuple[str, ...] = ("out", "outputs")
    figures: bool = False


@dataclass(frozen=True)
class Observation:
    """The result of a case; ``trouble`` are pairs of one of `KINDS` and a description."""

    status: object
    err: str
    trouble: tuple[tuple[str, str], ...]


class Hang(BaseException):
    """A case exceeded its time limit."""


def observe(case: Case, folder: Path, seconds: float = 20.0) -> Observation:
    """Run a case in an empty folder, and leave its files there."""
    work = folder / "work"
    _write(folder, case)
    before, trouble = _tree(folder), []
    allowed = [str((work / name).resolve()) for name in case.output]
    allowed.append(str((folder / _CACHE).resolve()))
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    status: object = None
    with contextlib.ExitStack() as stack:
        stack.enter_context(_surroundings(folder, case.arguments, case.figures))
        stack.enter_context(_watched(allowed, trouble))
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        try:
            with _alarm(seconds):
                _call(case.arguments)
        except SystemExit as exit_:
            status = exit_.code
        except Hang:
            trouble.append(("hang", f"after {seconds:g} s of work, or {WAIT * seconds:g} s"))
        except BaseException:
            trouble.append(("traceback", traceback.format_exc()))
    texts = []
    for stream in (out, err):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode("utf-8", "surrogateescape"))
    trouble += _wrong_lines(status, *texts)
    after = _tree(folder)
    changed = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    inside = (_CACHE, *(f"work/{name}" for name in case.output))
    trouble += [("outside", n) for n in changed if not _below(n, inside)]
    return Observation(status, texts[1], tuple(trouble))


def _below(name: str, folders: tuple[str, ...] | list[str]) -> bool:
    return any(name == f or name.startswith(f + os.sep) for f in folders)


def _call(arguments: tuple[str, ...]) -> None:
    if arguments[:1] != ("load_run",):
        cli.main(list(arguments))
    try:
        gflow.load_run(arguments[1])
    except InputError as error:
        print("gflow: " + printable(str(error)), file=sys.stderr)
        sys.exit(2)
    sys.exit(0)


def _wrong_lines(status: object, out: str, err: str) -> Iterator[tuple[str, str]]:
    """Yield the errors of the exit status and the output."""
    if status is None:
        return
    if status not in STATUSES:
        yield "status", repr(status)
    mild = ("gflow: warning: ", "no runs in ")
    lines = [line for line in err.split("\n") if line and not line.startswith(mild)]
    expected = {2: 1, 3: 2, 7: 1, 130: 1, 143: 1}.get(status, 0) if isinstance(status, int) else 0
    usage = status == 2 and err.startswith("Usage:")
    if not usage and (len(lines) != expected or not all(x.startswith("gflow: ") for x in lines)):
        yield "line", f"status {status}: {err!r}"
    if "Traceback" in err or "Traceback" in out:
        yield "traceback", err + out
    for text in (out, err):
        if CONTROL.search(text.replace("\n", "")):
            yield "line", f"control character in {text!r}"


# -- files ------------------------------------------------------------------------------


def _write(folder: Path, case: Case) -> None:
    for name in ("work", "home", "outside"):
        (folder / name).mkdir(parents=True)
    (folder / VICTIM).write_text("1,2\n3,4\n")
    for name, content in case.files.items():
        path = folder / "work" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Link):
            path.symlink_to(content.to)
        elif isinstance(content, Pipe):
            os.mkfifo(path)
        elif isinstance(content, Folder):
            path.mkdir(exist_ok=True)
        else:
            path.write_bytes(content)


def _tree(folder: Path) -> dict[str, tuple[object, ...]]:
    """Return the type, size and time of everything in a folder, without following links."""
    tree: dict[str, tuple[object, ...]] = {}
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.join(parent, name)
            stat = os.lstat(path)
            content = () if name in folders else (stat.st_size, stat.st_mtime_ns)
            tree[os.path.relpath(path, folder)] = (stat.st_mode, *content)
    return tree


# -- what this process does ---------------------------------------------------------------


@contextlib.contextmanager
def _surroundings(folder: Path, arguments: tuple[str, ...], figures: bool) -> Iterator[None]:
    """Set a working folder and a home, without network and figures; restore all afterwards."""
    handlers = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)}
    handlers[signal.SIGINT] = signal.getsignal(signal.SIGINT)
    cwd, environment, path, shown = os.getcwd(), dict(os.environ), [*sys.path], warnings.showwarning
    command, sys.argv = sys.argv, ["gflow", *arguments]
    drawn, fetch = plots.figures, sklearn.datasets.fetch_openml
    os.environ |= {"HOME": str(folder / "home"), "SCIKIT_LEARN_DATA": str(folder / "home")}
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / _CACHE)
    sklearn.datasets.fetch_openml = _no_network
    if not figures:
        plots.figures = lambda dataset, title="": {}
    os.chdir(folder / "work")
    try:
        with np.errstate(), warnings.catch_warnings():
            yield
    finally:
        os.chdir(cwd)
        os.environ.clear()
        os.environ |= environment
        sys.path[:], warnings.showwarning, sys.argv = path, shown, command
        plots.figures, sklearn.datasets.fetch_openml = drawn, fetch
        for number, handler in handlers.items():
            signal.signal(number, handler)
        torch.set_num_threads(1)


def _no_network(*arguments: object, **options: object) -> object:
    raise OSError("there is no network")


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Raise `Hang` after these seconds of CPU time, or `WAIT` times these seconds."""

    def ring(number: int, frame: object) -> None:
        raise Hang

    timers = {signal.ITIMER_PROF: signal.SIGPROF, signal.ITIMER_REAL: signal.SIGALRM}
    before = {number: signal.signal(number, ring) for number in timers.values()}
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, WAIT * seconds)
    try:
        yield
    finally:
        for timer, number in timers.items():
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])


_WATCH: list[tuple[list[str], list[tuple[str, str]]]] = []


@contextlib.contextmanager
def _watched(allowed: list[str], trouble: list[tuple[str, str]]) -> Iterator[None]:
    """Record every write, program and connection of this process, and errors of finalisers."""
    if not _HOOKED:
        sys.addaudithook(_audit)  # it cannot be removed
        _HOOKED.append(True)
    unraisable = sys.unraisablehook
    sys.unraisablehook = lambda unraised: trouble.append(
        ("traceback", f"ignored: {unraised.exc_value!r}")
    )
    _WATCH.append((allowed, trouble))
    try:
        yield
    finally:
        _WATCH.pop()
        sys.unraisablehook = unraisable


_HOOKED: list[bool] = []
_STARTING = ("os.system", "os.exec", "os.posix_spawn", "socket.connect", "subprocess.Popen")


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if not _WATCH:
        return
    allowed, trouble = _WATCH[-1]
    paths: list[object] = []
    if event == "open":
        path, mode, flags = arguments
        if (isinstance(flags, int) and flags & _WRITING) or set(str(mode)) & set("wax+"):
            paths = [os.path.realpath(os.fsdecode(path))] if isinstance(path, str | bytes) else []
    elif event in ("os.truncate", "os.chmod"):
        paths = [_place(arguments[0])]
    elif event in ("os.mkdir", "os.remove", "os.rmdir"):
        paths = [_place(arguments[0], arguments[-1])]
    elif event in ("os.rename", "os.link", "os.symlink"):
        paths = [_place(arguments[1])] + ([_place(arguments[0])] if event == "os.rename" else [])
    elif event in _STARTING and arguments[0] not in ("git", "uname"):  # of the manifest
        trouble.append(("started", f"{event} {arguments}"))
    for path in paths:
        if isinstance(path, str) and path != os.devnull and not _below(path, allowed):
            trouble.append(("outside", f"{event} {path}"))


def _place(path: object, folder: object = -1) -> str | None:
    """Return the absolute path of a name, with the links of its folders resolved, not its own."""
    if not isinstance(path, str | bytes | os.PathLike):
        return None
    if isinstance(folder, int) and folder >= 0:
        path = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), os.fsdecode(path))
    parent, name = os.path.split(os.path.abspath(os.fsdecode(path)))
    return os.path.join(os.path.realpath(parent), name)
