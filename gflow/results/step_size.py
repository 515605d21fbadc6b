"""A step-size study: gaps against step sizes, and the orders fitted to them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import xarray as xr

from gflow.linalg.arrays import to_numpy
from gflow.results.arrays import STEP_SIZE, TIME, add_variable, label, padded
from gflow.results.base import Column, Result
from gflow.results.lines import Line, format_value, solver_error_line, stability_line
from gflow.results.summaries import certificate_summary, cost_summary
from gflow.studies.fitting import OrderFit
from gflow.studies.step_size import StepSizeStudy

ORDER_ATTRIBUTES = {"order": label("fitted order of the gap")}


class StepSizeResult(Result):
    """Gaps over ``step_size`` (and ``save``, at ``gap_time``) with the fitted order."""

    kind: ClassVar[str] = "step-size"
    study_type: ClassVar[type | None] = StepSizeStudy
    rows_key: ClassVar[str] = "step_sizes"
    row_meaning: ClassVar[str] = (
        "One row is one gradient descent from the start of the flow, with its own step size."
    )
    row_label: ClassVar[str] = "step_size"
    number_attributes: ClassVar[Mapping[str, dict[str, str]]] = ORDER_ATTRIBUTES

    @classmethod
    def from_study(cls, study: StepSizeStudy) -> StepSizeResult:
        """Return the result of a study."""
        return cls(step_size_dataset(study), step_size_summary(study))

    @classmethod
    def columns(cls, summary: Mapping[str, Any]) -> Sequence[Column]:
        """Return step size, gap, whether it is stable and in the fit; the modified flow's gap."""
        return step_size_columns("modified_order" in summary)

    @classmethod
    def lines(cls, summary: Mapping[str, Any]) -> Sequence[Line]:
        """Return the fitted orders, the solver's error and the stability limit."""
        return [*order_lines(summary), solver_error_line(summary), stability_line(summary)]


def step_size_columns(modified: bool, measured: str = "distance") -> list[Column]:
    """Return the columns of a step-size study, with the gap to the modified flow if ``modified``.

    Parameters
    ----------
    modified : bool
    measured : str
        What the gaps measure between descent and flow.

    Returns
    -------
    list of Column

    Examples
    --------
    >>> [column.heading for column in step_size_columns(False)]
    ['step size', 'largest gap', 'stable', 'in the fit']
    """
    gap = f"largest {measured} of descent to the flow at equal time t = kη"
    other = f"largest {measured} to the modified flow, which descent follows to second order in η"
    columns = [
        Column("step_size", "step size", meaning="step size η of descent"),
        Column("largest_gap", "largest gap", meaning=gap),
        Column("stable", "stable", meaning="whether η is below the stability limit 2/λ_max"),
        Column("fitted", "in the fit", meaning="whether the fit of the order uses this row"),
    ]
    if modified:
        columns.append(Column("modified_gap", "gap to modified flow", meaning=other))
    return columns


def order_lines(summary: Mapping[str, Any]) -> list[Line]:
    """Return the lines of the order fitted to the gaps, and to those of the modified flow."""
    lines = [("order", _order(summary, ""))]
    if "modified_order" in summary:
        lines.append(("modified", f"order {_order(summary, 'modified_')}"))
    return lines


def _order(summary: Mapping[str, Any], prefix: str) -> str:
    order = summary[f"{prefix}order"]
    if order is None:
        return f"not fitted: {summary[f'{prefix}refusal']}"
    low, high = (format_value(end, ".3f") for end in summary[f"{prefix}order_interval"])
    return f"{format_value(order, '.3f')} (95 %: {low} to {high})"


def step_size_dataset(study: StepSizeStudy) -> xr.Dataset:
    """Return the labelled arrays of a step-size study over ``step_size``."""
    sizes, lead = list(study.step_sizes), ("step_size", "save")
    ds = xr.Dataset(coords={"step_size": ("step_size", sizes, STEP_SIZE)})
    columns = {
        "largest_gap": (study.gaps, "largest distance of descent to flow"),
        "fitted": (study.fitted, "whether in the fit"),
        "stable": (study.stable, "whether below 2/λ_max"),
    }
    for name, (values, long_name) in columns.items():
        add_variable(ds, name, ("step_size",), list(values), long_name)
    ds["gap_time"] = (lead, padded([to_numpy(t) for t, _ in study.gap_curves]), TIME)
    gaps = padded([to_numpy(g) for _, g in study.gap_curves])
    add_variable(ds, "gap", lead, gaps, "distance of descent to the flow")
    order, low, high = _order_values(study.fit)
    numbers = {
        "solver_error": (study.solver_error, "solver's own error"),
        "stability_limit": (study.stability_limit, "2/λ_max"),
        "order": (order, "fitted order"),
        "order_low": (low, "lower end of the order's 95 % interval"),
        "order_high": (high, "upper end of the order's 95 % interval"),
    }
    for name, (value, long_name) in numbers.items():
        add_variable(ds, name, (), value, long_name)
    if study.modified_fit is not None:
        _add_modified(ds, study.modified_fit)
    return ds


def _add_modified(ds: xr.Dataset, fit: OrderFit) -> None:
    lead = ("step_size",)
    add_variable(ds, "modified_gap", lead, list(fit.gaps), "largest distance to the modified flow")
    fitted = list(fit.fitted)
    add_variable(ds, "modified_fitted", lead, fitted, "whether in the fit of modified_gap")
    order, low, high = _order_values(fit)
    numbers = {
        "modified_order": (order, "order of modified_gap"),
        "modified_order_low": (low, "lower end of its 95 % interval"),
        "modified_order_high": (high, "upper end of its 95 % interval"),
        "modified_solver_error": (fit.solver_error, "error of that flow"),
    }
    for name, (value, long_name) in numbers.items():
        add_variable(ds, name, (), value, long_name)


def _order_values(fit: OrderFit) -> tuple[float, float, float]:
    """Return the order and the ends of its interval; NaN where the fit was refused."""
    if fit.order is None or fit.order_interval is None:
        return math.nan, math.nan, math.nan
    return fit.order, *fit.order_interval


def step_size_summary(study: StepSizeStudy) -> dict[str, Any]:
    """Return the summary of a step-size study, with one row a step size."""
    columns = (study.step_sizes, study.gaps, study.stable, study.fitted)
    rows = [
        {"step_size": size, "largest_gap": gap, "stable": stable, "fitted": fitted}
        for size, gap, stable, fitted in zip(*columns, strict=True)
    ]
    summary = {
        **_fit_summary(study.fit, ""),
        "stability_limit": study.stability_limit,
        "step_sizes": rows,
        "certificate": certificate_summary(study.trajectory),
        "cost": cost_summary(study.trajectory),
    }
    modified = study.modified_fit
    if modified is not None:
        summary |= _fit_summary(modified, "modified_")
        for row, gap, fitted in zip(rows, modified.gaps, modified.fitted, strict=True):
            row |= {"modified_gap": gap, "modified_fitted": fitted}
    return summary


def _fit_summary(fit: OrderFit, prefix: str) -> dict[str, Any]:
    return {
        f"{prefix}order": fit.order,
        f"{prefix}order_interval": None if fit.order_interval is None else [*fit.order_interval],
        f"{prefix}refusal": fit.refusal,
        f"{prefix}solver_error": fit.solver_error,
    }
