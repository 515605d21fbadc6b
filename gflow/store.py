"""Runs on disk: one folder a run, each file whole or absent.

``scenario.toml`` as resolved, ``manifest.json`` (versions, command line, state),
``result.nc`` (labelled arrays, opens with ``xarray.open_dataset``), ``summary.json`` and
``figures/``. A file is written beside its place, flushed to disk, and renamed. Loading
never runs code.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gflow import __version__
from gflow.errors import InputError, printable
from gflow.netcdf import require_plain_arrays
from gflow.reading import read_text

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

_PACKAGES = ("torch", "torchdiffeq", "numpy", "scipy", "xarray", "h5netcdf", "matplotlib")
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


class RunFolder:
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
        self._made = [p for p in (path, *path.parents) if not os.path.lexists(p)]
        try:
            path.mkdir(parents=True, exist_ok=True)
            occupied = any(path.iterdir())
            with tempfile.TemporaryFile(dir=path):
                pass
        except OSError as error:
            self.discard()
            raise InputError(
                f"cannot write the output folder {path}: {error.strerror}; choose another --output"
            ) from None
        if occupied:
            raise InputError(f"the output folder {path} is not empty; choose another --output")

    def write_text(self, name: str, text: str) -> None:
        """Write one text file, whole or not at all."""
        self._whole(name, lambda temporary: temporary.write_text(text, encoding="utf-8"))

    def write_json(self, name: str, values: Mapping[str, Any]) -> None:
        """Write one JSON file; NaN and infinity become null and strings."""
        self.write_text(name, json.dumps(plain(values), indent=2, ensure_ascii=False) + "\n")

    def write_dataset(self, name: str, dataset: xr.Dataset) -> None:
        """Write labelled arrays as one netCDF-4 file."""
        self._whole(name, lambda temporary: dataset.to_netcdf(temporary, engine="h5netcdf"))

    def write_figure(self, name: str, figure: Figure) -> None:
        """Write a figure as ``figures/NAME.png`` and ``figures/NAME.pdf``."""
        for kind in ("png", "pdf"):
            draw = functools.partial(figure.savefig, format=kind, dpi=200)
            self._whole(f"figures/{name}.{kind}", draw)

    def _whole(self, name: str, write: Callable[[Path], object]) -> None:
        target = self.path / name
        temporary = target.with_name(f".{target.name}.part")
        try:
            target.parent.mkdir(exist_ok=True)
            write(temporary)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(target)
        except OSError as error:
            raise InputError(f"cannot write {target}: {error.strerror or error}") from None
        finally:  # still there if anything failed, an interruption included
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove the folder, and parents made for it, where nothing was written."""
        for folder in self._made:  # rmdir refuses one that holds something
            with contextlib.suppress(OSError):
                folder.rmdir()


def plain(value: Any) -> Any:
    """A value with NaN as None and infinities as strings, so that any JSON reader takes it.

    Examples
    --------
    >>> plain({"a": [1.0, float("nan"), float("-inf")]})
    {'a': [1.0, None, '-inf']}
    """
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return value


def default_folder(name: str, resolved: Mapping[str, Any]) -> Path:
    """``outputs/<scenario>/<time>-<hash of the resolved scenario>``."""
    digest = hashlib.sha256(json.dumps(plain(resolved), sort_keys=True).encode()).hexdigest()
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S-%f")[:-3]
    return Path("outputs") / name / f"{stamp}-{digest[:8]}"


def manifest(state: str, resolved: Mapping[str, Any]) -> dict[str, Any]:
    """Where, when and with what a run was made."""
    import torch

    return {
        "state": state,
        "gflow": __version__,
        "commit": _commit(),
        "written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "seed": resolved.get("seed"),
        "dtype": resolved.get("dtype"),
        "device": resolved.get("device"),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "slurm": {k: v for k, v in os.environ.items() if k.startswith("SLURM_")},
    }


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
    >>> gflow.load_run("no/such/run")
    Traceback (most recent call last):
        ...
    gflow.errors.InputError: no run at no/such/run: manifest.json is missing
    """
    folder = Path(path)
    return Run(
        path=folder,
        manifest=_read(folder, "manifest.json", json.loads),
        scenario=_read(folder, "scenario.toml", tomllib.loads),
        summary=_read(folder, "summary.json", json.loads),
        result=_read_dataset(folder, "result.nc"),
    )


def _read_dataset(folder: Path, name: str) -> xr.Dataset:
    import xarray as xr

    file = folder / name
    try:
        _require_own(file)
        require_plain_arrays(file, _MAX_ARRAYS)
        with xr.open_dataset(file, engine="h5netcdf") as opened:
            return opened.load()
    except FileNotFoundError:
        raise InputError(f"no run at {folder}: {name} is missing") from None
    except Exception as error:  # HDF5 says a damaged file in many ways
        why = printable(str(error)) or type(error).__name__
    raise InputError(f"damaged run at {folder}: {name}: {why}")


def _read(folder: Path, name: str, parse: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    file = folder / name
    try:
        _require_own(file)
        values = parse(read_text(file, _MAX_TEXT))
    except FileNotFoundError:
        raise InputError(f"no run at {folder}: {name} is missing") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"damaged run at {folder}: {name}: {printable(str(error))}") from None
    if not isinstance(values, dict):
        raise InputError(f"damaged run at {folder}: {name} is not a table of keys")
    return values


def _require_own(file: Path) -> None:
    """Raise ValueError for a link, which leads out of the run's folder."""
    if file.is_symlink():
        raise ValueError("it is a link")
