"""Read runs back from their folders, which anybody may have made; nothing in them is executed."""

from __future__ import annotations

import contextlib
import json
import os
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gflow.display import Display
from gflow.errors import InputError
from gflow.io import netcdf
from gflow.io.locks import try_lock
from gflow.io.plain import as_path, read_text, require_own_file, require_plain_file
from gflow.text import printable

if TYPE_CHECKING:
    import xarray as xr


MANIFEST, METRICS = "manifest.json", "metrics.jsonl"
_MAX_TEXT = 10_000_000
_MAX_ARRAYS = 4 * 2**30


@dataclass(frozen=True, repr=False)
class Run(Display):
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

    def to_dataset(self) -> xr.Dataset:
        """Return ``result``."""
        return self.result

    def _lines(self) -> tuple[str, list[tuple[str, str]]]:
        from gflow.results.registry import find_kind
        from gflow.views.values import table_lines

        kind = find_kind(self.summary)
        verdict, lines = table_lines(kind, self.summary)
        return verdict, [*lines, ("folder", str(self.path))]

    def __repr__(self) -> str:
        certificate = self.summary.get("certificate", {})
        verdict = "certificate holds" if certificate.get("holds") else "DOES NOT HOLD"
        name, data = self.result.attrs.get("scenario"), self.result.attrs.get("data")
        return f"Run({name} on {data}, {verdict}, {len(self.result)} variables, {self.path})"


def state(path: Path) -> str:
    """Return the state of a run: ``done``, ``running``, ``interrupted``, ``failed`` or ``damaged``.

    A run whose process was killed is interrupted.
    """
    try:
        recorded = read_manifest(path).get("state")
    except InputError:
        return "damaged"
    if recorded == "done":
        complete = all((path / name).is_file() for name in ("result.nc", "summary.json"))
        return "done" if complete else "damaged"
    if recorded == "failed":
        return "failed"
    if recorded not in ("running", "interrupted"):
        return "damaged"
    try:
        require_plain_file(path / METRICS)
        with (path / METRICS).open("rb") as file:
            return "interrupted" if try_lock(file, exclusive=False) else "running"
    except (OSError, ValueError):
        return "interrupted"


def find_runs(folder: Path, depth: int = 4) -> list[Path]:
    """Find the folders of runs below a folder; links are not followed.

    Parameters
    ----------
    folder : Path
    depth : int
        The number of levels to search.

    Returns
    -------
    list of Path
        In alphabetical order.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as outputs:
    ...     _ = Path(outputs, "manifest.json").write_text("{}")
    ...     find_runs(Path(outputs)) == [Path(outputs)]
    True
    """
    runs: list[Path] = []
    level = [folder]
    for _ in range(depth):
        below = []
        for path in level:
            with contextlib.suppress(OSError):
                if (path / MANIFEST).is_file():
                    runs.append(path)
                    continue
                below += [Path(e.path) for e in os.scandir(path) if e.is_dir(follow_symlinks=False)]
        level = below
    return sorted(runs)


def read_manifest(path: Path) -> dict[str, Any]:
    """Read the manifest of a run.

    Raises
    ------
    InputError
        If it is missing or damaged.
    """
    return _read(path, MANIFEST, json.loads)


def last_metrics(path: Path) -> dict[str, Any]:
    """Read the last complete line of metrics.jsonl; return {} where there is none."""
    try:
        require_plain_file(path / METRICS)
        with (path / METRICS).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 10_000))
            lines = file.read().splitlines()
    except (OSError, ValueError):
        return {}
    for line in reversed(lines):
        with contextlib.suppress(ValueError, RecursionError):
            values = json.loads(line)
            if isinstance(values, dict):
                return values
    return {}


