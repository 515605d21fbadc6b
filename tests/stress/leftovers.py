"""Read the folder of a run: when the run was stopped, damaged files, and differences."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import safetensors.numpy
import xarray as xr

# Entries in which two runs of the same scenario may differ.
_MAY_DIFFER = ("wall_seconds", "folder")
_CHECKPOINTS = ("parts", "checkpoint.safetensors", "checkpoint.previous.safetensors")


def progress_of(folder: Path) -> str:
    """Return how far a run had come when it was stopped, judged by its files."""
    if not folder.exists():
        return "before its folder"
    if any(folder.rglob(".*.part")):
        return "while writing a file"
    if not (folder / "manifest.json").exists():
        return "before its manifest"
    if (folder / "result.nc").exists():
        return "while writing its results"
    checkpoints = [*folder.glob("parts/*"), *folder.glob("checkpoint*")]
    return "computing, with checkpoints" if checkpoints else "computing, without checkpoints"


def unreadable(folder: Path) -> Iterator[str]:
    """Yield every file that the reader of its format cannot read, and why."""
    for file in sorted(folder.rglob("*")):
        read = _READERS.get(file.suffix)
        if read is None or file.name.startswith("."):
            continue
        try:
            read(file)
        except Exception as error:
            yield f"{file.relative_to(folder)} is unreadable: {type(error).__name__}: {error}"


def _npz(file: Path) -> None:
    with np.load(file, allow_pickle=False) as arrays:
        for name in arrays:
            arrays[name]


def _text(parse: Callable[[str], Any]) -> Callable[[Path], Any]:
    return lambda file: parse(file.read_text(encoding="utf-8"))


_READERS: dict[str, Callable[[Path], Any]] = {
    ".npz": _npz,
    ".safetensors": safetensors.numpy.load_file,
    ".nc": lambda file: xr.load_dataset(file, engine="h5netcdf"),
    ".json": _text(json.loads),
    ".toml": _text(tomllib.loads),
    ".png": plt.imread,
    ".jsonl": _text(lambda text: [json.loads(line) for line in text.splitlines()]),
}


def differences(before: Path, after: Path, *, killed: bool = False) -> list[str]:
    """Return the differences between two finished runs; none if they are equal to the last bit.

    ``killed`` says that ``after`` was killed after it was done and before it removed its
    checkpoints.
    """
    errors = []
    for folder in (before, after):
        errors += list(unreadable(folder))
        if any(folder.rglob(".*.part")):
            errors.append(f"{folder} has an unfinished file")
    ignored = {"figures", *(_CHECKPOINTS if killed else ())}
    names = [{f.name for f in folder.iterdir()} - ignored for folder in (before, after)]
    if names[0] != names[1]:
        errors.append(f"files in only one of them: {sorted(names[0] ^ names[1])}")
    if errors:
        return errors
    errors += _compare_arrays(
        *(xr.load_dataset(f / "result.nc", engine="h5netcdf") for f in (before, after))
    )
    errors += _compare_values(
        *(json.loads((f / "summary.json").read_text()) for f in (before, after))
    )
    return errors


def _compare_arrays(before: xr.Dataset, after: xr.Dataset) -> Iterator[str]:
    if set(before.variables) != set(after.variables) or before.attrs != after.attrs:
        yield "result.nc has other variables or attributes"
        return
    for name in before.variables:
        a, b = before[name], after[name]
        if a.dtype != b.dtype or a.dims != b.dims or a.attrs != b.attrs:
            yield f"result.nc: {name} has another type, other dimensions or attributes"
        elif name not in _MAY_DIFFER and not _same_bits(a.values, b.values):
            difference = np.nanmax(np.abs(a.values - b.values)) if a.dtype.kind == "f" else "?"
            yield f"result.nc: {name} differs by up to {difference}"


def _same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Return whether two arrays are equal to the bit, where they are not both NaN."""
    if a.dtype.kind != "f" or a.shape != b.shape:
        return a.shape == b.shape and a.tolist() == b.tolist()
    numbers = ~np.isnan(a)
    return np.array_equal(numbers, ~np.isnan(b)) and a[numbers].tobytes() == b[numbers].tobytes()


def _compare_values(before: Any, after: Any, at: str = "summary.json") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(after, dict) and before.keys() == after.keys():
        for key in before.keys() - set(_MAY_DIFFER):
            yield from _compare_values(before[key], after[key], f"{at}: {key}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for k, (a, b) in enumerate(zip(before, after, strict=True)):
            yield from _compare_values(a, b, f"{at}[{k}]")
    elif before != after and not (_is_nan(before) and _is_nan(after)):
        yield f"{at}: {before} and {after}"


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
