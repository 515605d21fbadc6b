"""What a report says about a sweep: its runs, their numbers against the swept keys, and figures."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
import xarray as xr

from gflow.errors import InputError
from gflow.plots.sweeps import sweep_figure
from gflow.reporting.citations import Reference, citations_of, method_of
from gflow.reporting.figures import ReportFigure, report_figure
from gflow.results.lines import format_value
from gflow.results.registry import find_kind
from gflow.runs.job import Job
from gflow.runs.reading import read_json
from gflow.settings.base import Scenario
from gflow.sweeping.dataset import load_sweep
from gflow.sweeping.folder import SweepStatus, read_plan, run_path, status
from gflow.sweeping.plan import Plan
from gflow.text import printable

_RUNS_SHOWN = 500
_NUMBERS_SHOWN = 8
_FIGURES_SHOWN = 6
_HUES = 6
#: Numbers that say most, in this order, before those of the columns of the runs' tables.
_FIRST = ("final_loss", "largest_gap", "peak_distance", "order")
_LAST = ("certificate_holds", "rhs_evals", "wall_seconds")


@dataclass(frozen=True)
class SweptRun:
    """A run of a sweep: its name, its link if it has a report, and the cells of its row."""

    name: str
    link: str
    state: str
    cells: tuple[str, ...]


@dataclass(frozen=True)
class SweepSection:
    """Everything that a report says about a sweep.

    Attributes
    ----------
    heading, question, setting : str
    verdict, verdict_heading, verdict_text : str
        As those of a run: of all runs together.
    counts : list of (state, number)
    axes : list of (key, values, meaning)
        The swept keys.
    headings : list of (heading, meaning)
        Of the table of runs.
    runs : list of SweptRun
    hidden_runs : int
        Runs that are left out of the page.
    failures : list of (name, reason)
    figures : list of ReportFigure
    command, toml : str
    references : list of Reference
    """

    heading: str
    question: str
    setting: str
    verdict: str
    verdict_heading: str
    verdict_text: str
    counts: list[tuple[str, int]]
    axes: list[tuple[str, str, str]]
    headings: list[tuple[str, str]]
    runs: list[SweptRun]
    hidden_runs: int
    failures: list[tuple[str, str]]
    figures: list[ReportFigure]
    command: str
    toml: str
    references: list[Reference]


def sweep_section(folder: Path) -> SweepSection:
    """Return what a report says about a sweep, finished or still running.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    SweepSection

    Raises
    ------
    InputError
        If there is no sweep in the folder, or none of its runs is done.

    Examples
    --------
    >>> sweep_section(Path("nowhere"))
    Traceback (most recent call last):
        ...
    gflow.errors.InputError: no sweep at nowhere: sweep.toml is missing
    """
    plan, now = read_plan(folder), status(folder)
    if not now.counts["done"]:
        raise InputError(f"a report needs a run that is done, and the sweep at {folder} has none")
    with warnings.catch_warnings(record=True) as damaged:
        warnings.simplefilter("always")
        ds = load_sweep(folder, curves=False)
    names = _numbers(ds, folder, now)
    scenario = plan.members[0].scenario
    heading = f"Sweep of {scenario.name} over {', '.join(_keys(plan)) or 'nothing'}"
    verdict, verdict_heading, verdict_text = _verdict(ds, now)
    shown = plan.members[:_RUNS_SHOWN]
    return SweepSection(
        heading=heading.replace("_", " "),
        question=scenario.title,
        setting=" ".join((type(scenario).__doc__ or "").split()),
        verdict=verdict,
        verdict_heading=verdict_heading,
        verdict_text=verdict_text,
        counts=[(state, count) for state, count in now.counts.items()],
        axes=[
            (axis.key, ", ".join(map(_text, axis.values)), _described(scenario, axis.key))
            for group in plan.groups
            for axis in group
        ],
        headings=[
            *((key.replace("_", " "), _described(scenario, key)) for key in _keys(plan)),
            *((name.replace("_", " "), _meaning(ds, name)) for name in names),
        ],
        runs=[_run(folder, ds, now, m.id, m.point, m.index, names) for m in shown],
        hidden_runs=len(plan.members) - len(shown),
        failures=[
            *((id, printable(reason)) for id, reason in now.reasons.items()),
            *(("damaged", printable(str(warning.message))) for warning in damaged),
        ],
        figures=_figures(ds, plan, names),
        command="gflow sweep sweep.toml",
        toml=tomli_w.dumps(plan.table()),
        references=_references(folder, plan, now),
    )


def _keys(plan: Plan) -> list[str]:
    return [axis.key for group in plan.groups for axis in group]


def _verdict(ds: xr.Dataset, now: SweepStatus) -> tuple[str, str, str]:
    total, done = len(now.states), now.counts["done"]
    holds = int((ds["certificate_holds"] == 1).sum()) if "certificate_holds" in ds else 0
    text = f"{done} of {total} runs are done; the certificate holds for {holds} of them."
    if holds == done == total:
        return "holds", "The certificate holds for every run", text
    if holds < done:
        return "uncertified", "The certificate does not hold for every run", text
    return "stopped", "Not every run is done", text


def _numbers(ds: xr.Dataset, folder: Path, now: SweepStatus) -> list[str]:
    """Return the names of the numbers that the table shows."""
    done = next(id for id, state in now.states.items() if state == "done")
    summary = read_json(run_path(folder, done), "summary.json")
    kind = find_kind(summary)
    keys = [column.key for column in kind.columns(summary)]
    columns = [f"{prefix}{key}" for key in keys for prefix in ("", kind.row_prefix)]
    rows = [f"{key}_{i}" for i in range(1, 5) for key in keys if key in _FIRST]
    swept = set(ds["state"].dims)
    known = [
        n
        for n in dict.fromkeys((*_FIRST, *columns, *rows))
        if n in ds.data_vars and set(ds[n].dims) <= swept and ds[n].dtype.kind in "fiub"
    ]
    known = [n for n in known if n not in _LAST and not _is_constant(ds[n].values)]
    last = [n for n in _LAST if n in ds.data_vars]
    return [*known[: _NUMBERS_SHOWN - len(last)], *last]


def _is_constant(values: np.ndarray) -> bool:
    numbers = values.astype(float).ravel()
    numbers = numbers[np.isfinite(numbers)]
    return not numbers.size or bool(numbers.min() == numbers.max())


def _run(
    folder: Path,
    ds: xr.Dataset,
    now: SweepStatus,
    id: str,
    point: Mapping[str, Any],
    index: tuple[int, ...],
    names: Sequence[str],
) -> SweptRun:
    page = run_path(folder, id) / "report.html"
    link = f"runs/{id}/report.html" if page.is_file() and not page.is_symlink() else ""
    numbers = [ds[name].values[index] for name in names]
    cells = (*(_text(value) for value in point.values()), *map(_number, numbers))
    return SweptRun(os.path.basename(id), link, now.states[id], cells)


def _number(value: Any) -> str:
    plain = value.item()
    return format_value(plain if isinstance(plain, bool) else float(plain), ".4g")


def _text(value: object) -> str:
    return format_value(value, ".6g")


def _meaning(ds: xr.Dataset, name: str) -> str:
    if name not in ds.variables:
        return ""
    attributes = ds[name].attrs
    text, units = (printable(str(attributes.get(key, ""))) for key in ("long_name", "units"))
    return text if units in ("", "1") else f"{text} ({units})"


def _described(scenario: Scenario, key: str) -> str:
    """Return the description of a key, or of the key whose singular it is."""
    fields = type(scenario).model_fields
    field = fields.get(key) or fields.get(f"{key}s")
    return "" if field is None else field.description or ""


def _figures(ds: xr.Dataset, plan: Plan, names: Sequence[str]) -> list[ReportFigure]:
    """Draw the numbers that vary against the first swept key that is no seed."""
    keys = [group[0].key for group in plan.groups]
    axes = [key for key in keys if key != "seed"] or keys
    if not axes:
        return []
    x, hue = axes[0], next((k for k in axes[1:] if ds.sizes[k] <= _HUES), None)
    varying = [n for n in names if n not in _LAST and not _is_constant(ds[n].values)]
    return [
        replace(
            report_figure(f"{name}-{x}", sweep_figure(ds, x, name, hue)),
            title=f"{name} against {x}".replace("_", " "),
        )
        for name in varying[:_FIGURES_SHOWN]
    ]


def _references(folder: Path, plan: Plan, now: SweepStatus) -> list[Reference]:
    """Return what to cite for the runs that are done."""
    found: dict[str, Reference] = {}
    seen = set()
    for member in plan.members:
        if now.states[member.id] == "done":
            try:
                method = method_of(read_json(run_path(folder, member.id), "summary.json"))
            except InputError:  # a damaged run is named among the failures
                continue
            if method not in seen:
                seen.add(method)
                job = Job(member.scenario, plan.converge, plan.modified)
                found |= {r.key: r for r in citations_of(job, method)}
    return list(found.values())
