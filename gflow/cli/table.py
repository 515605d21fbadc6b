"""A run's summary as a short table on standard output."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from gflow.text import printable_values


def print_table(summary: Mapping[str, Any]) -> None:
    """A short table on standard output."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    summary = printable_values(summary)  # a run that goes on may take texts from its folder
    console = Console(highlight=False)
    title = Text(f"{summary['scenario']} on {summary['data']}", style="table.title")
    table = Table(title=title, title_justify="left")
    head: Sequence[str]
    rows: Sequence[Mapping[str, Any]]
    if "widths" in summary:
        head, rows = ("width", "peak distance", "at epoch", "final distance"), summary["widths"]
        keys: Sequence[str] = ("width", "peak_distance", "peak_epoch", "final_distance")
    elif "networks" in summary:
        head, rows = ("network", "travelled", "gap to flow", "gap to proxy"), summary["networks"]
        keys = ("network", "distance", "largest_gap", "largest_proxy_gap")
        head = (*head, "proxy to flow", "solver's error")
        keys = (*keys, "largest_proxy_error", "solver_error")
    elif "step_sizes" in summary:
        head, rows = ("step size", "largest gap", "stable", "in the fit"), summary["step_sizes"]
        keys = ("step_size", "largest_gap", "stable", "fitted")
        if "modified_order" in summary:
            head, keys = (*head, "gap to modified flow"), (*keys, "modified_gap")
        if "median_ratio" in rows[0]:
            head = (*head, "‖∇L‖² ratio", "expected")
            keys = (*keys, "median_ratio", "modified_median_ratio")
    elif "smoothing" in summary:
        head = (
            "step size",
            "2/η",
            "crossed at t",
            "gap before",
            "gap after",
            "central flow off by",
        )
        rows, keys = summary["descent"], ("step_size", "edge", "crossing", "gap_before")
        keys = (*keys, "gap_after", "central_error")
    else:
        head, rows = ("step size", "steps", "final loss", "largest gap"), summary["descent"]
        keys = ("step_size", "steps", "final_loss", "largest_gap")
    for heading in head:
        table.add_column(heading, justify="right")
    for row in rows:
        cells = [_cell(row[key]) for key in keys]
        if row.get("diverged_at") is not None:
            cells[-1] = f"diverged from step {row['diverged_at']}"
        elif row.get("stable") is False:
            cells[0] += " (unstable)"
        table.add_row(*map(Text, cells))
    console.print(table)
    for label, text in _lines(summary):
        console.print(f"{label:<9} {text}", soft_wrap=True, markup=False)


def _lines(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    lines = []
    if "final_loss" in summary:
        lines.append(("loss", f"{summary['final_loss']:.6g} at the end of the flow"))
    if "order" in summary:
        lines.append(("order", _order(summary, "")))
    if "modified_order" in summary:
        lines.append(("modified", f"order {_order(summary, 'modified_')}"))
    for name, law in summary.get("slopes", {}).items():
        if law is not None:
            text = f"{name.replace('_', ' ')} ∝ width^{law['slope']:.2f}"
            between = (
                "" if law["low"] is None else f" (95 %: {law['low']:.2f} to {law['high']:.2f})"
            )
            lines.append(("slope", text + between))
    if any("median_ratio" in row for row in summary.get("step_sizes", [])):
        lines.append(
            (
                "ratio",
                "of ‖∇L‖² to the flow's at equal loss, median; expected of the modified flow",
            )
        )
    if "solver_error" in summary:
        error = summary["solver_error"]
        text = "not measured" if math.isnan(error) else f"{error:.2g}, the solver's own"
        lines.append(("error", f"{text}, beside the gaps"))
    if "proxy" in summary:
        rows = summary["networks"]
        parts = [f"{r['network']} {r['largest_proxy_gap'] / r['largest_gap']:.1%}" for r in rows]
        spent = sum(r["proxy_evals"] for r in rows)
        text = f"sees {', '.join(parts)} of the gap, at {spent} evaluations"
        lines.append(("proxy", f"step / {summary['proxy']}: {text}"))
    if "reduction_error" in summary:
        text = f"{summary['reduction_error']:.2g} between the flow and its parameters' flow"
        lines.append(("reduction", text))
    limit = summary["stability_limit"]
    text = f"descent is stable below 2/λ_max = {limit:.4g}"
    beyond = [row["step_size"] for row in summary.get("descent", []) if row.get("stable") is False]
    if beyond:
        text += f"; beyond it: {', '.join(f'{step:.4g}' for step in beyond)}"
    lines.append(("stability", text))
    if "time_unit" in summary:
        lines.append(("time", summary["time_unit"]))
    for key, value in summary.items():
        if key.startswith("final_") and key not in ("final_loss", "final_kernel_loss"):
            lines.append(("final", f"{key.removeprefix('final_').replace('_', ' ')} {value:.4g}"))
    certificate = summary["certificate"]
    failures = [*certificate["failures"]]
    failures += summary.get("parameter_certificate", {"failures": []})["failures"]
    verdict = "holds" if not failures else "DOES NOT HOLD: " + "; ".join(failures)
    lines.append(("certified", verdict))
    cost = summary["cost"]
    text = f"{cost['rhs_evals']} evaluations, {cost['wall_seconds']:.2f} s, {cost['method']}"
    lines.append(("cost", f"{text} ({cost['reason']})"))
    return lines


def _order(summary: Mapping[str, Any], prefix: str) -> str:
    order = summary[f"{prefix}order"]
    if order is None:
        return f"not fitted: {summary[f'{prefix}refusal']}"
    low, high = summary[f"{prefix}order_interval"]
    return f"{order:.3f} (95 %: {low:.3f} to {high:.3f})"


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
