"""Lines below a result's table: a label and a text, from a summary.

A summary may have been read back from JSON, where NaN is None and an infinite number a string.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Line = tuple[str, str]

#: What a line says, by its label, as sentences for reports.
MEANINGS = {
    "loss": "The loss of the flow at its last time.",
    "solver error": "How far the computed flow may be from the exact one: a gap is evidence only "
    "where it is much larger.",
    "reduction error": "Distance between the flow of the end-to-end object and the flow of its "
    "parameters, which are solved independently.",
    "stability": "A descent whose step size exceeds 2/λ_max grows along the sharpest direction.",
    "time": "The unit of the time axis.",
    "order": "The exponent p of gap ∝ (step size)^p, fitted over the asymptotic range; Euler's "
    "method has order 1.",
    "modified": "The same exponent for the gap to the modified flow; theory gives 2.",
    "slope": "A power law fitted over the widths, with its interval over seeds.",
    "ratio": "How much smaller the squared gradient is along descent than along the flow.",
    "proxy": "How much of the gap to the flow a descent with a much smaller step size shows.",
    "stopped": "Where the solver stopped, and why.",
    "certificate": "Whether every check of the path is within its bound.",
    "cost": "Evaluations of the right-hand side, and the time that they took.",
    "method": "The solver, and the reason for the choice.",
}


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
