"""Runs on disk: one folder a run, each file whole or absent.

``manifest.json`` (state, resolved scenario, versions, command line) and ``scenario.toml`` are
there from the start, ``metrics.jsonl`` and the checkpoints while the run goes on, then
``result.nc`` (labelled arrays, opens with ``xarray.open_dataset``), ``summary.json`` and
``figures/``. A file is written beside its place, flushed to disk, and renamed. The process that
writes holds a lock on ``metrics.jsonl``. Loading never runs code.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from gflow import __version__
from gflow.errors import InputError, OutputError, printable
from gflow.io import netcdf as arrays
from gflow.io.atomic import Folder, cannot_write, plain, try_lock
from gflow.io.netcdf_check import require_plain_arrays
from gflow.io.plain import read_text, require_own_file, require_plain_file

if TYPE_CHECKING:
    import xarray as xr

_PACKAGES = ("torch", "torchdiffeq", "numpy", "scipy", "xarray", "h5netcdf", "matplotlib")
_MANIFEST, _METRICS = "manifest.json", "metrics.jsonl"
_LINKS = ("parts", "figures", _METRICS)  # through which a folder made by others could lead outside
_MAX_TEXT = 10_000_000
_MAX_ARRAYS = 4 * 2**30


@dataclass(frozen=True)
class Run:
    """A run read back from its folder.

    Attributes
    ----------
    path : Path
    scenario, manifest, summary : dict
    result : xarray.Dataset
    """

    path: Path
    scenario: dict[str, Any]
    manifest: dict[str, Any]
    summary: dict[str, Any]
    result: xr.Dataset


class RunFolder(Folder):
    """A run's folder while it is written.

    Parameters
    ----------
    path : Path
        The run's own folder; made here, refused if it exists and is not empty.

    Raises
    ------
    InputError
        If the folder cannot be made or written, or holds something.
    """

    def __init__(self, path: Path):
        self.path = path
        self._metrics: IO[bytes] | None = None
        self._made = [p for p in (path, *path.parents) if not os.path.lexists(p)]
        try:
            path.mkdir(parents=True, exist_ok=True)
            occupied = any(not _is_leftover(file) for file in path.iterdir())
            with tempfile.TemporaryFile(dir=path):
                pass
        except OSError as error:
            self._remove_made()
            raise InputError(
                f"cannot write the output folder {path}: {error.strerror}; choose another --output"
            ) from None
        if occupied:
            raise InputError(f"the output folder {path} is not empty; choose another --output")

    @classmethod
    def again(cls, path: Path) -> RunFolder:
        """The folder of a run that was begun, to go on with it.

        Raises
        ------
        InputError
            If there is no run, it is not a folder of its own, or another process writes it.
        """
        read_manifest(path)
        linked = [name for name in _LINKS if (path / name).is_symlink()]
        if linked:
            raise InputError(f"{path / linked[0]} must not be a link: it may lead anywhere")
        metrics = path / _METRICS
        if metrics.exists() and not metrics.is_file():  # a pipe would wait for a reader
            raise InputError(f"{metrics} must be a plain file")
        folder = cls.__new__(cls)
        folder.path, folder._made, folder._metrics = path, [], None
        folder._lock()
        for place in (path, path / "parts", path / "figures"):
            # By a process that was killed as it wrote; safetensors has such a file of its own.
            for left in (*place.glob(".*.part"), *place.glob(".tmp??????")):
                with contextlib.suppress(OSError):  # `write` says what is wrong with it
                    left.unlink()
        return folder

    def begin(self, manifest: Mapping[str, Any], scenario: str) -> None:
        """Write what a run can be started again from, and hold the folder until `close`."""
        self._lock()
        self.write_json(_MANIFEST, manifest)
        self.write_text("scenario.toml", scenario)

    def _lock(self) -> None:
        try:
            self._metrics = (self.path / _METRICS).open("ab")
        except OSError as error:
            raise InputError(f"cannot write {self.path / _METRICS}: {error.strerror}") from None
        if not try_lock(self._metrics, alone=True):
            self.close()
            raise InputError(f"the run in {self.path} is being written by another process")

    def close(self) -> None:
        """Let go of the folder."""
        if self._metrics is not None:
            self._metrics.close()
            self._metrics = None

    def add_metrics(self, values: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl."""
        if self._metrics is None:
            return
        try:
            self._metrics.write(json.dumps(plain(values)).encode() + b"\n")
            self._metrics.flush()
        except OSError as error:
            raise OutputError(cannot_write(self.path / _METRICS, error)) from None

    def discard(self) -> None:
        """Remove the folder, and parents made for it, where no work was kept."""
        self.close()
        for name in (_MANIFEST, "scenario.toml", _METRICS):
            with contextlib.suppress(OSError):
                (self.path / name).unlink()
        self._remove_made()

    def _remove_made(self) -> None:
        for folder in self._made:  # rmdir refuses one that holds something
            with contextlib.suppress(OSError):
                folder.rmdir()


def _is_leftover(file: Path) -> bool:
    """Whether a run that was killed as it began left a file."""
    if file.name == _METRICS:
        return not file.is_symlink() and file.stat().st_size == 0
    return file.name.startswith(".") and file.name.endswith(".part")