def load_run(path: str | Path) -> Run:
    """Read a finished run back from its folder; nothing in it is executed.

    Parameters
    ----------
    path : str or Path
        The folder that the command printed.

    Returns
    -------
    Run

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
    gflow.errors.InputError: no run at x: manifest.json is missing; `gflow runs` lists runs
    """
    folder = as_path(path)
    manifest = read_manifest(folder)
    if manifest.get("state") in ("running", "interrupted"):
        now = state(folder)
        hint = "wait for it" if now == "running" else f"resume it by: gflow resume {folder}"
        raise InputError(f"the run at {folder} is {now} and has no result yet; {hint}")
    return Run(
        path=folder,
        manifest=manifest,
        scenario=_read(folder, "scenario.toml", tomllib.loads),
        summary=_read(folder, "summary.json", json.loads),
        result=read_dataset(folder, "result.nc"),
    )


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """Read a JSON file of a run.

    Parameters
    ----------
    folder : Path
    name : str
        The file's name in the folder.

    Returns
    -------
    dict

    Raises
    ------
    InputError
        If it is missing, damaged, too large, or not an object.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "summary.json").write_text('{"final_loss": 0.5}')
    ...     read_json(Path(folder), "summary.json")
    {'final_loss': 0.5}
    """
    return _read(folder, name, json.loads)


def read_dataset(folder: Path, name: str) -> xr.Dataset:
    """Read a netCDF file of a run into memory.

    Parameters
    ----------
    folder : Path
    name : str
        The file's name in the folder.

    Returns
    -------
    xarray.Dataset

    Raises
    ------
    InputError
        If it is missing, damaged or too large.

    Examples
    --------
    >>> read_dataset(Path("nowhere"), "result.nc")
    Traceback (most recent call last):
        ...
    gflow.errors.InputError: no run at nowhere: result.nc is missing; `gflow runs` lists runs
    """
    import xarray as xr

    with (
        _checked_netcdf(folder, name) as file,
        xr.open_dataset(file, engine="h5netcdf") as opened,
    ):
        return opened.load()


def read_variables(
    folder: Path, name: str, like: Mapping[str, xr.Variable] | None = None
) -> dict[str, xr.Variable]:
    """Read the numeric variables of a netCDF file of a run, faster than `read_dataset`.

    Parameters
    ----------
    folder : Path
    name : str
        The file's name in the folder.
    like : mapping of str to xarray.Variable, optional
        The variables of a similar file; see `gflow.io.netcdf.read_variables`.

    Returns
    -------
    dict of str to xarray.Variable

    Raises
    ------
    InputError
        As `read_dataset`.

    Examples
    --------
    >>> read_variables(Path("nowhere"), "result.nc")
    Traceback (most recent call last):
        ...
    gflow.errors.InputError: no run at nowhere: result.nc is missing; `gflow runs` lists runs
    """
    with _checked_netcdf(folder, name) as file:
        return netcdf.read_variables(file, like)


@contextlib.contextmanager
def _checked_netcdf(folder: Path, name: str) -> Iterator[Path]:
    """Check a netCDF file and yield its path; turn every error into an InputError about it."""
    file = folder / name
    try:
        require_own_file(file)
        netcdf.require_plain_arrays(file, _MAX_ARRAYS)
        yield file
    except FileNotFoundError:
        raise _no_run(folder, name) from None
    except Exception as error:  # HDF5 raises many kinds of errors for a damaged file
        why = printable(str(error)) or type(error).__name__
        raise InputError(f"damaged run at {folder}: {name}: {why}; run it again") from None


def _no_run(folder: Path, name: str) -> InputError:
    return InputError(f"no run at {folder}: {name} is missing; `gflow runs` lists runs")


def _read(folder: Path, name: str, parse: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    file = folder / name
    try:
        require_own_file(file)
        values = parse(read_text(file, _MAX_TEXT))
    except FileNotFoundError:
        raise _no_run(folder, name) from None
    except (OSError, ValueError, RecursionError) as error:
        why = printable(str(error))
        raise InputError(f"damaged run at {folder}: {name}: {why}; run it again") from None
    if not isinstance(values, dict):
        raise InputError(
            f"damaged run at {folder}: {name} must be an object with keys; run it again"
        )
    return values
