"""Files that appear whole or not at all, and locks on them.

A file is written beside its place, flushed to disk, and renamed: a process that is killed leaves
the file that was there, or the new one.
"""

from __future__ import annotations

import abc
import contextlib
import functools
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gflow.errors import OutputError
from gflow.io import netcdf as arrays
from gflow.text import plain

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure


class Folder(abc.ABC):
    """A folder whose files are each whole or absent."""

    path: Path

    def write_text(self, name: str, text: str) -> None:
        """Write one text file, whole or not at all."""
        kept = {"encoding": "utf-8", "errors": "backslashreplace"}  # a file's name need not be text
        self.write(name, lambda temporary: temporary.write_text(text, **kept))

    def write_json(self, name: str, values: Mapping[str, Any]) -> None:
        """Write one JSON file; NaN and infinity become null and strings."""
        self.write_text(name, json.dumps(plain(values), indent=2, ensure_ascii=False) + "\n")

    def write_dataset(self, name: str, dataset: xr.Dataset) -> None:
        """Write labelled arrays as one netCDF-4 file."""
        self.write(name, lambda temporary: arrays.write(dataset, temporary))

    def write_figure(self, name: str, figure: Figure) -> None:
        """Write a figure as ``figures/NAME.png`` and ``figures/NAME.pdf``."""
        for kind in ("png", "pdf"):
            draw = functools.partial(figure.savefig, format=kind, dpi=200)
            self.write(f"figures/{name}.{kind}", draw)

    def write(self, name: str, write: Callable[[Path], object], *, before: str = "") -> None:
        """Write one file, whole or not at all, by ``write(path)``.

        ``before``: the name under which the file that was there is kept.

        Raises
        ------
        OutputError
            If it cannot be written; what was there is there still.
        """
        target = self.path / name
        temporary = target.with_name(f".{target.name}.part")
        try:
            if target.parent != self.path:  # which is there, or was taken away
                target.parent.mkdir(exist_ok=True)
            temporary.unlink(missing_ok=True)  # a link, perhaps, in a folder made by others
            write(temporary)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            if before and target.exists():
                target.replace(self.path / before)
            temporary.replace(target)
        except OSError as error:
            raise OutputError(cannot_write(target, error)) from None
        finally:  # still there if anything failed, an interruption included
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def cannot_write(target: Path, error: OSError) -> str:
    """One line on a file that could not be written."""
    return f"cannot write {target}: {error.strerror or error}"
