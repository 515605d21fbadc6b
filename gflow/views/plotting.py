"""`plot`: one figure of a value, in the user's own axes and style."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gflow.checks import require_bool, shown
from gflow.descent import Descent
from gflow.display import Display
from gflow.errors import InputError
from gflow.io.plain import as_path
from gflow.results.portraits import neurons_dataset, phase_portrait_dataset
from gflow.text import unknown
from gflow.trajectory import Trajectory
from gflow.views.values import paths_dataset, to_dataset

if TYPE_CHECKING:
    import xarray as xr

    from gflow.plots.figure_spec import FigureSpec


def plot(
    *values: Display | xr.Dataset,
    observable: str | None = None,
    exact: bool = False,
    ax: Any = None,
    title: str | None = None,
) -> Any:
    """Draw a trajectory beside descents, or one figure of a gap, a study or a run.

    Colours and marks are gflow's; sizes, fonts and all else are matplotlib's settings of the user.

    Parameters
    ----------
    *values : Trajectory, Descent, Gap, study, run or xarray.Dataset
        One of them; or a trajectory and any number of descents.
    observable : str, optional
        What is drawn: a figure (``loss``, ``singular_values``, ``gap``, ``step_size``, …), or any
        variable of ``to_dataset()`` over time; by default the figure that shows the value best. Of
        a trajectory also ``phase_portrait``, for two parameters, and ``neurons``, the input weights
        of hidden neurons.
    exact : bool
        Whether to draw the closed form of the trajectory, too.
    ax : matplotlib.axes.Axes, or a sequence of them, optional
        Where to draw, one for each panel; by default a new figure.
    title : str, optional
        The title, in place of what was measured; ``""`` for none.

    Returns
    -------
    matplotlib.axes.Axes
        The axes with the drawing; an array of them where the figure has several panels.

    Raises
    ------
    InputError
        If a value cannot be drawn, or it has no such observable.

    Examples
    --------
    >>> import torch, gflow
    >>> target = torch.diag(torch.tensor([3.0, 1.0], dtype=torch.float64))
    >>> flow = gflow.EndToEndFlow(gflow.losses.SquaredDistance(target), depth=2)
    >>> start = 0.1 * torch.eye(2, dtype=torch.float64)
    >>> path = gflow.integrate(flow, start, torch.linspace(0, 3, 61), method="tsit5")
    >>> gd = gflow.descend(flow, start, step_size=0.05, steps=60)
    >>> axes = gflow.plot(path, gd, observable="singular_values", exact=True)
    >>> axes.get_ylabel()
    'singular values of W'
    """
    ds = _dataset(values, require_bool("exact", exact), observable)
    spec = find_figure(ds, observable)
    from gflow.plots.drawing import draw_axes, user_axes

    panels = user_axes(spec.panels, ax)
    draw_axes(spec, ds, panels, title, own=ax is None)
    return panels[0] if len(panels) == 1 else np.array(panels)


def animate(
    *values: Display | xr.Dataset,
    observable: str | None = None,
    file: str | Path | None = None,
    title: str = "",
) -> Any:
    """Animate the spectrum, the neurons or the phase portrait of a trajectory.

    Parameters
    ----------
    *values : Trajectory, Descent, study, run or xarray.Dataset
        One of them; or a trajectory and any number of descents, of which the first is shown.
    observable : str, optional
        ``singular_values``, ``eigenvalues``, ``mode_residuals``; ``neurons``; or
        ``phase_portrait``, for two parameters; by default the spectrum.
    file : str or Path, optional
        Where to save it, a name that ends in .gif or .mp4; mp4 needs the program ffmpeg.
    title : str
        Above the time.

    Returns
    -------
    matplotlib.animation.FuncAnimation
        ``HTML(animation.to_jshtml())`` plays it in a notebook.

    Raises
    ------
    InputError
        If there is nothing to animate, or the file's kind cannot be written.

    Examples
    --------
    >>> import torch, gflow
    >>> valley = gflow.flow_from_loss(lambda w: (w[0] * w[1] - 1) ** 2 / 2)
    >>> start = torch.tensor([2.0, 0.1], dtype=torch.float64)
    >>> path = gflow.integrate(valley, start, torch.linspace(0, 4, 41))
    >>> animation = gflow.animate(path, observable="phase_portrait")  # doctest: +SKIP
    >>> gflow.animate(path, observable="phase_portrait", file="valley.avi")
    Traceback (most recent call last):
        ...
    gflow.errors.InputError: an animation must be gif or mp4, got 'avi'
    """
    from gflow.plots import animations

    path = None if file is None else as_path(file)
    kind = "" if path is None else path.suffix.removeprefix(".").lower()
    if path is not None:
        animations.require_kind(kind)
    ds = _dataset(values, False, observable)
    if observable == "neurons" and "neurons" in ds:
        animated = animations.animate_neurons(ds, title=title)
    elif observable == "phase_portrait" and "state" in ds:
        animated = animations.animate_portrait(ds, title=title)
    else:
        chosen = () if observable is None else (observable,)
        _, animated = animations.animate_spectrum(ds, chosen, title=title)
    if path is not None:
        animations.save_animation(animated, path, kind=kind)
    return animated


def _dataset(values: tuple[Any, ...], exact: bool, observable: str | None) -> xr.Dataset:
    paths = [value for value in values if isinstance(value, Trajectory)]
    descents = [value for value in values if isinstance(value, Descent)]
    others = [value for value in values if not isinstance(value, Trajectory | Descent)]
    if len(paths) > 1:
        raise InputError(
            "plot takes one trajectory and its descents, got two trajectories; draw the second "
            "into the axes of the first: gflow.plot(second, ax=axes)"
        )
    if others and (len(values) > 1 or exact):
        raise InputError(
            "plot takes a trajectory and descents, or one gap, study, run or sweep alone, got "
            f"{len(values)} values, one of them {shown(others[0])}; draw it by its own plot()"
        )
    if not values or (exact and not paths):
        raise InputError("plot takes a trajectory first, got none; write gflow.plot(trajectory)")
    if others:
        return to_dataset(others[0])
    if paths and observable == "phase_portrait":
        return phase_portrait_dataset(paths[0], descents)
    if paths and observable == "neurons":
        return neurons_dataset(paths[0])
    return paths_dataset(paths[0] if paths else None, descents, exact=exact)


def find_figure(ds: xr.Dataset, observable: str | None) -> FigureSpec:
    """Return the figure of a name, or the best one, of a dataset.

    Parameters
    ----------
    ds : xarray.Dataset
    observable : str or None

    Returns
    -------
    FigureSpec

    Raises
    ------
    InputError
        If the dataset has none.

    Examples
    --------
    >>> import xarray as xr
    >>> find_figure(xr.Dataset({"loss": ("time", [1.0])}, {"time": [0.0]}), None).name
    'loss'
    """
    from gflow.plots import figure_specs
    from gflow.plots.drawing import observable_spec

    specs = {spec.name: spec for spec in figure_specs() if spec.fits(ds)}
    drawable = over_time(ds)
    if observable is None:
        best = max(specs.values(), key=lambda spec: spec.priority, default=None)
        if best is not None and (best.priority > 0 or "loss" not in drawable):
            return best
        if "loss" in drawable:
            return observable_spec("loss")
        observable = next(iter(drawable), "")
    if observable in specs:
        return specs[observable]
    if observable in drawable:
        return observable_spec(observable)
    names = sorted({*specs, *drawable})
    raise InputError(f"observable: {unknown('figure or variable over time', observable, names)}")


def over_time(ds: xr.Dataset) -> list[str]:
    """Return the names of the variables that are drawn over time, of the flow or of descents."""
    names = [
        str(name).removeprefix("descent_") if "save" in variable.dims else str(name)
        for name, variable in ds.data_vars.items()
        if ("time" in variable.dims and str(name)[:6] != "exact_")
        or ("save" in variable.dims and str(name).startswith("descent_") and name != "descent_time")
    ]
    return list(dict.fromkeys(names))


def plot_sweep(ds: xr.Dataset, x: str, y: str, hue: str | None = None, *, ax: Any = None) -> Any:
    """Draw a quantity of a sweep against a swept key, in the user's own axes and style.

    Parameters
    ----------
    ds : xarray.Dataset
        Of `gflow.load_sweep`.
    x, y : str
        A swept key, and a numeric variable.
    hue : str, optional
        A swept key, with a curve for each value.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InputError
        If a name is unknown, or no run with y is done.

    Examples
    --------
    >>> import xarray as xr
    >>> ds = xr.Dataset({"loss": ("width", [0.4, 0.2], {"long_name": "loss"})})
    >>> ds = ds.assign_coords(width=("width", [64, 128], {"long_name": "hidden width m"}))
    >>> plot_sweep(ds, "width", "loss").get_xlabel()
    'hidden width m'
    """
    from gflow.plots.drawing import user_axes
    from gflow.plots.sweeps import draw_sweep

    (axes,) = user_axes(1, ax)
    draw_sweep(ds, axes, x, y, hue)
    return axes
