"""Compare the result of every scenario with that of another commit, bit for bit.

Run: python tests/stress/same_results.py COMMIT [--only deep-linear kernel ...]

Nine scenarios with a seed and two step-size studies are run by the code of a commit, checked out
into a temporary folder, and by the code here. For each the arrays of ``result.nc`` are compared:
names, dimensions, dtypes and bits. Exit status 1 where any differs. About ten minutes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import xarray as xr

ROOT = Path(__file__).parents[2]
SCENARIOS = (
    "deep-linear",
    "deep-matrix",
    "factorization",
    "kernel",
    "network",
    "edge-of-stability",
    "continuous-vs-discrete",
    "implicit-regularization",
    "wide-network",
)
STUDIES = ("deep-linear", "factorization")
COMMANDS = {
    **{name: [name] for name in SCENARIOS},
    **{f"converge {name}": ["converge", name, "--modified"] for name in STUDIES},
}


def run(code: Path, arguments: list[str], folder: Path) -> None:
    """Run a scenario with a seed by the code in a folder."""
    command = [sys.executable, "-W", "ignore", "-m", "gflow", *arguments]
    environment = {
        **os.environ,
        "PYTHONPATH": str(code),
        "OMP_NUM_THREADS": "1",
        "MPLBACKEND": "Agg",
    }
    options = ["--seed", "1", "--output", str(folder)]
    done = subprocess.run(
        [*command, *options], cwd=code, env=environment, capture_output=True, text=True
    )
    if done.returncode not in (0, 4, 5):  # a verdict is a result, too
        raise SystemExit(f"{' '.join(arguments)} failed with {code}:\n{done.stderr}")


def differences(before: Path, after: Path) -> list[str]:
    """Return the names of the arrays that differ in two result files."""
    with xr.open_dataset(before) as old, xr.open_dataset(after) as new:
        names = sorted({*old.variables, *new.variables}, key=str)
        return [str(name) for name in names if not _equal(old, new, str(name))]


def _equal(old: xr.Dataset, new: xr.Dataset, name: str) -> bool:
    if name not in old.variables or name not in new.variables:
        return False
    a, b = old.variables[name], new.variables[name]
    same = a.dims == b.dims and a.dtype == b.dtype and a.shape == b.shape
    if a.dtype.kind == "O":
        return same and bool(np.array_equal(a.values, b.values))
    return same and a.values.tobytes() == b.values.tobytes()


def main() -> int:
    """Run and compare; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("commit")
    parser.add_argument("--only", nargs="+", choices=list(COMMANDS), default=list(COMMANDS))
    options = parser.parse_args()
    different = 0
    with tempfile.TemporaryDirectory() as folder:
        checkout = Path(folder) / "code"
        clone = ["git", "clone", "--quiet", str(ROOT), str(checkout)]
        subprocess.run(clone, check=True)
        subprocess.run(
            ["git", "-C", str(checkout), "checkout", "--quiet", options.commit], check=True
        )
        for name in options.only:
            files = []
            for label, code in (("before", checkout), ("after", ROOT)):
                path = Path(folder) / label / name.replace(" ", "-")
                run(code, COMMANDS[name], path)
                files.append(path / "result.nc")
            changed = differences(*files)
            count = len(xr.open_dataset(files[1]).variables)
            verdict = f"DIFFERS in {', '.join(changed)}" if changed else f"{count} arrays equal"
            print(f"{name}: {verdict}", flush=True)
            different += bool(changed)
    print(f"{len(options.only) - different} of {len(options.only)} results equal bit for bit")
    return int(different > 0)


if __name__ == "__main__":
    sys.exit(main())
