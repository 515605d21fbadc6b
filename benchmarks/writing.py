"""A table's file in ``results/``: the table, the versions, the date and the command."""

from __future__ import annotations

import datetime
import platform
from pathlib import Path

import numpy as np
import torch

import gflow

RESULTS = Path(__file__).parent / "results"


def write_result(name: str, lines: list[str]) -> None:
    """Write and print ``results/NAME.md`` of ``benchmarks/NAME.py``."""
    versions = (
        f"{datetime.date.today()}, gflow {gflow.__version__}, torch {torch.__version__}, "
        f"numpy {np.__version__}, Python {platform.python_version()}, "
        f"{platform.system()} {platform.machine()}."
    )
    text = "\n".join([*lines, "", versions, f"Command: `python benchmarks/{name}.py`"]) + "\n"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")
    print(text, end="")