def state(path: Path) -> str:
    """How a run stands: ``done``, ``running``, ``interrupted``, ``failed`` or ``damaged``.

    A run whose process was killed is interrupted.
    """
    try:
        found = read_manifest(path).get("state")
    except InputError:
        return "damaged"
    if found == "done":
        whole = all((path / name).is_file() for name in ("result.nc", "summary.json"))
        return "done" if whole else "damaged"
    if found == "failed":
        return "failed"
    if found not in ("running", "interrupted"):
        return "damaged"
    try:
        require_plain_file(path / _METRICS)
        with (path / _METRICS).open("rb") as file:
            return "interrupted" if try_lock(file, alone=False) else "running"
    except (OSError, ValueError):
        return "interrupted"


def find_runs(folder: Path, depth: int = 4) -> list[Path]:
    """The folders of runs in a folder, links not followed."""
    found: list[Path] = []
    level = [folder]
    for _ in range(depth):
        below = []
        for path in level:
            with contextlib.suppress(OSError):
                if (path / _MANIFEST).is_file():
                    found.append(path)
                    continue
                below += [Path(e.path) for e in os.scandir(path) if e.is_dir(follow_symlinks=False)]
        level = below
    return sorted(found)


def default_folder(name: str, resolved: Mapping[str, Any]) -> Path:
    """``outputs/<scenario>/<time>-<hash of the resolved scenario>``."""
    digest = hashlib.sha256(json.dumps(plain(resolved), sort_keys=True).encode()).hexdigest()
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S-%f")[:-3]
    return Path("outputs") / name / f"{stamp}-{digest[:8]}"


def manifest(state: str, resolved: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Where, when and with what a run was made, and the scenario it is made from."""
    import torch

    return {
        "state": state,
        **more,
        "gflow": __version__,
        "commit": _commit(),
        "written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "process": os.getpid(),
        "host": platform.node(),
        "seed": resolved.get("seed"),
        "dtype": resolved.get("dtype"),
        "device": resolved.get("device"),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": dict(_versions()),
        "slurm": {k: v for k, v in os.environ.items() if k.startswith("SLURM_")},
        "scenario": dict(resolved),
    }


@functools.cache
def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in _PACKAGES}


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a run.

    Raises
    ------
    InputError
        If there is none, or it is damaged.
    """
    return _read(path, _MANIFEST, json.loads)


def last_metrics(path: Path) -> dict[str, Any]:
    """The last whole line of metrics.jsonl; nothing where there is none."""
    try:
        require_plain_file(path / _METRICS)
        with (path / _METRICS).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 10_000))
            lines = file.read().splitlines()
    except (OSError, ValueError):
        return {}
    for line in reversed(lines):
        with contextlib.suppress(ValueError, RecursionError):
            found = json.loads(line)
            if isinstance(found, dict):
                return found
    return {}


@functools.cache
def _commit() -> str | None:
    """The commit of a source checkout gflow runs from, else None."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def load_run(path: str | Path) -> Run:
    """Read a run's folder back; nothing in it is executed.

    Parameters
    ----------
    path : str or Path
        The folder that a command printed.

    Raises
    ------
    InputError
        If the folder or a file in it is missing or damaged.

    Examples
    --------
    >>> import gflow
    >>> gflow.load_run("x")
    Traceback (most recent call last):
        ...
    gflow.errors.InputError: no run at x: manifest.json is missing; `gflow runs` lists what is there
    """
    folder = Path(path)
    found = read_manifest(folder)
    if found.get("state") in ("running", "interrupted"):
        now = state(folder)
        hint = "" if now == "running" else f"; go on with it by: gflow resume {folder}"
        raise InputError(f"the run at {folder} is {now}, it has no result yet{hint}")
    return Run(
        path=folder,
        manifest=found,
        scenario=_read(folder, "scenario.toml", tomllib.loads),
        summary=_read(folder, "summary.json", json.loads),
        result=read_dataset(folder, "result.nc"),
    )


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """A JSON file of a run.

    Raises
    ------
    InputError
        If it is missing or damaged.
    """
    return _read(folder, name, json.loads)


def read_dataset(folder: Path, name: str) -> xr.Dataset:
    """A netCDF file of a run, in memory.

    Raises
    ------
    InputError
        If it is missing, damaged or too large.
    """
    import xarray as xr

    file = folder / name
    with _as_damage(folder, name):
        require_own_file(file)
        require_plain_arrays(file, _MAX_ARRAYS)
        with xr.open_dataset(file, engine="h5netcdf") as opened:
            return opened.load()


def read_variables(
    folder: Path, name: str, like: Mapping[str, xr.Variable] | None = None
) -> dict[str, xr.Variable]:
    """The numbers in a netCDF file of a run, faster than `read_dataset`.

    Raises
    ------
    InputError
        As `read_dataset`.
    """
    file = folder / name
    with _as_damage(folder, name):
        require_own_file(file)
        require_plain_arrays(file, _MAX_ARRAYS)
        return arrays.read_variables(file, like)


@contextlib.contextmanager
def _as_damage(folder: Path, name: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise _no_run(folder, name) from None
    except Exception as error:  # HDF5 says a damaged file in many ways
        why = printable(str(error)) or type(error).__name__
        raise InputError(f"damaged run at {folder}: {name}: {why}") from None


def _no_run(folder: Path, name: str) -> InputError:
    return InputError(f"no run at {folder}: {name} is missing; `gflow runs` lists what is there")


def _read(folder: Path, name: str, parse: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    file = folder / name
    try:
        require_own_file(file)
        values = parse(read_text(file, _MAX_TEXT))
    except FileNotFoundError:
        raise _no_run(folder, name) from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"damaged run at {folder}: {name}: {printable(str(error))}") from None
    if not isinstance(values, dict):
        raise InputError(f"damaged run at {folder}: {name} is not a table of keys")
    return values
