"""What a report says about one run: plain values, which the page lays out and escapes."""

from __future__ import annotations

import datetime
import functools
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gflow import plots
from gflow.reporting.citations import Reference, citations_of, method_of
from gflow.reporting.damage import damage_is_an_input_error
from gflow.reporting.figures import ReportFigure, report_figure
from gflow.reporting.verdicts import CertificateText, certificate_texts, verdict_words
from gflow.results.base import Column, Table
from gflow.results.lines import MEANINGS, format_value
from gflow.results.registry import find_kind
from gflow.runs.job import Job, read_job
from gflow.runs.reading import Run
from gflow.scenario import load_scenario, scenario_names
from gflow.text import brief, printable, printable_values

_ROWS_SHOWN = 500
_COST = {
    "method": ("method", "the solver of the flow"),
    "reason": ("reason", "why this solver"),
    "rhs_evals": ("evaluations", "of the right-hand side, by the solve"),
    "jvp_evals": ("Jacobian products", "by the solve"),
    "accepted": ("accepted steps", "of the solver"),
    "rejected": ("rejected steps", "of the solver"),
    "certificate_evals": ("evaluations of checks", "finer solves that measure the error"),
    "wall_seconds": ("seconds", "of the solve, on the machine below"),
}


@dataclass(frozen=True)
class Key:
    """A key of the scenario: its value, its value in the scenario as shipped, and its meaning."""

    name: str
    value: str
    shipped: str
    changed: bool
    meaning: str


@dataclass(frozen=True)
class RunSection:
    """Everything that a report says about a run.

    Attributes
    ----------
    label, heading, question : str
        A short name, what was run on which data, and what the scenario shows.
    setting : str
        The setting's equations, in words.
    verdict : str
        One of `gflow.results.base.Verdict`.
    verdict_heading, verdict_text : str
        The verdict in words.
    failures : list of str
        The checks that exceed their bounds.
    columns : sequence of Column
        Headings of the table, with their meanings.
    table : Table
    row_meaning : str
        What one row of the table is.
    lines : list of (label, text, meaning)
    hidden_rows : int
        Rows that are left out of the page.
    certificates : list of CertificateText
    figures : list of ReportFigure
    cost, made : list of (name, value, meaning)
        What the run took, and with what it was made.
    keys : list of Key
        All keys of the scenario.
    command, toml : str
        How to repeat the run.
    references : list of Reference
    """

    label: str
    heading: str
    question: str
    setting: str
    verdict: str
    verdict_heading: str
    verdict_text: str
    failures: list[str]
    columns: Sequence[Column]
    table: Table
    row_meaning: str
    lines: list[tuple[str, str, str]]
    hidden_rows: int
    certificates: list[CertificateText]
    figures: list[ReportFigure]
    cost: list[tuple[str, str, str]]
    made: list[tuple[str, str, str]]
    keys: list[Key]
    command: str
    toml: str
    references: list[Reference]

    @property
    def changed(self) -> list[Key]:
        """The keys that differ from the scenario as shipped."""
        return [key for key in self.keys if key.changed]


def run_section(run: Run, label: str) -> RunSection:
    """Return what a report says about a run.

    Parameters
    ----------
    run : Run
    label : str
        A short name for the run.

    Returns
    -------
    RunSection

    Raises
    ------
    InputError
        If the run's files are damaged: anybody may have made them.

    Examples
    --------
    >>> import tempfile
    >>> from gflow.runs import RunOptions, load_run, run
    >>> from gflow.scenario import load_scenario
    >>> keys = {"data": "synthetic", "samples": 6, "inputs": 2, "depth": 1, "t_end": 1.0}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     made = run(Job(load_scenario("deep-linear", keys)), folder, RunOptions(draw=False))
    ...     section = run_section(load_run(folder), "mine")
    >>> section.heading, section.verdict_heading
    ('deep-linear on synthetic', 'The certificate holds')
    """
    job = read_job(run.path)
    with damage_is_an_input_error(run.path):
        return _section(run, job, label)


