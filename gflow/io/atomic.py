"""Files that appear complete or not at all.

A file is written under a temporary name, flushed to disk, and renamed: a process that is killed
leaves the old file or the new one.
"""

from __future__ import annotations

import abc
import contextlib
import functools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gflow.errors import OutputError
from gflow.io import netcdf
from gflow.text import plain

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

_DPI = 200  # of figures that are written


class Folder(abc.ABC):
    """A folder whose files are each complete or absent."""

    path: Path

    def write_text(self, name: str, text: str) -> None:
        """Write one text file."""
        # In a text there may be the name of a file, which need not be valid text.
        encoding = {"encoding": "utf-8", "errors": "backslashreplace"}
        self.write(name, lambda temporary: temporary.write_text(text, **encoding))

    def write_json(self, name: str, values: Mapping[str, Any]) -> None:
        """Write one JSON file; NaN and infinity become null and strings."""
        self.write_text(name, json.dumps(plain(values), indent=2, ensure_ascii=False) + "\n")

    def write_dataset(self, name: str, dataset: xr.Dataset) -> None:
        """Write labelled arrays as one netCDF-4 file."""
        self.write(name, lambda temporary: netcdf.write(dataset, temporary))

    def write_figure(self, name: str, figure: Figure, kinds: Sequence[str]) -> None:
        """Write a figure as ``figures/NAME.KIND``, for kinds such as png and pdf."""
        lay_out(figure)
        for kind in kinds:
            draw = functools.partial(figure.savefig, format=kind, dpi=_DPI)
            self.write(f"figures/{name}.{kind}", draw)

    def write(self, name: str, write: Callable[[Path], object], *, before: str = "") -> None:
        """Write one file, complete or not at all.

        Parameters
        ----------
        name : str
            Its name in the folder, perhaps below one subfolder, which is made.
        write : callable
            ``write(path)`` writes the content to a temporary path.
        before : str, optional
            The name under which an existing file is preserved.

        Raises
        ------
        OutputError
            If it cannot be written; an existing file is unchanged then.
        """
        target = self.path / name
        temporary = target.with_name(f".{target.name}.part")
        try:
            if target.parent != self.path:  # the folder itself is not made again if removed
                target.parent.mkdir(exist_ok=True)
            temporary.unlink(missing_ok=True)  # it may be a link in a folder made by others
            write(temporary)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            if before and target.exists():
                target.replace(self.path / before)
            temporary.replace(target)
        except OSError as error:
            raise OutputError(cannot_write(target, error)) from None
        finally:  # it still exists if anything failed, an interruption included
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def lay_out(figure: Figure) -> None:
    """Lay a figure out once, for all the files that it is written to.

    A figure with a layout engine is drawn twice for each file, the first time only for its layout.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        Changed in place: it has no layout engine afterwards.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> figure = Figure(layout="constrained")
    >>> axes = figure.subplots()
    >>> before = axes.get_position().width
    >>> lay_out(figure)
    >>> bool(axes.get_position().width > before), figure.get_layout_engine()
    (True, None)
    """
    engine, dpi = figure.get_layout_engine(), figure.dpi
    if engine is not None:
        figure.dpi = _DPI  # the widths of texts depend on it
        engine.execute(figure)
        figure.dpi = dpi
        figure.set_layout_engine(None)  # "none" would leave one that does nothing, after a drawing


def cannot_write(target: Path, error: OSError) -> str:
    """Return the message about a file that could not be written.

    Parameters
    ----------
    target : Path
    error : OSError

    Returns
    -------
    str

    Examples
    --------
    >>> cannot_write(Path("result.nc"), OSError(28, "No space left on device"))
    'cannot write result.nc: No space left on device'
    """
    return f"cannot write {target}: {error.strerror or error}"
