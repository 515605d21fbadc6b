"""The manifest of a run: versions, commit, command line and machine."""

from __future__ import annotations

import datetime
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gflow._version import __version__
from gflow.text import plain

_PACKAGES = ("torch", "torchdiffeq", "numpy", "scipy", "xarray", "h5netcdf", "matplotlib")


def default_folder(name: str, resolved: Mapping[str, Any]) -> Path:
    """Return the default folder ``outputs/<name>/<time>-<hash of the resolved scenario>``.

    Parameters
    ----------
    name : str
    resolved : mapping
        All values of the scenario.

    Returns
    -------
    Path

    Examples
    --------
    >>> default_folder("kernel", {"seed": 0}).parent.as_posix()
    'outputs/kernel'
    """
    digest = hashlib.sha256(json.dumps(plain(resolved), sort_keys=True).encode()).hexdigest()
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S-%f")[:-3]
    return Path("outputs") / name / f"{stamp}-{digest[:8]}"


def manifest(state: str, resolved: Mapping[str, Any], details: Mapping[str, Any]) -> dict[str, Any]:
    """Describe where, when, with which versions and from which scenario a run is made.

    Parameters
    ----------
    state : str
    resolved : mapping
        All values of the scenario.
    details : mapping
        Further entries.

    Returns
    -------
    dict
        Plain values.

    Examples
    --------
    >>> entries = manifest("running", {"seed": 3}, {"study": False})
    >>> entries["state"], entries["seed"], entries["gflow"] == __version__
    ('running', 3, True)
    """
    import torch

    return {
        "state": state,
        **details,
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


@functools.cache
def _commit() -> str | None:
    """Return the commit if gflow runs from a source checkout, else None."""
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
