"""Files of tables in ``results/``, with versions, date and command."""

from __future__ import annotations

import datetime
import platform
from pathlib import Path

import numpy as np
import torch

import gflow

RESULTS = Path(__file__).parent / "results"


def write_result(name: str, lines: list[str], *, trial: bool = False) -> None:
    """Print the table of ``benchmarks/NAME.py``, and write it to ``results/NAME.md``.

    A trial only prints it.
    """
    versions = (
        f"{datetime.date.today()}, gflow {gflow.__version__}, torch {torch.__version__}, "
        f"numpy {np.__version__}, Python {platform.python_version()}, "
        f"{platform.system()} {platform.machine()}."
    )
    text = "\n".join([*lines, "", versions, f"Command: `python benchmarks/{name}.py`"]) + "\n"
    print(text, end="")
    if not trial:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")
