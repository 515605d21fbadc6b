"""Parts of a summary: certificates and costs as plain values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gflow.trajectory import Trajectory


def certificate_summary(path: Trajectory) -> dict[str, Any]:
    """Return a trajectory's certificate as plain values."""
    c = path.certificate
    return {
        "holds": c.holds,
        "failures": c.failures(),
        "energy_residual": c.energy_residual,
        "loss_increase": c.loss_increase,
        "invariant_drift": dict(c.invariant_drift),
        "velocity_error": c.velocity_error,
        "error_estimate": c.error_estimate,
        "bounds": dict(c.bounds),
        "not_run": list(c.not_run),
        "round_off": c.round_off,
        "underflow": c.underflow,
        "amplification": c.amplification,
        "escape_error": c.escape_error,
        "rest": c.rest,
    }


def cost_summary(path: Trajectory) -> dict[str, Any]:
    """Return a trajectory's statistics as plain values."""
    s = path.stats
    return {
        "method": s.method,
        "reason": s.reason,
        "rhs_evals": s.rhs_evals,
        "jvp_evals": s.jvp_evals,
        "accepted": s.accepted,
        "rejected": s.rejected,
        "wall_seconds": s.wall_seconds,
        "certificate_evals": s.certificate_evals,
    }


def combined_summary(paths: Mapping[str, Trajectory]) -> dict[str, Any]:
    """Return one ``certificate`` and one ``cost`` of several trajectories by name."""
    all_ = list(paths.values())
    failures = [f"{name}: {f}" for name, t in paths.items() for f in t.certificate.failures()]
    return {
        "certificate": {"holds": not failures, "failures": failures},
        "cost": {
            "method": ", ".join(dict.fromkeys(t.stats.method for t in all_)),
            "reason": all_[0].stats.reason,
            "rhs_evals": sum(t.stats.rhs_evals for t in all_),
            "wall_seconds": sum(t.stats.wall_seconds for t in all_),
        },
    }


def plain_numbers(values: object) -> dict[str, float]:
    """Return the numbers of a mapping, also infinite ones that JSON has as strings.

    Truth values are kept, and numbers whose name ends in ``_holds`` are made truth values.

    Examples
    --------
    >>> plain_numbers({"a": 1, "b": "inf", "c": None, "d": "text", "e": True, "f_holds": 0.0})
    {'a': 1.0, 'b': inf, 'e': True, 'f_holds': False}
    """
    if not isinstance(values, Mapping):
        return {}
    infinite = {"inf": math.inf, "-inf": -math.inf}
    plain = {k: infinite.get(v, v) if isinstance(v, str) else v for k, v in values.items()}
    numbers = {key: value for key, value in plain.items() if isinstance(value, int | float)}
    return {
        key: bool(value)
        if isinstance(value, bool) or (str(key).endswith("_holds") and value in (0, 1))
        else float(value)
        for key, value in numbers.items()
    }
