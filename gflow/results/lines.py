"""Lines below a result's table: a label and a text, from a summary.

A summary may have been read back from JSON, where NaN is None and an infinite number a string.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Line = tuple[str, str]


def format_value(value: Any, spec: str = ".4g") -> str:
    """Return a plain value as text: numbers by ``spec``, "-" for None and NaN.

    Parameters
    ----------
    value : bool, int, float, str or None
    spec : str
        Format specification of floating-point numbers.

    Returns
    -------
    str

    Examples
    --------
    >>> [format_value(value) for value in (0.123456, 7, True, None, "inf")]
    ['0.1235', '7', 'yes', '-', 'inf']
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    return f"{value:{spec}}" if isinstance(value, float) else str(value)


def loss_line(summary: Mapping[str, Any]) -> Line:
    """Return the line of ``final_loss``."""
    return "loss", f"{format_value(summary['final_loss'], '.6g')} at the end of the flow"


def solver_error_line(summary: Mapping[str, Any]) -> Line:
    """Return the line of ``solver_error``, which is NaN or None where it was not measured."""
    error = format_value(summary["solver_error"], ".2g")
    text = "not measured" if error == "-" else f"{error} (compare with the gaps)"
    return "solver error", text


def stability_line(summary: Mapping[str, Any], rows: Iterable[Mapping[str, Any]] = ()) -> Line:
    """Return the line of ``stability_limit``, with the step sizes of rows that are not stable.

    Parameters
    ----------
    summary : mapping
    rows : iterable of mapping, optional
        With ``step_size`` and ``stable``.

    Returns
    -------
    (str, str)
        Label and text.

    Examples
    --------
    >>> stability_line({"stability_limit": 2.0}, [{"step_size": 3.0, "stable": False}])
    ('stability', 'descent is stable below 2/λ_max = 2; beyond it: 3')
    """
    text = f"descent is stable below 2/λ_max = {format_value(summary['stability_limit'])}"
    beyond = [format_value(row["step_size"]) for row in rows if row.get("stable") is False]
    return "stability", f"{text}; beyond it: {', '.join(beyond)}" if beyond else text


def fact_lines(summary: Mapping[str, Any]) -> list[Line]:
    """Return the lines of ``time_unit`` and of every ``final_...`` but the losses.

    A quantity whose name ends in ``_holds`` is a truth value, stored as 0 or 1.

    Examples
    --------
    >>> fact_lines({"final_test_error": 0.25, "final_bound_holds": 1.0})
    [('test error', '0.25 at the end of the flow'), ('bound holds', 'yes at the end of the flow')]
    """
    lines = [("time", summary["time_unit"])] if "time_unit" in summary else []
    for key, value in summary.items():
        if key.startswith("final_") and key not in ("final_loss", "final_kernel_loss"):
            name = key.removeprefix("final_").replace("_", " ")
            text = format_value(value)
            if key.endswith("_holds") and text != "-":
                text = format_value(bool(value))
            lines.append((name, f"{text} at the end of the flow"))
    return lines


def certificate_line(failures: Sequence[str]) -> Line:
    """Return the line of the certificates' failures."""
    return "certificate", "DOES NOT HOLD: " + "; ".join(failures) if failures else "holds"


def cost_lines(cost: Mapping[str, Any]) -> list[Line]:
    """Return the lines of a summary's ``cost``: evaluations and time, method and its reason.

    Examples
    --------
    >>> cost = {"rhs_evals": 48, "wall_seconds": 0.012, "method": "exact", "reason": "closed form"}
    >>> cost_lines(cost)
    [('cost', '48 evaluations, 0.01 s'), ('method', 'exact, closed form')]
    """
    seconds = format_value(cost["wall_seconds"], ".2f")
    return [
        ("cost", f"{cost['rhs_evals']} evaluations, {seconds} s"),
        ("method", f"{cost['method']}, {cost['reason']}"),
    ]
