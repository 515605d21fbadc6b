"""What every kind of result declares: arrays, summary, table, verdict and numbers of a sweep."""

from __future__ import annotations

import abc
import enum
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import xarray as xr
from torch import Tensor

from gflow.errors import InputError
from gflow.flows.base import Flow
from gflow.results.arrays import STEP_SIZE, label
from gflow.results.lines import Line, certificate_line, cost_lines, format_value
from gflow.results.summaries import plain_numbers

#: Extra measurements of a setting: name -> (long name, values over leading times)
Measure = Callable[[Tensor, Tensor], Mapping[str, tuple[str, Tensor]]]


@dataclass(frozen=True)
class Setup:
    """What a scenario builds from its data: a flow, a start and what to measure.

    Attributes
    ----------
    flow : Flow
    y0 : Tensor
    measure : callable
        ``measure(ts, ys)`` gives additional measurements of any path (a held-out error).
    measure_flow, measure_descent : callable
        The same for the flow's path alone (a bound), and for descents alone.
    sharpness : int
        How many of the Hessian's largest eigenvalues the flow's solve follows.
    spectral : mapping
        Measurements of the flow itself: name -> (long name, dimensions, values).
    facts : mapping
        Plain values that are copied into the summary.
    """

    flow: Flow
    y0: Tensor
    measure: Measure = lambda ts, ys: {}
    measure_flow: Measure = lambda ts, ys: {}
    measure_descent: Measure = lambda ts, ys: {}
    sharpness: int = 0
    spectral: Mapping[str, tuple[str, tuple[str, ...], Tensor]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


class Verdict(enum.StrEnum):
    """Whether a result can be trusted; the command line maps each verdict to an exit status."""

    HOLDS = "holds"
    STOPPED = "stopped"  # a solver stopped before the end
    UNCERTIFIED = "uncertified"  # a certificate does not hold
    DIVERGED = "diverged"  # a descent diverged


@dataclass(frozen=True)
class Column:
    """A column of a result's table.

    Attributes
    ----------
    key : str
        Of the summary's rows.
    heading : str
    spec : str
        Format specification of floating-point numbers.
    meaning : str
        What the column says, in one phrase, for reports.
    """

    key: str
    heading: str
    spec: str = ".4g"
    meaning: str = ""


@dataclass(frozen=True)
class Table:
    """A table as text: headings, rows of cells, and labelled lines below it."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Result(abc.ABC):
    """A result; every subclass is one kind of result, in one file of ``gflow/results``.

    A subclass sets the class variables, defines `columns` and `lines`, and has a constructor
    ``from_study``. The class methods work on the summary alone, also on one read back from JSON,
    where NaN is None and an infinite number a string.

    Attributes
    ----------
    dataset : xarray.Dataset
        Labelled arrays; every variable has ``long_name`` and ``units``.
    summary : dict
        Plain values; ``kind`` is added. Every kind has ``certificate`` and ``cost``. Its rows may
        have ``stable`` (whether descent is below the stability limit) and ``diverged_at`` (the
        step from which it diverged, or None).
    """

    dataset: xr.Dataset
    summary: dict[str, Any]

    #: Name of the kind, by which a summary is recognised.
    kind: ClassVar[str]
    #: The study that ``from_study`` takes, by which the kind is found; None without one.
    study_type: ClassVar[type | None] = None
    #: Whether the work was completed; False where a solver stopped early.
    complete: ClassVar[bool] = True
    #: Key of the summary's rows, a list of dicts; "" where a kind has none.
    rows_key: ClassVar[str] = ""
    #: What one row of the table stands for, as a sentence for reports.
    row_meaning: ClassVar[str] = ""
    #: Key of a row that identifies it; the rows' dimension in a sweep has its name.
    row_label: ClassVar[str] = ""
    #: Prefix of a row's number in a sweep, where the summary has a number of the same name.
    row_prefix: ClassVar[str] = ""
    #: Keys of the summary's certificates; all but the first are optional.
    certificate_keys: ClassVar[tuple[str, ...]] = ("certificate",)
    #: Attributes (long name, units) of numbers in a sweep, beside `COMMON_ATTRIBUTES`.
    number_attributes: ClassVar[Mapping[str, dict[str, str]]] = {}

    def __post_init__(self) -> None:
        object.__setattr__(self, "summary", {"kind": self.kind, **self.summary})

    @classmethod
    @abc.abstractmethod
    def columns(cls, summary: Mapping[str, Any]) -> Sequence[Column]:
        """Return the columns of the table of rows."""

    @classmethod
    @abc.abstractmethod
    def lines(cls, summary: Mapping[str, Any]) -> Sequence[Line]:
        """Return (label, text) of the lines below the table, without certificate and cost."""

    @classmethod
    def rows(cls, summary: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """Return the summary's rows, or raise `InputError` if it has no list of them."""
        rows = summary.get(cls.rows_key) if cls.rows_key else []
        if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
            raise InputError(
                f"a summary of kind '{cls.kind}' must have a list of rows '{cls.rows_key}'; "
                "run the scenario again"
            )
        return rows

    @classmethod
    def certificates(cls, summary: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """Return the certificates in the summary."""
        first, *others = cls.certificate_keys
        return [summary[first], *(summary[key] for key in others if key in summary)]

    @classmethod
    def table(cls, summary: Mapping[str, Any]) -> Table:
        """Return the table that the terminal shows."""
        columns = cls.columns(summary)
        failures = [f for c in cls.certificates(summary) for f in c["failures"]]
        return Table(
            headings=tuple(column.heading for column in columns),
            rows=tuple(_cells(row, columns) for row in cls.rows(summary)),
            lines=(
                *cls.lines(summary),
                certificate_line(failures),
                *cost_lines(summary["cost"]),
            ),
        )

    @classmethod
    def verdict(cls, summary: Mapping[str, Any]) -> Verdict:
        """Return whether the result can be trusted, and if not, the first reason."""
        if not cls.complete:
            return Verdict.STOPPED
        if not all(certificate["holds"] for certificate in cls.certificates(summary)):
            return Verdict.UNCERTIFIED
        if any(row.get("diverged_at") is not None for row in cls.rows(summary)):
            return Verdict.DIVERGED
        return Verdict.HOLDS

    @classmethod
    def numbers(cls, summary: Mapping[str, Any]) -> dict[str, float]:
        """Return the numbers that a sweep collects from one run.

        These are the numbers of the summary and of its cost, whether the certificate holds, and
        the numbers of a single row.
        """
        numbers = plain_numbers(summary)
        if isinstance(summary.get("certificate"), Mapping):
            numbers["certificate_holds"] = bool(summary["certificate"].get("holds"))
        numbers = {**numbers, **_missing(plain_numbers(summary.get("cost")), numbers)}
        rows = cls.rows(summary)
        row = cls.row_numbers(rows[0], numbers) if len(rows) == 1 else {}
        return {**numbers, **_missing(row, numbers)}

    @classmethod
    def row_numbers(cls, row: Mapping[str, Any], taken: Container[str]) -> dict[str, float]:
        """Return the numbers of a row, named so that they differ from the names ``taken``."""
        return {
            f"{cls.row_prefix}{name}" if name in taken else name: value
            for name, value in plain_numbers(row).items()
        }

    @classmethod
    def attributes(cls, name: str) -> dict[str, str]:
        """Return long name and units of a number in a sweep."""
        known = {**COMMON_ATTRIBUTES, **cls.number_attributes}
        return dict(known.get(name) or label(name.replace("_", " ")))


#: Attributes of the numbers that several kinds of results share.
COMMON_ATTRIBUTES = {
    "final_loss": label("loss at the end of the flow"),
    "initial_loss": label("loss at the start"),
    "largest_gap": label("largest distance of descent to the flow"),
    "solver_error": label("solver's own error"),
    "stability_limit": label("2/λ_max"),
    "step_size": STEP_SIZE,
    "t_end": label("t end", "step size × steps"),
    "certificate_holds": label("whether the certificate holds"),
    "wall_seconds": label("seconds of the solve", "s"),
    "rhs_evals": label("right-hand side evaluations"),
}


def _missing(values: Mapping[str, float], present: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if name not in present}


def _cells(row: Mapping[str, Any], columns: Sequence[Column]) -> tuple[str, ...]:
    cells = [format_value(row[column.key], column.spec) for column in columns]
    if row.get("diverged_at") is not None:
        cells[-1] = f"diverged from step {row['diverged_at']}"
    elif row.get("stable") is False:
        cells[0] += " (unstable)"
    return tuple(cells)
