"""The file of measured rows, ``results/solvers.csv``."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

from measuring import Row

RESULTS = Path(__file__).parent / "results"


def save(rows: list[Row]) -> None:
    """Write ``results/solvers.csv``."""
    RESULTS.mkdir(exist_ok=True)
    with open(RESULTS / "solvers.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([field.name for field in dataclasses.fields(Row)])
        for row in rows:
            values = dataclasses.asdict(row)
            for name in ("seconds", "inner_seconds"):
                values[name] = json.dumps([float(f"{s:.4g}") for s in values[name]])
            for name in ("error", "loss", "peak_mb"):
                value = values[name]
                values[name] = "" if value is None else f"{value:.4g}"
            writer.writerow(values.values())


def load() -> list[Row]:
    """Read ``results/solvers.csv``; return no rows where it does not exist."""
    path = RESULTS / "solvers.csv"
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return [_row(values) for values in csv.DictReader(file)]


def _row(values: dict[str, str]) -> Row:
    def number(name: str) -> float | None:
        return float(values[name]) if values[name] else None

    def count(name: str) -> int | None:
        return int(values[name]) if values[name] else None

    return Row(
        problem=values["problem"],
        method=values["method"],
        family=values["family"],
        rtol=float(values["rtol"]),
        status=values["status"],
        rhs=count("rhs"),
        jvp=count("jvp"),
        error=number("error"),
        loss=number("loss"),
        seconds=json.loads(values["seconds"]),
        inner_seconds=json.loads(values["inner_seconds"]),
        peak_mb=number("peak_mb"),
        chosen=values["chosen"],
        flag=values["flag"],
    )
