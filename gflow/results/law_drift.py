"""Conservation laws: formulas, count, and their drift along flow and descent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import xarray as xr

from gflow.linalg.arrays import to_numpy
from gflow.results.arrays import STEP_SIZE, TIME, add_variable, label, padded
from gflow.results.base import Column, Result
from gflow.results.lines import Line, loss_line, stability_line
from gflow.results.summaries import certificate_summary, cost_summary
from gflow.studies.law_drift import LawDrift


class LawDriftResult(Result):
    """Drift of every ``law`` over ``time``, and over ``step_size`` × ``save`` along descents.

    ``largest_drift`` has its maximum for each step size.
    """

    kind: ClassVar[str] = "law-drift"
    study_type: ClassVar[type | None] = LawDrift
    rows_key: ClassVar[str] = "laws"
    row_label: ClassVar[str] = "law"
    row_meaning: ClassVar[str] = (
        "One row is one conservation law of the flow, with its drift along flow and descent."
    )
    number_attributes: ClassVar[Mapping[str, dict[str, str]]] = {
        "flow_drift": label("largest drift of a law along the flow"),
        "smallest_drift": label("drift of a law along descent with the smallest step"),
        "drift_order": label("order of a law's drift in the step size"),
    }

    @classmethod
    def from_study(cls, study: LawDrift, facts: Mapping[str, Any] | None = None) -> LawDriftResult:
        """Return the result of a study.

        Parameters
        ----------
        study : LawDrift
        facts : mapping of str to object, optional
            Plain values for the summary.
        """
        return cls(_dataset(study), {**_summary(study), **(facts or {})})

    @classmethod
    def columns(cls, summary: Mapping[str, Any]) -> Sequence[Column]:
        """Return law, entries, decay, and drift along flow and descent with its order."""
        decays = any(row["decay_rate"] for row in cls.rows(summary))
        decay = Column("decay_rate", "rate", meaning="r where the law decays as e^(−rt)")
        return (
            Column("law", "law", meaning="name of the law; its formula is below"),
            Column("entries", "entries", meaning="numbers that the law conserves"),
            *([decay] if decays else []),
            Column("flow_drift", "drift, flow", ".2g", "largest relative drift along the flow"),
            Column(
                "smallest_drift",
                "descent",
                ".2g",
                "the same along descent with the smallest step size",
            ),
            Column("drift_order", "order", ".3g", "fitted power of the step size in that drift"),
        )

    @classmethod
    def lines(cls, summary: Mapping[str, Any]) -> Sequence[Line]:
        """Return the formulas, the count, loss, stability limit and refused fits."""
        rows = cls.rows(summary)
        formulas = [(row["law"], row["formula"]) for row in rows if row["formula"]]
        refused = [
            (f"order of {row['law']}", f"none: {row['refusal']}") for row in rows if row["refusal"]
        ]
        return [
            *formulas,
            ("count", _count_text(summary)),
            loss_line(summary),
            stability_line(summary),
            *refused,
        ]


def _count_text(summary: Mapping[str, Any]) -> str:
    if "independent_laws" not in summary:
        return "not counted: a module of at most 400 parameters is"
    found, laws = summary["found_laws"], summary["independent_laws"]
    parameters, dimension = summary["parameters"], summary["dimension"]
    verdict = "all are found" if found == laws else f"{found} of them are found"
    return f"{laws} independent laws = {parameters} parameters − {dimension} dimensions; {verdict}"


def _dataset(study: LawDrift) -> xr.Dataset:
    names = list(study.fits)
    path, sizes = study.trajectory, list(study.step_sizes)
    ds = xr.Dataset(
        coords={
            "law": ("law", names, label("conservation law")),
            "time": ("time", path.ts.numpy(), TIME),
            "step_size": ("step_size", sizes, STEP_SIZE),
        }
    )
    drift = np.stack([to_numpy(study.flow_drift[name]) for name in names])
    add_variable(ds, "law_drift", ("law", "time"), drift, "relative drift along the flow")
    ds["descent_time"] = (
        ("step_size", "save"),
        padded([to_numpy(descent.ts) for descent in study.descents]),
        TIME,
    )
    rows = [
        np.stack([to_numpy(seen[name]) for name in names], axis=1) for seen in study.descent_drift
    ]
    long_name = "relative drift along descent"
    dims = ("step_size", "save", "law")
    add_variable(ds, "descent_law_drift", dims, padded(rows), long_name)
    largest = [list(study.fits[name].gaps) for name in names]
    add_variable(
        ds, "largest_drift", ("law", "step_size"), largest, "largest relative drift along descent"
    )
    orders = [np.nan if fit.order is None else fit.order for fit in study.fits.values()]
    add_variable(ds, "drift_order", ("law",), orders, "order of the drift in the step size")
    return ds


def _summary(study: LawDrift) -> dict[str, Any]:
    path = study.trajectory
    rows = [
        {
            "law": name,
            "formula": study.formulas[name],
            "entries": study.sizes[name],
            "decay_rate": study.decay_rates[name],
            "flow_drift": float(study.flow_drift[name].max()),
            "smallest_drift": fit.gaps[-1],
            "drift_order": fit.order,
            "refusal": fit.refusal,
        }
        for name, fit in study.fits.items()
    ]
    counted = study.count
    counts = (
        {}
        if counted is None
        else {
            "parameters": counted.parameters,
            "dimension": counted.dimension,
            "independent_laws": counted.laws,
            "found_laws": counted.found,
        }
    )
    return {
        "t_end": float(path.ts[-1]),
        "initial_loss": float(path.losses[0]),
        "final_loss": float(path.losses[-1]),
        "stability_limit": study.stability_limit,
        "step_sizes": list(study.step_sizes),
        "laws": rows,
        **counts,
        "certificate": certificate_summary(path),
        "cost": cost_summary(path),
    }
