"""Writing and reading a run's result with ``gflow.io.netcdf`` against xarray through h5netcdf.

The datasets: results of two scenarios as `gflow` writes them, and one large array, where the time
is that of the disk. Times are medians in milliseconds, both writers in turn into the same folder;
both files are compared by ``xarray.load_dataset``.

Run: python benchmarks/netcdf.py [--repeats 50]
Exit status: 0 where the results of runs take at most a third of the time, 1 otherwise.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from result_files import write_result

from gflow.io import netcdf
from gflow.runs import Job
from gflow.scenario import load_scenario

BOUND = 3.0
LARGE = (1000, 10_000)  # the shape of an array of 80 MB
SMALL = {"data": "synthetic", "samples": 20, "inputs": 3, "points": 50, "t_end": 2.0}


def datasets() -> dict[str, xr.Dataset]:
    """Return the datasets by name."""
    results = {}
    for name in ("deep-linear", "network"):
        outcome = Job(load_scenario(name, SMALL)).work(lambda stage, t_end: None)
        results[f"{name}, the result of a run"] = outcome.dataset
    states = np.random.default_rng(0).standard_normal(LARGE)
    return results | {"one array of 80 MB": xr.Dataset({"states": (("time", "state"), states)})}


def milliseconds(work: Callable[[], Any]) -> float:
    """Return how long a call takes."""
    start = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - start)


def read_by_xarray(file: Path) -> xr.Dataset:
    """Read a file as a run's result is read for users."""
    with xr.open_dataset(file, engine="h5netcdf") as opened:
        return opened.load()


def measure(dataset: xr.Dataset, repeats: int, folder: Path) -> dict[str, float]:
    """Return the medians of writing and reading one dataset both ways."""
    gflow_file, xarray_file = folder / "gflow.nc", folder / "xarray.nc"
    ways = {
        "write": lambda: netcdf.write(dataset, gflow_file),
        "xarray writes": lambda: dataset.to_netcdf(xarray_file, engine="h5netcdf"),
        "read": lambda: netcdf.read_variables(gflow_file),
        "xarray reads": lambda: read_by_xarray(gflow_file),
    }
    for work in ways.values():
        work()
    xr.testing.assert_identical(xr.load_dataset(gflow_file), xr.load_dataset(xarray_file))
    times = [{name: milliseconds(work) for name, work in ways.items()} for _ in range(repeats)]
    return {name: statistics.median(row[name] for row in times) for name in ways}


def main() -> int:
    """Measure, print and write the table; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=50)
    repeats = parser.parse_args().repeats
    lines = [
        "# Writing and reading results",
        "",
        "Medians in milliseconds: gflow.io.netcdf against xarray through h5netcdf.",
        "",
        "| dataset | arrays | write | by xarray | ratio | read | by xarray | ratio |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        for name, dataset in datasets().items():
            is_run = "run" in name
            row = measure(dataset, repeats if is_run else 5, Path(folder))
            written = row["xarray writes"] / row["write"]
            read = row["xarray reads"] / row["read"]
            ratios += [written, read] if is_run else []
            lines.append(
                f"| {name} | {len(dataset.variables)} | {row['write']:.1f} | "
                f"{row['xarray writes']:.1f} | {written:.1f} | {row['read']:.1f} | "
                f"{row['xarray reads']:.1f} | {read:.1f} |"
            )
    write_result("netcdf", lines, trial=repeats < 10)
    return int(min(ratios) < BOUND)


if __name__ == "__main__":
    sys.exit(main())
