"""Runs read back from their folders."""

from __future__ import annotations

import contextlib
import json
import os
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gflow.errors import InputError
from gflow.io import netcdf as arrays
from gflow.io.locks import try_lock
from gflow.io.netcdf_check import require_plain_arrays
from gflow.io.plain import read_text, require_own_file, require_plain_file
from gflow.text import printable

if TYPE_CHECKING:
    import xarray as xr


MANIFEST, METRICS = "manifest.json", "metrics.jsonl"
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
        require_plain_file(path / METRICS)
        with (path / METRICS).open("rb") as file:
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
                if (path / MANIFEST).is_file():
                    found.append(path)
                    continue
                below += [Path(e.path) for e in os.scandir(path) if e.is_dir(follow_symlinks=False)]
        level = below
    return sorted(found)


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a run.

    Raises
    ------
    InputError
        If there is none, or it is damaged.
    """
    return _read(path, MANIFEST, json.loads)


def last_metrics(path: Path) -> dict[str, Any]:
    """The last whole line of metrics.jsonl; nothing where there is none."""
    try:
        require_plain_file(path / METRICS)
        with (path / METRICS).open("rb") as file:
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
