"""Animations, by matplotlib's own writers: a spectrum, neurons, and a path on a phase portrait."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib import animation
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from gflow.errors import InputError
from gflow.plots.observable import mode_colours
from gflow.plots.portraits import draw_field, draw_plane, sign_colours
from gflow.plots.style import COLOURS, SIZE, STYLE, descent_curves, label_of
from gflow.text import unknown

SPECTRA = ("singular_values", "eigenvalues", "mode_residuals")
_SECONDS, _FRAMES_PER_SECOND = 5.0, 12
_DPI = 110


def animate_spectrum(
    ds: xr.Dataset,
    only: Collection[str] = (),
    *,
    title: str = "",
    size: tuple[float, float] = SIZE,
    style: Mapping[str, Any] = STYLE,
) -> tuple[str, animation.FuncAnimation]:
    """Animate the modes of a flow, and of its first descent: one bar a mode, one frame a time.

    Parameters
    ----------
    ds : xarray.Dataset
        With singular values, eigenvalues or residuals by mode.
    only : collection of str
        The name of the spectrum; by default the first that the dataset has.
    title : str
    size : (float, float)
        Inches.
    style : mapping
        Settings of matplotlib.

    Returns
    -------
    str
        The name of the spectrum.
    matplotlib.animation.FuncAnimation

    Raises
    ------
    InputError
        If there is no such spectrum.

    Examples
    --------
    >>> values = ("time", "mode"), [[0.1, 0.1], [0.9, 0.2]]
    >>> ds = xr.Dataset({"singular_values": values}, {"time": [0.0, 1.0]})
    >>> name, animated = animate_spectrum(ds)
    >>> animated.save('modes.gif', writer='pillow')  # doctest: +SKIP
    >>> name
    'singular_values'
    """
    settings: Any = dict(style)
    present = [name for name in SPECTRA if name in ds and ds[name].ndim == 2]
    for name in only or present[:1]:
        if name not in present:
            raise InputError(f"an animation: {unknown('spectrum', name, present or SPECTRA)}")
    if not present:
        raise InputError(
            f"an animation needs one of {', '.join(SPECTRA)}, which this result has not; choose "
            "another format, such as png"
        )
    name = next(iter(only), present[0])
    time, values = ds["time"].values, ds[name].values
    modes = np.arange(1, values.shape[1] + 1)
    with mpl.rc_context(settings):
        figure = _figure(size)
        axes = figure.subplots()
        bars = axes.bar(modes, values[0], color=mode_colours(len(modes)), width=0.8)
        top = 1.08 * float(np.nanmax(values))
        axes.set(xlabel="mode, the largest first", ylabel=label_of(ds[name]), ylim=(0, top))
        marks, curve = None, None
        if f"descent_{name}" in ds:
            label, t, path = descent_curves(ds, f"descent_{name}")[0]
            curve = t, path
            style_of: dict[str, Any] = {
                "ms": 5,
                "mfc": "none",
                "color": "0.2",
                "label": f"descent, {label}",
            }
            (marks,) = axes.plot(modes, path[0], "o", **style_of)
            axes.legend(loc="upper right")
        if len(modes) <= 12:
            axes.set_xticks(modes)

    def draw(t: float) -> None:
        for bar, height in zip(bars, at_time(time, values, t), strict=True):
            bar.set_height(height)
        if marks is not None and curve is not None:
            marks.set_ydata(at_time(*curve, t))
        _title(axes, title, t)

    return name, _animated(figure, draw, time)


def animate_neurons(
    ds: xr.Dataset, *, title: str = "", size: tuple[float, float] = SIZE
) -> animation.FuncAnimation:
    """Animate neurons in the plane of their input weights.

    Parameters
    ----------
    ds : xarray.Dataset
        What the figure ``neurons`` draws.
    title : str
    size : (float, float)
        Inches.

    Returns
    -------
    matplotlib.animation.FuncAnimation

    Examples
    --------
    >>> ds = xr.Dataset({"neurons": (("time", "neuron", "plane"), np.ones((2, 3, 2)))})
    >>> ds = ds.assign(time=[0.0, 1.0], neuron_sign=("neuron", [1.0, -1.0, 1.0]))
    >>> type(animate_neurons(ds)).__name__
    'FuncAnimation'
    """
    with mpl.rc_context(STYLE):
        figure = _figure((1.15 * size[1], size[1]))
        axes = figure.subplots()
        values, time, colours = draw_plane(ds, axes), ds["time"].values, sign_colours(ds)
        trails = LineCollection([], colors=colours, linewidths=0.8, alpha=0.5)
        axes.add_collection(trails)
        points = axes.scatter(values[0, :, 0], values[0, :, 1], c=colours, s=18, zorder=3)

    def draw(t: float) -> None:
        now = at_time(time, values.reshape(len(time), -1), t).reshape(-1, 2)
        points.set_offsets(now)
        trails.set_segments([*np.concatenate([values[time <= t], now[None]]).swapaxes(0, 1)])
        _title(axes, title, t)

    return _animated(figure, draw, time)


def animate_portrait(
    ds: xr.Dataset, *, title: str = "", size: tuple[float, float] = SIZE
) -> animation.FuncAnimation:
    """Animate a path, and its first descent, on the phase portrait of two parameters.

    Parameters
    ----------
    ds : xarray.Dataset
        What the figure ``phase_portrait`` draws.
    title : str
    size : (float, float)
        Inches.

    Returns
    -------
    matplotlib.animation.FuncAnimation

    Examples
    --------
    >>> x, dims = np.linspace(-1, 1, 5), ("second_parameter", "first_parameter")
    >>> field = {name: (dims, np.ones((5, 5)) + x) for name in ("velocity", "velocity_2")}
    >>> ds = xr.Dataset({**field, "portrait_loss": (dims, x + np.zeros((5, 5)))})
    >>> ds = ds.assign_coords(second_parameter=x, first_parameter=x, time=[0.0, 1.0])
    >>> ds["state"] = ("time", "parameter"), [[0.0, 0.0], [0.5, 0.5]]
    >>> animated = animate_portrait(ds)  # doctest: +SKIP
    """
    time, path = ds["time"].values, ds["state"].values
    descent = descent_curves(ds, "descent_state")[0] if "descent_state" in ds else None
    with mpl.rc_context(STYLE):
        figure = _figure(size)
        axes = figure.subplots()
        draw_field(ds, axes)
        (trail,) = axes.plot([], [], color="black", lw=2, zorder=3)
        (head,) = axes.plot([], [], "o", color="black", ms=6, zorder=4)
        (marks,) = axes.plot([], [], "o", color=COLOURS[1], ms=4, zorder=3)

    def draw(t: float) -> None:
        now = at_time(time, path, t)
        trail.set_data(*np.concatenate([path[time <= t], now[None]]).T)
        head.set_data(now[:1], now[1:])
        if descent is not None:
            marks.set_data(*descent[2][descent[1] <= t].T)
        _title(axes, title, t)

    return _animated(figure, draw, time)


def at_time(time: np.ndarray, values: np.ndarray, t: float) -> np.ndarray:
    """Return values at a time between those that are known.

    Parameters
    ----------
    time : ndarray, shape (T,)
        Ascending.
    values : ndarray, shape (T, n)
    t : float

    Returns
    -------
    ndarray, shape (n,)

    Examples
    --------
    >>> at_time(np.array([0.0, 2.0]), np.array([[0.0, 1.0], [4.0, 1.0]]), 0.5).tolist()
    [1.0, 1.0]
    """
    i = int(np.clip(np.searchsorted(time, t), 1, max(1, len(time) - 1)))
    if len(time) == 1:
        return np.asarray(values[0])
    part = float(np.clip((t - time[i - 1]) / (time[i] - time[i - 1]), 0.0, 1.0))
    return np.asarray((1 - part) * values[i - 1] + part * values[i])


def require_kind(kind: str) -> None:
    """Raise InputError unless animations of a kind can be written here."""
    if kind not in ("gif", "mp4"):
        raise InputError(f"an animation must be gif or mp4, got '{kind:.40}'")
    if kind == "mp4" and not animation.FFMpegWriter.isAvailable():
        raise InputError(
            "mp4 needs the program ffmpeg, which was not found; install it, or write a gif"
        )


def save_animation(animated: animation.FuncAnimation, path: Path, *, kind: str) -> None:
    """Write an animation to a file.

    Parameters
    ----------
    animated : matplotlib.animation.FuncAnimation
    path : Path
    kind : str
        ``gif``, or ``mp4``, for which the program ffmpeg must be installed.

    Raises
    ------
    InputError
        For another kind, or without ffmpeg.

    Examples
    --------
    >>> save_animation(None, Path("a.avi"), kind="avi")
    Traceback (most recent call last):
        ...
    gflow.errors.InputError: an animation must be gif or mp4, got 'avi'
    """
    require_kind(kind)
    writers = {"gif": animation.PillowWriter, "mp4": animation.FFMpegWriter}
    with tempfile.TemporaryDirectory() as folder:  # the writers tell the kind by the ending
        file = Path(folder, f"animation.{kind}")
        animated.save(str(file), writer=writers[kind](fps=_FRAMES_PER_SECOND), dpi=_DPI)
        shutil.copyfile(file, path)


def _figure(size: tuple[float, float]) -> Figure:
    figure = Figure(figsize=size)
    FigureCanvasAgg(figure)
    return figure


def _title(axes: Axes, title: str, t: float) -> None:
    axes.set_title(f"{title}{'   ' if title else ''}t = {t:.4g}", parse_math=False)


def _animated(figure: Figure, draw: Any, time: np.ndarray) -> animation.FuncAnimation:
    """Return an animation over the times; log-spaced ones pass as quickly as they are spaced."""
    count = int(_SECONDS * _FRAMES_PER_SECOND)
    frames = np.interp(np.linspace(0, len(time) - 1, count), np.arange(len(time)), time)
    if len(time) < count:
        frames = np.unique(frames)
    draw(float(frames[0]))
    figure.draw_without_rendering()
    figure.set_layout_engine(None)  # laid out once: the axes stand still, and frames are quick
    update = lambda t: draw(float(t))  # noqa: E731
    return animation.FuncAnimation(
        figure, update, frames=list(frames), interval=1000 / _FRAMES_PER_SECOND, blit=False
    )