def _section(run: Run, job: Job, label: str) -> RunSection:
    scenario, manifest = job.scenario, printable_values(run.manifest)
    summary = printable_values(run.summary)
    kind = find_kind(summary)
    shown = {**summary}
    if kind.rows_key:
        shown[kind.rows_key] = kind.rows(summary)[:_ROWS_SHOWN]
    table = kind.table(shown)
    heading, text, failures = verdict_words(kind, summary)
    kinds = {"converge": "step-size study of ", "laws": "conservation laws of "}
    what = kinds.get(job.command, "")
    return RunSection(
        label=label,
        heading=f"{what}{scenario.name} on {scenario.data}",
        question=scenario.title,
        setting=" ".join((type(scenario).__doc__ or "").split()),
        verdict=str(kind.verdict(summary)),
        verdict_heading=heading,
        verdict_text=text,
        failures=failures[:_ROWS_SHOWN],
        columns=kind.columns(shown),
        table=table,
        row_meaning=kind.row_meaning,
        lines=[(name, line, _meaning(run, name)) for name, line in kind.lines(summary)],
        hidden_rows=len(kind.rows(summary)) - len(table.rows),
        certificates=certificate_texts(kind, shown),
        figures=_figures(run, f"{scenario.name} on {scenario.data}"),
        cost=_cost(summary["cost"], manifest),
        made=_made(manifest),
        keys=_keys(job),
        command=_command(manifest),
        toml=scenario.toml(),
        references=citations_of(job, method_of(summary), str(manifest.get("gflow"))),
    )


def _meaning(run: Run, label: str) -> str:
    """Return what a line says: known by its label, or the long name of the variable."""
    stem = label.replace(" ", "_")
    name = next((n for n in (stem, f"flow_{stem}") if n in run.result), None)
    if label in MEANINGS or name is None:
        return MEANINGS.get(label, "")
    text = printable(str(run.result[name].attrs.get("long_name", "")))
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _figures(run: Run, title: str) -> list[ReportFigure]:
    figures = plots.figures(run.result, title)
    return [report_figure(name, figure, title) for name, figure in figures.items()]


def _cost(cost: Mapping[str, Any], manifest: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    rows = [
        (name, format_value(cost[key], ".3g"), meaning)
        for key, (name, meaning) in _COST.items()
        if cost.get(key) is not None
    ]
    try:
        start, end = (datetime.datetime.fromisoformat(manifest[k]) for k in ("started", "written"))
    except (LookupError, TypeError, ValueError):  # a manifest made by others
        return rows
    elapsed = f"{(end - start).total_seconds():.0f}"
    return [*rows, ("seconds in all", elapsed, "from start to the last file, with figures")]


def _made(manifest: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    packages = manifest.get("packages")
    versions = packages.items() if isinstance(packages, Mapping) else ()
    listed = ", ".join(f"{name} {version}" for name, version in versions)
    rows = [
        ("gflow", manifest.get("gflow"), "version"),
        ("commit", manifest.get("commit"), "of the source, where it ran from a checkout"),
        ("packages", listed, "versions that decide about the numbers"),
        ("python", manifest.get("python"), "version"),
        ("platform", manifest.get("platform"), "operating system and processor"),
        ("seed", manifest.get("seed"), "of everything random"),
        ("dtype", manifest.get("dtype"), "floating-point type"),
        ("device", manifest.get("device"), "on which torch computed"),
        ("threads", manifest.get("threads"), "of torch on the processor"),
        ("started", manifest.get("started"), "UTC"),
        ("finished", manifest.get("written"), "UTC"),
    ]
    return [(name, str(value), meaning) for name, value, meaning in rows if value not in (None, "")]


def _keys(job: Job) -> list[Key]:
    scenario = job.scenario
    values, shipped = scenario.resolved(), _shipped(scenario.name)
    fields = type(scenario).model_fields
    if shipped.get("setting") != scenario.setting:  # a scenario of the user's own
        shipped = {name: info.default for name, info in fields.items()}
    keys = []
    for name, info in fields.items():
        if name in ("name", "title", "fewer_samples"):
            continue
        now, then = values.get(name), shipped.get(name)
        then = list(then) if isinstance(then, tuple) else then
        known = info.is_required() or name in shipped or now == then
        keys.append(
            Key(name, _value(now), _value(then), now != then and known, info.description or "")
        )
    return keys


@functools.cache
def _shipped(name: str) -> dict[str, Any]:
    return load_scenario(name).resolved() if name in scenario_names() else {}


def _value(value: object) -> str:
    if value is None or repr(value) == "PydanticUndefined":
        return "-"
    if isinstance(value, list):
        return brief(value, lambda items: ", ".join(map(_value, items)), 500)
    return format_value(value, ".6g")


def _command(manifest: Mapping[str, Any]) -> str:
    """Return the command line that started the run, or an empty text where there was none."""
    command = manifest.get("command")
    if not isinstance(command, list) or not str(command[0] if command else "").endswith(
        ("gflow", "__main__.py", "gflow.exe")
    ):
        return ""
    return shlex.join(["gflow", *(str(word) for word in command[1:])])
