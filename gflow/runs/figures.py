"""Draw the figures of a run into its folder, and redraw those of a finished run."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gflow.errors import InputError, OutputError
from gflow.io.atomic import Folder
from gflow.io.plain import as_path
from gflow.runs.reading import load_run
from gflow.text import one_line

if TYPE_CHECKING:
    import xarray as xr

_ANIMATED = ("gif", "mp4")


class _FigureFolder(Folder):
    """The folder of a finished run, of which only figures are written."""

    def __init__(self, path: Path):
        if (path / "figures").is_symlink():
            raise InputError(f"{path / 'figures'} must be a folder, got a link; remove it")
        self.path = path


def write_figures(
    folder: Folder,
    ds: xr.Dataset,
    title: str,
    kinds: Sequence[str],
    only: Sequence[str] = (),
    **look: Any,
) -> tuple[list[str], list[str]]:
    """Draw every figure of a result into a folder; one that fails does not stop the others.

    Parameters
    ----------
    folder : Folder
    ds : xarray.Dataset
    title : str
        The second line of every title.
    kinds : sequence of str
        File formats, such as ``png``.
    only : sequence of str
        Names of figures; by default all.
    **look
        ``size`` and ``style`` of `gflow.plots.figures`.

    Returns
    -------
    drawn : list of str
        The names of the figures.
    failed : list of str
        One line on each figure that could not be drawn.

    Raises
    ------
    InputError
        If the result has no figure of a name in ``only``.
    OutputError
        If a file cannot be written.

    Examples
    --------
    >>> import tempfile, xarray as xr
    >>> ds = xr.Dataset({"singular_values": (("time", "mode"), [[0.1]])}, {"time": [0.0]})
    >>> with tempfile.TemporaryDirectory() as path:
    ...     write_figures(_FigureFolder(Path(path)), ds, "", ["png"])
    (['singular_values'], [])
    """
    from gflow import plots

    drawn, failed = [], []
    for spec in plots.fitting_specs(ds, only):
        try:
            (figure,) = plots.figures(ds, title, only=[spec.name], **look).values()
            folder.write_figure(spec.name, figure, kinds)
            drawn.append(spec.name)
        except OutputError:
            raise
        except Exception as error:  # what took time to compute is worth more than its figure
            failed.append(f"the figure {spec.name} cannot be drawn ({one_line(error)})")
    return drawn, failed


def redraw(
    path: str | Path,
    kinds: Sequence[str] = ("png",),
    only: Sequence[str] = (),
    *,
    title: str | None = None,
    size: tuple[float, float] | None = None,
    style: str | None = None,
) -> list[Path]:
    """Redraw the figures of a run from its arrays.

    Parameters
    ----------
    path : str or Path
        The run's folder.
    kinds : sequence of str
        ``png``, ``pdf``, ``svg``; ``gif`` and ``mp4`` for an animation of the spectrum.
    only : sequence of str
        Names of figures; by default all.
    title : str, optional
        The second line of every title; by default the scenario and its data.
    size : (float, float), optional
        Width and height of one panel, in inches.
    style : str, optional
        A style sheet of matplotlib, by name or file.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    InputError
        If there is no finished run, it has no such figure, or a figure cannot be drawn.
    OutputError
        If a file cannot be written.

    Examples
    --------
    >>> redraw("nowhere")
    Traceback (most recent call last):
        ...
    gflow.errors.InputError: no run at nowhere: manifest.json is missing; `gflow runs` lists runs
    """
    run = load_run(as_path(path))
    folder, ds = _FigureFolder(run.path), run.result
    if title is None:
        title = f"{ds.attrs.get('scenario')} on {ds.attrs.get('data')}"
    from gflow.plots.animations import animate_spectrum, require_kind, save_animation
    from gflow.plots.style import SIZE, style_settings

    settings, size = style_settings(style), size or SIZE
    for kind in kinds:
        if kind in _ANIMATED:
            require_kind(kind)
    files = []
    drawn = [kind for kind in kinds if kind not in _ANIMATED]
    if drawn:
        names, failed = write_figures(folder, ds, title, drawn, only, size=size, style=settings)
        if failed:
            raise InputError(f"{'; '.join(failed)}; choose others by --only")
        files += [folder.path / "figures" / f"{name}.{kind}" for name in names for kind in drawn]
    for kind in (kind for kind in kinds if kind in _ANIMATED):
        name, animation = animate_spectrum(ds, only, title=title, size=size, style=settings)
        save = functools.partial(save_animation, animation, kind=kind)
        folder.write(f"figures/{name}.{kind}", save)
        files.append(folder.path / "figures" / f"{name}.{kind}")
    return files
