"""Redraw the figures of a finished run."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

from gflow.errors import InputError
from gflow.io.atomic import Folder
from gflow.io.plain import as_path
from gflow.runs.reading import load_run

_ANIMATED = ("gif", "mp4")


class _FigureFolder(Folder):
    """The folder of a finished run, of which only figures are written."""

    def __init__(self, path: Path):
        if (path / "figures").is_symlink():
            raise InputError(f"{path / 'figures'} must be a folder, got a link; remove it")
        self.path = path


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
        If there is no finished run, or it has no such figure.
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
    from gflow import plots
    from gflow.plots.animations import animate_spectrum, require_kind, save_animation
    from gflow.plots.style import SIZE, style_settings

    settings, size = style_settings(style), size or SIZE
    for kind in kinds:
        if kind in _ANIMATED:
            require_kind(kind)
    files = []
    drawn = [kind for kind in kinds if kind not in _ANIMATED]
    if drawn:
        made = plots.figures(ds, title, only=only, size=size, style=settings)
        for name, figure in made.items():
            folder.write_figure(name, figure, drawn)
            files += [folder.path / "figures" / f"{name}.{kind}" for kind in drawn]
    for kind in (kind for kind in kinds if kind in _ANIMATED):
        name, animation = animate_spectrum(ds, only, title=title, size=size, style=settings)
        save = functools.partial(save_animation, animation, kind=kind)
        folder.write(f"figures/{name}.{kind}", save)
        files.append(folder.path / "figures" / f"{name}.{kind}")
    return files
