"""Work-precision figures: true error against gradient-equivalents and wall seconds."""

from __future__ import annotations

import matplotlib.pyplot as plt
from matched_error import by_method, certified_seconds, gradient_equivalents, solve_seconds
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from measuring import Row
from problems import PROBLEMS
from rows import RESULTS

_MARKS = "osD^v<>Pp*hX"
_FLOOR = 1e-10  # smaller errors are drawn here


def draw(rows: list[Row]) -> None:
    """Draw a file per problem, ``results/solvers-NAME.png``; the lines of peers are dashed."""
    for name in PROBLEMS:
        groups = by_method(rows, name)
        if any(row.answered for group in groups.values() for row in group):
            _draw_problem(name, groups)


def _draw_problem(name: str, groups: dict[str, list[Row]]) -> None:
    problem = PROBLEMS[name]()
    figure, axes = plt.subplots(1, 2, figsize=(12.5, 5.2), sharey=True, layout="constrained")
    sizes = {"gflow": 0, "peer": 0, "yardstick": 0}
    for method, group in groups.items():
        family = group[0].family
        style = _style(method, family, sizes[family])  # equal on every problem
        sizes[family] += 1
        answered = [row for row in group if row.answered]
        if not answered:
            continue
        lines = [(axes[0], gradient_equivalents, ""), (axes[1], solve_seconds, "")]
        if method == "gflow auto":
            lines.append((axes[1], certified_seconds, ", with certificate"))
        for ax, cost, addition in lines:
            points = [(cost(row), max(row.error or 0, _FLOOR)) for row in answered]
            points = [(c, e) for c, e in points if c == c and c > 0]
            costs, errors = [c for c, _ in points], [e for _, e in points]
            dotted = {"linestyle": ":"} if addition else {}
            ax.plot(costs, errors, label=method + addition, **{**style, **dotted})
    labels = ("gradient-equivalents", "wall seconds of the solve")
    for ax, label in zip(axes, labels, strict=True):
        ax.set(xscale="log", yscale="log", xlabel=label)
        low, high = ax.get_xlim()
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 200 * low else (1,)))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.grid(True, which="major", alpha=0.3)
        for level in (1e-3, 1e-6):
            ax.axhline(level, color="0.6", linewidth=0.8, linestyle=":")
    axes[0].set_ylabel("root-mean-square error at T" if problem.rms else "relative error at T")
    least = min((r.error for g in groups.values() for r in g if r.answered and r.error), default=1)
    axes[0].set_ylim(bottom=max(_FLOOR, least) / 3, top=1)
    handles, labels = axes[1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize=8)
    figure.suptitle(problem.title)
    RESULTS.mkdir(exist_ok=True)
    figure.savefig(RESULTS / f"solvers-{name}.png", dpi=110)
    plt.close(figure)


def _style(method: str, family: str, index: int) -> dict[str, object]:
    if method == "gflow auto":
        return {"color": "black", "linewidth": 3.2, "alpha": 0.45, "marker": "o", "markersize": 8}
    if family == "yardstick":
        return {"color": "black", "linestyle": "", "marker": "*", "markersize": 11}
    if family == "gflow":
        colour = plt.get_cmap("tab10")(index % 10)
        return {"color": colour, "linewidth": 2.0, "marker": "o", "markersize": 4}
    colour = plt.get_cmap("tab20")(index % 20)
    mark = _MARKS[index % len(_MARKS)]
    return {"color": colour, "linewidth": 1, "linestyle": "--", "marker": mark, "markersize": 4.5}
