"""Figures: labelled arrays -> matplotlib figures.

A figure is one function with the variables it needs; `figures` draws every one whose
variables a result has. Colours are those of Okabe & Ito, which colour-blind readers
can tell apart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import xarray as xr
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "axes.prop_cycle": cycler(color=_COLOURS),
    "figure.constrained_layout.use": True,
    "pdf.fonttype": 42,
}
_TIME = "time t  (step size × steps)"
_LIMIT = r"stability limit $2/\lambda_{\max}$"
_BOUND = r"bound  $e^{-\lambda_{\min} t}\,\|u_0 - y\|$"
_SHARPNESS = r"sharpness  $\lambda_{\max}$ of the Hessian"
_AVERAGED = r"central flow  $L + \mathrm{tr}\,\Sigma/\eta$"
_MODES_SHOWN = 10
_NOTHING = 1e-17  # where a drift of zero is shown on a log scale


class _Figure(NamedTuple):
    name: str
    needs: tuple[str, ...]
    draw: Callable[[xr.Dataset, Figure], None]
    columns: int


_FIGURES: list[_Figure] = []


def _figure(name: str, *needs: str, columns: int = 1) -> Callable[[Any], Any]:
    def register(draw: Callable[[xr.Dataset, Figure], None]) -> Any:
        _FIGURES.append(_Figure(name, needs, draw, columns))
        return draw

    return register


def figures(ds: xr.Dataset, title: str = "") -> dict[str, Figure]:
    """Every figure that a result's variables allow, by name.

    Parameters
    ----------
    ds : xarray.Dataset
        ``result.nc`` of a run.
    title : str
        Set above each figure.
    """
    drawn = {}
    with mpl.rc_context(_STYLE):
        for item in _FIGURES:
            if all(need in ds for need in item.needs):
                figure = Figure(figsize=(5.6 * item.columns, 3.9))
                figure.subplots(1, item.columns)
                item.draw(ds, figure)
                _scale_time(ds, figure)
                if title:
                    figure.suptitle(title, fontsize=10, parse_math=False)
                drawn[item.name] = figure
    return drawn


def _scale_time(ds: xr.Dataset, figure: Figure) -> None:
    """A logarithmic axis where the times are spaced so; it shows the start too."""
    if "time" not in ds or not ds["time"].ndim:
        return
    times = ds["time"].values[ds["time"].values > 0]
    if len(times) > 2 and np.median(times) < 0.1 * times[-1]:
        for axes in figure.axes:
            if axes.get_xlabel() == _TIME and axes.get_xscale() == "linear":
                axes.set_xscale("symlog", linthresh=times[0])
                axes.set_xlim(0, 1.1 * times[-1])


def _number(value: float) -> str:
    return f"{value:.3g}"


def _descents(ds: xr.Dataset, name: str, time: str = "descent_time") -> list[tuple[str, Any, Any]]:
    """(label, times, values) of a variable for every step size."""
    curves = []
    for i, step in enumerate(ds["step_size"].values):
        t, values = ds[time].values[i], ds[name].values[i]
        keep = np.isfinite(t)
        curves.append((f"η = {_number(step)}", t[keep], values[keep]))
    return curves


@_figure("loss", "loss", "descent_loss")
def _loss(ds: xr.Dataset, figure: Figure) -> None:
    axes = figure.axes[0]
    for i, (label, t, values) in enumerate(_descents(ds, "descent_loss")):
        colour = _COLOURS[i % len(_COLOURS)]
        every = max(1, len(t) // 25)
        axes.plot(t[::every], values[::every], "o", ms=4, mfc="none", color=colour, label=label)
    axes.plot(ds["time"], ds["loss"], color="black", label="gradient flow", zorder=1)
    axes.set(xlabel=_TIME, ylabel="loss", yscale="log")
    axes.legend(title="gradient descent")


@_figure("singular_values", "singular_values")
def _singular_values(ds: xr.Dataset, figure: Figure) -> None:
    _spectrum(ds, figure.axes[0], "singular_values", "singular values of W")


@_figure("eigenvalues", "eigenvalues")
def _eigenvalues(ds: xr.Dataset, figure: Figure) -> None:
    _spectrum(ds, figure.axes[0], "eigenvalues", "eigenvalues of W = UUᵀ")


def _spectrum(ds: xr.Dataset, axes: Axes, name: str, label: str) -> None:
    values = ds[name].values
    shown = min(_MODES_SHOWN, values.shape[1])
    for i in range(shown):
        axes.plot(ds["time"], values[:, i], color=_COLOURS[i % len(_COLOURS)])
    coarse = f"descent_{name}"
    if coarse in ds:
        step, t, path = _descents(ds, coarse)[0]
        every = max(1, len(t) // 20)
        for i in range(shown):
            colour = _COLOURS[i % len(_COLOURS)]
            axes.plot(t[::every], path[::every, i], "o", ms=3.5, mfc="none", color=colour)
        axes.plot([], [], "o", ms=3.5, mfc="none", color="grey", label=f"descent, {step}")
    axes.plot([], [], color="grey", label="gradient flow")
    more = f" (largest {shown} of {values.shape[1]})" if values.shape[1] > shown else ""
    axes.set(xlabel=_TIME, ylabel=label + more)
    axes.legend()


@_figure("gap", "gap", "gap_time")
def _gap(ds: xr.Dataset, figure: Figure) -> None:
    axes = figure.axes[0]
    error = float(ds["solver_error"])
    for label, t, values in _descents(ds, "gap", "gap_time"):
        later = t > 0
        axes.plot(t[later], values[later], label=label)
    if np.isfinite(error) and error > 0:
        axes.axhline(error, color="grey", ls=":", label="solver's own error")
    axes.set(xlabel=_TIME, ylabel=r"distance of descent to flow  $\|\cdot\|_F$", yscale="log")
    axes.legend(title="step size", ncols=1 + (ds.sizes["step_size"] > 3), loc="center")


@_figure("step_size", "largest_gap", "order")
def _step_size(ds: xr.Dataset, figure: Figure) -> None:
    axes = figure.axes[0]
    steps, gaps = ds["step_size"].values, ds["largest_gap"].values
    fitted, stable = ds["fitted"].values.astype(bool), ds["stable"].values.astype(bool)
    finite = np.isfinite(gaps)
    groups: tuple[tuple[np.ndarray, dict[str, Any], str], ...] = (
        (fitted, {"marker": "o", "color": _COLOURS[0]}, "distance to the flow"),
        (stable & ~fitted, {"marker": "o", "mfc": "none", "color": _COLOURS[0]}, "not in the fit"),
        (~stable, {"marker": "X", "color": _COLOURS[1]}, r"beyond $2/\lambda_{\max}$"),
    )
    for chosen, look, label in groups:
        if (chosen & finite).any():
            axes.plot(steps[chosen & finite], gaps[chosen & finite], ls="none", label=label, **look)
    _order_line(axes, ds, "", gaps, fitted)
    if "modified_gap" in ds:
        gaps, fitted = ds["modified_gap"].values, ds["modified_fitted"].values.astype(bool)
        for chosen, face in ((fitted, _COLOURS[2]), (~fitted, "none")):
            axes.plot(steps[chosen], gaps[chosen], "s", color=_COLOURS[2], mfc=face)
        axes.plot([], [], "s", color=_COLOURS[2], label="distance to the modified flow")
        _order_line(axes, ds, "modified_", gaps, fitted)
    error, limit = float(ds["solver_error"]), float(ds["stability_limit"])
    if error > 0:
        axes.axhline(error, color="grey", ls=":", label="solver's own error")
    if np.isfinite(limit):
        axes.axvline(limit, color=_COLOURS[1], ls="--", lw=1, label=_LIMIT)
    axes.set(xlabel="step size η", ylabel=ds["largest_gap"].attrs["long_name"])
    axes.set(xscale="log", yscale="log")
    axes.set_xticks(steps, [_number(step) for step in steps])
    axes.set_xticks([], minor=True)
    axes.legend()


def _order_line(
    axes: Axes, ds: xr.Dataset, prefix: str, gaps: np.ndarray, fitted: np.ndarray
) -> None:
    """The fitted power of the step size, over all finite gaps."""
    order = float(ds[f"{prefix}order"])
    if not np.isfinite(order):
        return
    steps = ds["step_size"].values
    level = np.log(gaps[fitted]).mean() - order * np.log(steps[fitted]).mean()
    there = steps[np.isfinite(gaps)]
    span = np.array([there.min(), there.max()])
    half = (float(ds[f"{prefix}order_high"]) - float(ds[f"{prefix}order_low"])) / 2
    label = f"order {order:.3f} ± {half:.3f}"
    style = "--" if prefix else "-"
    axes.plot(span, np.exp(level) * span**order, style, color="black", lw=1, label=label, zorder=1)


@_figure("invariants", "drift_bound")
def _invariants(ds: xr.Dataset, figure: Figure) -> None:
    axes = figure.axes[0]
    time = ds["time"].values[1:]
    names = [str(n) for n in ds.data_vars if str(n).startswith("drift_") and n != "drift_bound"]
    for name in names:
        label = name.removeprefix("drift_").replace("_", " ")
        axes.plot(time, np.maximum(ds[name].values[1:], _NOTHING), label=label)
    if "balanced_product_defect" in ds:
        worst = ds["balanced_product_defect"].max("layer").values[1:]
        label = r"$(W_j\cdots W_1)^\top(W_j\cdots W_1) = [W^\top W]^{j/N}$"
        axes.plot(time, np.maximum(worst, _NOTHING), ls="--", color="black", label=label)
    bound = float(ds["drift_bound"])
    axes.axhline(bound, color=_COLOURS[1], ls=":", label="bound of the certificate")
    axes.set(xlabel=_TIME, ylabel="drift of what is conserved, relative")
    axes.set(yscale="log", ylim=(_NOTHING / 2, bound * 1e6))
    axes.legend(loc="upper right")


@_figure("completion", "held_out_error", "effective_rank", columns=2)
def _completion(ds: xr.Dataset, figure: Figure) -> None:
    left, right = figure.axes
    left.plot(ds["time"], ds["held_out_error"], color="black")
    left.set(xlabel=_TIME, ylabel="relative error, unobserved entries", ylim=(0, None))
    right.plot(ds["time"], ds["effective_rank"], color=_COLOURS[0])
    right.set(xlabel=_TIME, ylabel="effective rank of W", ylim=(0, None))


@_figure(
    "residual",
    "residual_norm",
    "residual_bound",
    "mode_residuals",
    "descent_residual_norm",
    columns=2,
)
def _residual(ds: xr.Dataset, figure: Figure) -> None:
    left, right = figure.axes
    time = ds["time"].values
    left.plot(time, ds["residual_norm"], color="black", label="gradient flow  ‖u − y‖")
    left.plot(time, ds["residual_bound"], "--", color=_COLOURS[1], label=_BOUND)
    label, t, values = _descents(ds, "descent_residual_norm")[0]
    every = max(1, len(t) // 20)
    left.plot(
        t[::every],
        values[::every],
        "o",
        ms=4,
        mfc="none",
        color=_COLOURS[0],
        label=f"descent, {label}",
    )
    left.set(xlabel=_TIME, ylabel="residual ‖u − y‖", yscale="log")
    left.legend()
    modes = ds["mode_residuals"].values
    count = modes.shape[1]
    picked = sorted({min(count - 1, k) for k in (0, 2, 9, 29, 99, count - 1)})
    ramp = mpl.colormaps["viridis"](np.linspace(0.0, 0.9, len(picked)))
    later = time > 0
    for k, colour in zip(picked, ramp, strict=True):
        if modes[0, k] > 0:
            share = np.maximum(modes[later, k] / modes[0, k], 1e-12)
            right.loglog(time[later], share, color=colour, label=f"mode {k + 1}")
    right.set(xlabel=_TIME, ylabel="residual along eigenvectors of H, relative", ylim=(1e-6, 2))
    right.legend(title="largest\neigenvalue\nfirst", loc="upper left", bbox_to_anchor=(1, 1))


@_figure(
    "learning",
    "kernel_eigenvalues",
    "learning_times",
    "target_energy",
    "learned_share",
    "effective_dimension",
    columns=2,
)
def _learning(ds: xr.Dataset, figure: Figure) -> None:
    left, right = figure.axes
    lam, energy = ds["kernel_eigenvalues"].values, ds["target_energy"].values
    time, when = ds["time"].values, ds["learning_times"].values
    seen = np.arange(1, len(lam) + 1)
    positive = lam > 0
    left.loglog(seen[positive], lam[positive], color="black", label="eigenvalue λ of H")
    there = energy > 0
    left.loglog(seen[there], energy[there], ".", ms=4, color=_COLOURS[0], label="targets' energy")
    floor = max(energy.max() * 1e-6, _NOTHING)
    left.set(xlabel="mode, largest eigenvalue first", ylabel="λ, and share of ‖y − u₀‖²")
    left.set(ylim=(min(floor, lam[positive].min(initial=1.0) / 2), None))
    left.axhline(1 / time[-1], color="grey", ls=":", label="1/λ = the last time")
    left.legend(loc="lower left")
    later, learned = time > 0, np.isfinite(when)
    first = min(time[later][0], when.min())
    steps = np.concatenate([[first], when[learned]])
    total = np.concatenate([[0.0], np.cumsum(energy[learned])])
    label = r"targets' energy in modes with $1/\lambda \leq t$"
    right.step(steps, total, where="post", color=_COLOURS[0], label=label)
    label = r"learned:  $1 - \|u - y\|^2/\|u_0 - y\|^2$"
    right.plot(time[later], ds["learned_share"].values[later], color="black", label=label)
    share = ds["effective_dimension"].values[later] / len(lam)
    label = r"effective dimension $\sum\lambda/(\lambda + 1/t)$ of " + str(len(lam))
    right.plot(time[later], share, "--", color=_COLOURS[1], label=label)
    right.set(xlabel=_TIME, ylabel="share", xscale="log", xlim=(time[later][0], time[-1]))
    right.set(ylim=(0, 1.38), yticks=np.linspace(0, 1, 6))  # room for the legend
    right.legend(loc="upper left")


def _band(axes: Axes, x: np.ndarray, seeds: np.ndarray, **look: Any) -> np.ndarray:
    """The median over seeds (seed, x) with the band of their middle half; the median."""
    there = np.isfinite(seeds).any(axis=0)  # up to where the last one diverged; 0 is there
    seeds, x = seeds[:, there], x[there]
    middle = np.nanmedian(seeds, axis=0)
    axes.plot(x, middle, **look)
    low, high = np.nanpercentile(seeds, (25, 75), axis=0)
    axes.fill_between(x, low, high, color=look["color"], alpha=0.18, lw=0)
    return middle


@_figure(
    "implicit_regularization",
    "squared_gradient",
    "descent_squared_gradient",
    "descent_ratio",
    "modified_ratio",
    columns=2,
)
def _implicit_regularization(ds: xr.Dataset, figure: Figure) -> None:
    left, right = figure.axes
    left.plot(ds["time"], ds["squared_gradient"], color="black", label="gradient flow", zorder=1)
    for i, (label, t, values) in enumerate(_descents(ds, "descent_squared_gradient")):
        colour = _COLOURS[i % len(_COLOURS)]
        look: dict[str, Any] = {"ms": 4, "mfc": "none", "color": colour}
        every = max(1, len(t) // 25)
        left.plot(t[::every], values[::every], "o", label=label, **look)
        at = ds["loss_at_save"].values[i][: len(t)]
        right.plot(at[1::every], ds["descent_ratio"].values[i][1 : len(t) : every], "o", **look)
        right.plot(at[1:], ds["modified_ratio"].values[i][1 : len(t)], color=colour)
    right.axhline(1, color="black", zorder=1)
    left.set(xlabel=_TIME, ylabel=r"squared gradient  $\|\nabla L\|^2$", yscale="log")
    left.legend(title="gradient descent")
    right.plot([], [], "o", ms=4, mfc="none", color="grey", label="descent")
    right.plot([], [], color="grey", label="predicted by the modified flow")
    right.plot([], [], color="black", label="gradient flow")
    right.set(xlabel="loss  (falls to the right)", xscale="log")
    right.set(ylabel=r"$\|\nabla L\|^2$ over the flow's at equal loss")
    right.invert_xaxis()
    shown = np.nanquantile(ds["descent_ratio"].values[:, 1:], 0.05)  # the first steps are far off
    right.set_ylim(1 - 1.6 * (1 - min(shown, 0.999)), 1 + 0.1 * (1 - min(shown, 0.999)))
    right.legend()


@_figure(
    "continuous_vs_discrete",
    "travelled",
    "gap_to_flow",
    "gap_to_proxy",
    "proxy_to_flow",
    columns=2,
)
def _continuous_vs_discrete(ds: xr.Dataset, figure: Figure) -> None:
    step, proxy = _number(float(ds["step"])), int(ds["proxy"])
    lines: tuple[tuple[str, dict[str, Any], str], ...] = (
        ("travelled", {"color": "black"}, "descent from its start: distance travelled"),
        ("gap_to_flow", {"color": _COLOURS[0]}, "descent from the flow"),
        ("gap_to_proxy", {"color": _COLOURS[1], "ls": "--"}, f"descent from the proxy, η/{proxy}"),
        ("proxy_to_flow", {"color": _COLOURS[2]}, "the proxy from the flow"),
        ("solver_error", {"color": "grey", "ls": ":"}, "the flow from the exact one, estimated"),
    )
    later = ds["time"].values > 0
    time = ds["time"].values[later]
    for axes, name in zip(figure.axes, ds["network"].values, strict=False):
        one = ds.sel(network=name)
        for variable, look, label in lines:
            axes.plot(time, one[variable].values[later], label=label, **look)
        axes.set(xlabel=_TIME, ylabel=f"distance of parameters,  η = {step}", yscale="log")
        axes.set_title(f"{name} network", fontsize=10)
    for axes in figure.axes[ds.sizes["network"] :]:
        axes.remove()
    low = min(axes.get_ylim()[0] for axes in figure.axes)
    high = max(axes.get_ylim()[1] for axes in figure.axes)
    for axes in figure.axes:
        axes.set_ylim(low, high)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)


@_figure("distance", "descent_distance", "flow_distance")
def _distance(ds: xr.Dataset, figure: Figure) -> None:
    axes = figure.axes[0]
    epochs = ds["epoch"].values
    for i, width in enumerate(ds["width"].values):
        colour = _COLOURS[i % len(_COLOURS)]
        label = f"m = {int(width)}"
        middle = _band(axes, epochs, ds["descent_distance"].values[i], color=colour, label=label)
        flow = np.median(ds["flow_distance"].values[i], axis=0)
        axes.plot(epochs, flow, ls=":", color=colour)
        peak = int(middle.argmax())
        axes.plot(epochs[peak], middle[peak], "v", ms=7, color=colour)
        _note(axes, _number(middle[peak]), (epochs[peak], middle[peak]), (0, 7), colour)
        if i == 0 and 0 < peak < len(middle) - 1:
            _phases(axes, epochs, middle, peak)
    axes.plot([], [], color="grey", label="descent, median and middle half of seeds")
    axes.plot([], [], ls=":", color="grey", label="flow, median")
    axes.set_xscale("symlog", linthresh=1)  # shows the start too, where the distance is 0
    axes.set(xlabel="epochs k  (t = kη)", ylabel="distance of network to kernel  ‖u − u'‖")
    top = axes.get_ylim()[1]
    axes.set(xlim=(0, epochs[-1]), ylim=(0, 1.15 * top))
    axes.legend(ncols=2, loc="upper right")


def _note(axes: Axes, text: str, at: tuple[float, float], by: tuple[int, int], colour: str) -> None:
    look: dict[str, Any] = {"ha": "center", "color": colour, "fontsize": 9}
    axes.annotate(text, at, xytext=by, textcoords="offset points", **look)


def _phases(axes: Axes, epochs: np.ndarray, middle: np.ndarray, peak: int) -> None:
    """Name rise, peak and decline along the first curve."""
    half = 0.5 * middle[peak]
    early = np.interp(half, middle[: peak + 1], epochs[: peak + 1])
    late = int(np.flatnonzero(middle[peak:] <= 0.5 * (middle[peak] + middle[-1]))[0]) + peak
    _note(axes, "rise", (early, half), (-16, 4), "grey")
    _note(axes, "peak", (epochs[peak], middle[peak]), (0, 18), "grey")
    _note(axes, "decline", (epochs[late], middle[late]), (24, 8), "grey")


@_figure("peak", "descent_distance", "fit_slope")
def _peak(ds: xr.Dataset, figure: Figure) -> None:
    axes = figure.axes[0]
    parts = {
        "descent_peak": ("descent_distance", "o", "network to kernel, descent"),
        "flow_peak": ("flow_distance", "s", "network to kernel, flow"),
        "linear_peak": ("linear_distance", "D", "network to its linearisation, flow"),
    }
    for i, (fit, (name, marker, label)) in enumerate(parts.items()):
        peaks = ds[name].values.max(axis=2)
        shift = 1.06 ** (i - 1)  # beside each other
        _against_width(ds, axes, fit, peaks, (_COLOURS[i], marker, label), shift=shift)
    if "solver_error" in ds:
        error = ds["solver_error"].values.max(axis=1)
        axes.plot(ds["width"], error, "x:", color="grey", label="solver's own error, flow")
    _log_widths(ds, axes)
    axes.set(ylabel="largest distance over the epochs")
    axes.set_ylim(bottom=axes.get_ylim()[0] / 30)  # room for the legend
    axes.legend(loc="lower left")


def _against_width(
    ds: xr.Dataset,
    axes: Axes,
    fit: str,
    values: np.ndarray,
    look: tuple[str, str, str],
    *,
    unit: float = 1.0,
    shift: float = 1.0,
) -> None:
    """Medians and middle halves of values (width, seed) in a unit, with the fitted power."""
    colour, marker, label = look
    there = np.isfinite(values).any(axis=1)
    widths, values = ds["width"].values[there], values[there] / unit
    if not len(widths):
        return
    low, middle, high = np.nanpercentile(values, (25, 50, 75), axis=1)
    law = ds.sel(fit=fit)
    slope = float(law["fit_slope"])
    if np.isfinite(slope):
        label += f": slope {slope:.2f}"
        if np.isfinite(law["fit_low"]):
            label += f" ({float(law['fit_low']):.2f} to {float(law['fit_high']):.2f})"
        line = float(law["fit_constant"]) / unit * widths**slope
        axes.plot(widths, line, color=colour, lw=1)
    spread = np.stack([middle - low, high - middle])
    axes.errorbar(
        widths * shift, middle, spread, ls="none", marker=marker, ms=6, color=colour, label=label
    )


def _log_widths(ds: xr.Dataset, axes: Axes) -> None:
    widths = ds["width"].values
    axes.set(xscale="log", yscale="log", xlabel="hidden width m")
    axes.set_xticks(widths, [str(int(width)) for width in widths])
    axes.minorticks_off()


@_figure("kernel_drift", "kernel_drift", "kernel_error", "kernel_norm", columns=2)
def _kernel_drift(ds: xr.Dataset, figure: Figure) -> None:
    left, right = figure.axes
    norm = float(ds["kernel_norm"])
    time = ds["time"].values
    drift = ds["kernel_drift"].values
    for i, width in enumerate(ds["width"].values):
        colour = _COLOURS[i % len(_COLOURS)]
        _band(left, time, drift[i] / norm, color=colour, label=f"m = {int(width)}")
    left.set(xlabel=_TIME, ylabel="kernel's drift  ‖H(t) − H(0)‖ / ‖H*‖", ylim=(0, None))
    left.legend()
    parts = {
        "kernel_error": (ds["kernel_error"].values, "o", "‖H(0) − H*‖"),
        "kernel_drift": (drift.max(axis=2), "s", "largest ‖H(t) − H(0)‖"),
    }
    for i, (fit, (values, marker, label)) in enumerate(parts.items()):
        _against_width(ds, right, fit, values, (_COLOURS[i], marker, label), unit=norm)
    _log_widths(ds, right)
    right.set(ylabel="relative to ‖H*‖")
    right.legend()


@_figure("training", "network_loss", "kernel_loss")
def _training(ds: xr.Dataset, figure: Figure) -> None:
    axes = figure.axes[0]
    time = ds["time"].values
    later = time > 0
    for i, width in enumerate(ds["width"].values):
        colour = _COLOURS[i % len(_COLOURS)]
        network, kernel = (
            np.median(ds[name].values[i][:, later], axis=0)
            for name in ("network_loss", "kernel_loss")
        )
        axes.loglog(time[later], network, color=colour, label=f"m = {int(width)}")
        axes.loglog(time[later], kernel, ls="--", color=colour)
    axes.plot([], [], color="grey", label="network's flow")
    axes.plot([], [], ls="--", color="grey", label="kernel flow")
    axes.set(xlabel=_TIME, ylabel="loss ½‖u − y‖², median of seeds")
    axes.legend()


@_figure("sharpness", "sharpness", "descent_sharpness")
def _sharpness(ds: xr.Dataset, figure: Figure) -> None:
    axes = figure.axes[0]
    limits = []
    for i, (label, t, values) in enumerate(_descents(ds, "descent_sharpness")):
        colour = _COLOURS[i % len(_COLOURS)]
        axes.plot(t, values, "o", ms=3, mfc="none", color=colour, label=f"descent, {label}")
        limit = 2 / float(ds["step_size"].values[i])
        limits.append((limit, colour))
    axes.plot(ds["time"], ds["sharpness"], color="black", label="gradient flow", zorder=3)
    highest = float(ds["sharpness"].max())
    # A descent that diverges must not set the scale.
    top = 1.3 * max(highest, min(float(ds["descent_sharpness"].max()), 1.5 * highest))
    for limit, colour in limits:
        if limit < top:
            axes.axhline(limit, color=colour, ls="--", lw=1)
    axes.plot([], [], color="grey", ls="--", lw=1, label="2/η")
    axes.set(xlabel=_TIME, ylabel=_SHARPNESS, ylim=(0, top))
    axes.legend()


@_figure("network", "gradient_norm", "distance", "descent_distance", "gap", columns=3)
def _network(ds: xr.Dataset, figure: Figure) -> None:
    left, middle, right = figure.axes
    panels = [(middle, "gradient_norm", r"gradient norm  $\|\nabla L\|$")]
    panels.append((right, "distance", r"distance from the start  $\|\theta - \theta_0\|$"))
    if "accuracy" in ds:
        panels.append((left, "accuracy", "share classified correctly"))
    else:
        panels.append((left, "loss", "loss"))
    for axes, name, label in panels:
        for i, (step, t, values) in enumerate(_descents(ds, f"descent_{name}")):
            colour = _COLOURS[i % len(_COLOURS)]
            every = max(1, len(t) // 25)
            axes.plot(t[::every], values[::every], "o", ms=4, mfc="none", color=colour, label=step)
        axes.plot(ds["time"], ds[name], color="black", label="gradient flow", zorder=1)
        axes.set(xlabel=_TIME, ylabel=label)
    middle.set_yscale("log")
    right.legend()


@_figure(
    "edge_of_stability", "flow_loss", "flow_sharpness", "edge_sharpness", "step_loss", columns=2
)
def _edge(ds: xr.Dataset, figure: Figure) -> None:
    left, right = figure.axes
    limits = 2 / ds["step_size"].values
    losses = _descents(ds, "step_loss", "step_time")
    sharpness = _descents(ds, "edge_sharpness")
    averaged = _descents(ds, "central_averaged_loss", "central_time")
    central = _descents(ds, "central_sharpness", "central_time")
    for i, limit in enumerate(limits):
        colour = _COLOURS[i % len(_COLOURS)]
        label, t, values = losses[i]
        left.plot(t, values, color=colour, lw=0.7, alpha=0.45)
        _, t, values = averaged[i]
        left.plot(t, values, "--", color=colour, lw=2)
        _, t, values = sharpness[i]
        right.plot(t, values, "o", ms=3, mfc="none", color=colour)
        _, t, values = central[i]
        right.plot(t, values, "--", color=colour, lw=2)
        right.axhline(limit, color=colour, ls=":", lw=1.2)
        left.plot([], [], color=colour, label=label)
    left.plot(ds["time"], ds["flow_loss"], color="black", lw=1.2)
    right.plot(ds["time"], ds["flow_sharpness"], color="black", lw=2)
    highest = max(float(ds["flow_sharpness"].max()), float(limits.max()))
    lowest = float(ds["flow_loss"].min())
    top = 1.5 * float(ds["flow_loss"].max())  # a descent that diverges must not set the scale
    left.set(xlabel=_TIME, ylabel="loss", yscale="log", ylim=(0.8 * lowest, top))
    right.set(xlabel=_TIME, ylabel=_SHARPNESS, ylim=(0, 1.15 * highest))
    left.plot([], [], "--", color="grey", lw=2, label=_AVERAGED)
    left.plot([], [], color="black", lw=1.2, label="gradient flow")
    left.legend(title="gradient descent")
    right.plot([], [], color="black", lw=2, label="gradient flow")
    right.plot([], [], "o", ms=3, mfc="none", color="grey", label="gradient descent")
    right.plot([], [], "--", color="grey", lw=2, label="central flow")
    right.plot([], [], ":", color="grey", lw=1.2, label="2/η")
    right.legend(loc="lower right")


@_figure("leaving", "relative_gap", "oscillation", "smooth_variance", columns=3)
def _leaving(ds: xr.Dataset, figure: Figure) -> None:
    left, middle, right = figure.axes
    gaps = _descents(ds, "relative_gap")
    averages = _descents(ds, "smooth_variance", "step_time")
    predicted = _descents(ds, "central_variance", "central_time")
    for i, (label, t, values) in enumerate(gaps):
        colour, crossing = _COLOURS[i % len(_COLOURS)], float(ds["crossing"].values[i])
        left.plot(t[1:], values[1:], color=colour, label=label)
        if np.isfinite(crossing):
            left.axvline(crossing, color=colour, ls=":", lw=1.2)
        _, t, values = averages[i]
        right.plot(t, values, color=colour, label=label)
        _, t, values = predicted[i]
        right.plot(t, values, "--", color=colour, lw=2)
    left.plot([], [], ":", color="grey", label="flow passes 2/η")
    left.set(xlabel=_TIME, yscale="log", ylabel="distance of descent to flow, relative")
    left.legend()
    label, t, values = _descents(ds, "oscillation", "step_time")[0]
    middle.plot(t, values, color=_COLOURS[0], lw=0.5, label=label)
    middle.set(xlabel=_TIME, ylabel=r"oscillation along the top eigenvector  $v_1$")
    middle.legend()
    right.plot([], [], color="grey", label="descent, averaged")
    right.plot([], [], "--", color="grey", lw=2, label=r"central flow  $\mathrm{tr}\,\Sigma$")
    right.set(xlabel=_TIME, ylabel="variance of the oscillation", ylim=(0, None))
    right.legend()


@_figure("test", "test_distance", "test_error", columns=2)
def _test(ds: xr.Dataset, figure: Figure) -> None:
    left, right = figure.axes
    epochs = ds["epoch"].values
    for i, width in enumerate(ds["width"].values):
        colour = _COLOURS[i % len(_COLOURS)]
        look = {"color": colour, "label": f"m = {int(width)}"}
        _band(left, epochs, ds["test_distance"].values[i], **look)
        _band(right, epochs, 100 * ds["test_error"].values[i], **look)
    kernel = np.nanmedian(100 * ds["kernel_test_error"].values, axis=(0, 1))
    right.plot(epochs, kernel, "--", color="black", label="kernel")
    left.set(ylabel="network to kernel at test points, root mean square")
    right.set(ylabel="misclassified test points, %")
    for axes in (left, right):
        axes.set_xscale("symlog", linthresh=1)
        axes.set(xlabel="epochs k  (t = kη)", xlim=(0, epochs[-1]), ylim=(0, None))
        axes.legend()
