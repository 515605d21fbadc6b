"""Helpers for the tests of results."""

import json
from typing import Any

import xarray as xr

from gflow.text import plain


def check_labels(ds: xr.Dataset) -> None:
    """Check that every variable has a long name and units."""
    for name, variable in ds.variables.items():
        assert variable.attrs["long_name"], name
        assert variable.attrs["units"], name


def as_read_back(summary: dict[str, Any]) -> dict[str, Any]:
    """Return the summary as it is read back from the folder of a run."""
    read: dict[str, Any] = json.loads(json.dumps(plain(summary), allow_nan=False))
    return read
