"""What is in a run's folder: when its run was stopped, whether it is whole, and whether equal."""

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

# What two runs of the same scenario may differ in.
_OWN = ("wall_seconds", "folder")
_KEPT = ("parts", "checkpoint.safetensors", "checkpoint.previous.safetensors")


def moment(folder: Path) -> str:
    """How far a run had come when it was stopped, from what it left."""
    if not folder.exists():
        return "before its folder"
    if any(folder.rglob(".*.part")):
        return "while writing a file"
    if not (folder / "manifest.json").exists():
        return "before its manifest"
    if (folder / "result.nc").exists():
        return "while writing the end"
    kept = [*folder.glob("parts/*"), *folder.glob("checkpoint*")]
    return "in its work, some kept" if kept else "in its work, nothing kept"


def unreadable(folder: Path) -> Iterator[str]:
    """Every file that its format's own reader cannot read, and why."""
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


def differences(one: Path, other: Path, *, killed: bool = False) -> list[str]:
    """What differs between two finished runs; empty where they are the same to the last bit.

    ``killed``: the other was killed between the last word of its run, that it is done, and the
    removal of what it had kept on the way.
    """
    found = []
    for folder in (one, other):
        found += list(unreadable(folder))
        if any(folder.rglob(".*.part")):
            found.append(f"a file in the making left in {folder}")
    aside = {"figures", *(_KEPT if killed else ())}
    names = [{f.name for f in folder.iterdir()} - aside for folder in (one, other)]
    if names[0] != names[1]:
        found.append(f"files in one alone: {sorted(names[0] ^ names[1])}")
    if found:
        return found
    found += _of_arrays(
        *(xr.load_dataset(f / "result.nc", engine="h5netcdf") for f in (one, other))
    )
    found += _of_values(*(json.loads((f / "summary.json").read_text()) for f in (one, other)))
    return found


def _of_arrays(one: xr.Dataset, other: xr.Dataset) -> Iterator[str]:
    if set(one.variables) != set(other.variables) or one.attrs != other.attrs:
        yield "result.nc has other variables or attributes"
        return
    for name in one.variables:
        a, b = one[name], other[name]
        if a.dtype != b.dtype or a.dims != b.dims or a.attrs != b.attrs:
            yield f"result.nc: {name} has another type, other dimensions or attributes"
        elif name not in _OWN and not _same_bits(a.values, b.values):
            apart = np.nanmax(np.abs(a.values - b.values)) if a.dtype.kind == "f" else "?"
            yield f"result.nc: {name} differs by up to {apart}"


def _same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal to the bit, wherever not NaN in both."""
    if a.dtype.kind != "f" or a.shape != b.shape:
        return a.shape == b.shape and a.tolist() == b.tolist()
    numbers = ~np.isnan(a)
    return np.array_equal(numbers, ~np.isnan(b)) and a[numbers].tobytes() == b[numbers].tobytes()


def _of_values(one: Any, other: Any, at: str = "summary.json") -> Iterator[str]:
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        for key in one.keys() - set(_OWN):
            yield from _of_values(one[key], other[key], f"{at}: {key}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for k, (a, b) in enumerate(zip(one, other, strict=True)):
            yield from _of_values(a, b, f"{at}[{k}]")
    elif one != other and not (_is_nan(one) and _is_nan(other)):
        yield f"{at}: {one} and {other}"


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
