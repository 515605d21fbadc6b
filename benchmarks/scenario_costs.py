"""What a user waits for: CPU seconds of every scenario, of the help and of a first answer.

Each command runs in a fresh process on one thread, with the byte code of all packages in place, and
writes its figures. Seconds are user and system time, the median of the repeats: they depend on what
else the machine does, by up to a half. So `import torch` is measured in turn with the command, and
so is another checkout of gflow with --beside; ratios hardly depend on the load. Rows of commands
that are not named stay as they were measured before.

Run: python benchmarks/scenario_costs.py [NAME ...] [--repeats 3] [--beside FOLDER] [--trial]
"""

from __future__ import annotations

import argparse
import compileall
import csv
import datetime
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, fields
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_TORCH = "import torch"
_ANSWER = """
import torch, gflow
target = torch.tensor([[2.0, 0.3], [0.1, 1.0]], dtype=torch.float64)
loss = gflow.losses.SquaredDistance(target)
flow = gflow.LayerwiseFlow(loss, dims=[2, 2, 2, 2])
start = flow.balanced_start(0.5 * torch.eye(2, dtype=torch.float64))
assert gflow.integrate(flow, start, [0.0, 1.0]).certificate.holds
"""

#: By name, the arguments of python.
_OTHERS = {
    "import gflow": ["-c", "import gflow"],
    "first answer": ["-c", _ANSWER],
    "gflow --help": ["-m", "gflow", "--help"],
    "gflow kernel --samples 1796": ["-m", "gflow", "kernel", "--samples", "1796"],
}


@dataclass
class Row:
    """One command: its median CPU seconds, and those of another checkout in turn with it."""

    command: str
    seconds: float
    torch: float  #: of `import torch` in turn with it
    evaluations: str = ""
    certificate: str = ""
    before: str = ""  #: seconds of the other checkout
    before_evaluations: str = ""
    date: str = ""


@dataclass
class Measured:
    """One run of a command."""

    seconds: float
    evaluations: str = ""
    certificate: str = ""


def run(arguments: list[str], checkout: Path, *, writes: bool) -> Measured:
    """Run python with the gflow of a checkout, and measure it; with ``writes``, also its result."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "MPLBACKEND": "Agg"}
    environment |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # users have the byte code
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "run")
        extra = ["-q", "-o", str(output)] if writes else []
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, *arguments, *extra],
            cwd=folder,
            env=environment,
            check=False,
            capture_output=True,
            text=True,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode not in (0, 4, 5):  # 4, 5: a verdict of the run
            raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stderr}")
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        if not writes:
            return Measured(seconds)
        summary = json.loads((output / "summary.json").read_text(encoding="utf-8"))
    cost, certificate = summary.get("cost", {}), summary.get("certificate", {})
    evaluations = cost.get("rhs_evals", "") if isinstance(cost, dict) else ""
    return Measured(
        seconds,
        str(evaluations),
        {True: "holds", False: "does not"}.get(certificate.get("holds"), ""),
    )


def measure(command: str, repeats: int, beside: Path | None) -> Row:
    """Measure a command, `import torch` and the command of another checkout in turn."""
    arguments = _OTHERS.get(command) or ["-m", "gflow", *command.split()[1:]]
    writes = arguments[:2] == ["-m", "gflow"] and "--help" not in arguments
    ours, torch, theirs = [], [], []
    for _ in range(repeats):
        torch.append(run(["-c", _TORCH], _HERE.parent, writes=False).seconds)
        if beside is not None:
            theirs.append(run(arguments, beside, writes=writes))
        ours.append(run(arguments, _HERE.parent, writes=writes))
    row = Row(command, statistics.median(m.seconds for m in ours), statistics.median(torch))
    row.evaluations, row.certificate = ours[-1].evaluations, ours[-1].certificate
    row.date = str(datetime.date.today())
    if theirs:
        row.before = f"{statistics.median(m.seconds for m in theirs):.2f}"
        row.before_evaluations = theirs[-1].evaluations
    return row


def commands() -> list[str]:
    """Return every command that is measured: what is no run first, then the scenarios."""
    from gflow.scenario import scenario_names

    first = [name for name in _OTHERS if not name.startswith("gflow kernel")]
    runs = [f"gflow {name}" for name in scenario_names()]
    at = runs.index("gflow kernel") + 1
    return [*first, *runs[:at], *(name for name in _OTHERS if name not in first), *runs[at:]]


def known_rows(path: Path) -> dict[str, Row]:
    """Return the rows that were measured before."""
    if not path.exists():
        return {}
    rows = []
    with path.open(encoding="utf-8", newline="") as file:
        for texts in csv.DictReader(file):
            seconds, torch = float(texts.pop("seconds")), float(texts.pop("torch"))
            rows.append(Row(seconds=seconds, torch=torch, **texts))
    return {row.command: row for row in rows}


def table(rows: list[Row]) -> list[str]:
    """Return the lines of the table."""
    lines = [
        "# CPU seconds of scenarios",
        "",
        "User and system time of a fresh process on one thread, figures included: the median of",
        "the repeats. Another load of the machine changes seconds by up to a half, but hardly the",
        "ratio to `import torch`, measured in turn. Before: an older checkout, also in turn; the",
        "ratio is ours to that one. A first answer is `gflow.integrate` on a small",
        "`LayerwiseFlow`, with its certificate, `import torch` included.",
        "",
        "| command | CPU s | `import torch`s | evaluations | certificate | before, CPU s | ratio "
        "| evaluations before | measured |",
        "| --- | ---: | ---: | ---: | --- | ---: | ---: | ---: | --- |",
    ]
    for row in rows:
        ratio = f"{row.seconds / float(row.before):.2f}" if row.before else ""
        lines.append(
            f"| `{row.command}` | {row.seconds:.2f} | {row.seconds / row.torch:.2f} "
            f"| {row.evaluations} | {row.certificate} | {row.before} | {ratio} "
            f"| {row.before_evaluations} | {row.date} |"
        )
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="scenarios, or commands in quotation marks; all")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--beside", type=Path, help="another checkout of gflow, to compare with")
    parser.add_argument("--trial", action="store_true", help="print the table only")
    options = parser.parse_args()
    every = commands()
    chosen = [name if name in every else f"gflow {name}" for name in options.names] or every
    if unknown := [name for name in chosen if name not in every]:
        parser.error(f"unknown: {', '.join(unknown)}; choose from {', '.join(every)}")
    beside = None if options.beside is None else options.beside.resolve()
    from result_files import RESULTS, write_result

    for checkout in filter(None, (_HERE.parent, beside)):
        compileall.compile_dir(checkout / "gflow", quiet=1)
    path = RESULTS / "scenario_costs.csv"
    rows = known_rows(path)
    for command in chosen:
        rows[command] = measure(command, options.repeats, beside)
        print("\n".join(table([rows[command]])[-1:]), flush=True)
        if not options.trial:
            with path.open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, [field.name for field in fields(Row)])
                writer.writeheader()
                writer.writerows(asdict(rows[name]) for name in every if name in rows)
    write_result(
        "scenario_costs", table([rows[name] for name in every if name in rows]), trial=options.trial
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
