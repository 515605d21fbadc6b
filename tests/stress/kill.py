"""Runs that are stopped at random moments and resumed.

A run is stopped (SIGKILL, SIGTERM, SIGUSR1, SIGINT) at a random moment between its first
instruction and its end. The folder is read, and the run is resumed and stopped again, until it ends
before the signal. Its result must equal that of an undisturbed run to the last bit. The same is
then done in new processes, which includes their imports, and with a SIGKILL before every change of
a file instead of at random moments.

Run: python tests/stress/kill.py [--kill 200] [--term 50] [--other 20] [--processes 12]
     [--changes 150] [--case NAME ...]
"""

from __future__ import annotations

import argparse
import functools
import itertools
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from starting import forked, process
from stopped_run import CASES, SELDOM, Report, Run, Start, Undisturbed

_OTHERS = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)
_ENDED = 8  # runs that end before the change; the number of changes varies with the checkpoints


def stopped_at_random(
    numbers: Sequence[signal.Signals],
    names: Sequence[str],
    start: Start,
    undisturbed: Undisturbed,
    folder: Path,
    report: Report,
    rng: random.Random,
    *,
    imports: float = 0.0,
) -> None:
    """Stop runs of all cases in turn until every signal has stopped a running run.

    ``imports`` is the seconds before a run begins.
    """
    remaining = list(numbers)
    for turn, name in enumerate(itertools.cycle(names)):
        if not remaining:
            return
        reference, seconds = undisturbed(name)
        run = Run(name, folder / f"{turn}-{name}", reference, report)
        while remaining and not run.over:
            if run.stop(remaining[-1], rng.uniform(0, seconds + imports), start):
                remaining.pop()
        run.finish(start)


def killed_at_each_change(
    max_changes: int, name: str, undisturbed: Undisturbed, folder: Path, report: Report
) -> None:
    """Kill runs before their first change of a file, their second, ..., and resume them."""
    reference, _ = undisturbed(name)
    drawing = functools.partial(forked, draw=True)
    ended = 0
    for change in range(1, max_changes + 1):
        run = Run(name, folder / f"{change}-{name}", reference, report, every=SELDOM)
        if run.stop(signal.SIGKILL, 600, functools.partial(drawing, die_at=change)):
            run.finish(drawing)
            continue
        ended += 1
        if ended == _ENDED:
            return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kill", type=int, default=200, help="SIGKILLs  [%(default)s]")
    parser.add_argument("--term", type=int, default=50, help="SIGTERMs  [%(default)s]")
    parser.add_argument("--other", type=int, default=20, help="SIGUSR1/2, SIGINT  [%(default)s]")
    parser.add_argument("--processes", type=int, default=12, help="in new processes  [%(default)s]")
    parser.add_argument("--changes", type=int, default=150, help="changes of files  [%(default)s]")
    parser.add_argument("--case", action="append", choices=CASES, help="these cases only")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    top = Path(tempfile.mkdtemp(prefix="gflow-kill-"))
    undisturbed = Undisturbed(top)
    at_random = functools.partial(
        stopped_at_random,
        names=options.case or list(CASES),
        undisturbed=undisturbed,
        rng=random.Random(options.seed),
    )
    at_changes = functools.partial(
        killed_at_each_change, options.changes, (options.case or [*CASES])[0], undisturbed
    )
    kill, term = [signal.SIGKILL], [signal.SIGTERM]
    other_signals, kill_and_term = (
        _cycled(_OTHERS, options.other),
        _cycled(kill + term, options.processes),
    )
    parts: dict[str, Callable[..., None]] = {
        "SIGKILL": functools.partial(at_random, kill * options.kill, start=forked),
        "SIGTERM": functools.partial(at_random, term * options.term, start=forked),
        "other signals": functools.partial(at_random, other_signals, start=forked),
        "new processes": functools.partial(at_random, kill_and_term, start=process, imports=4.0),
        "SIGKILL before each change of a file": at_changes,
    }
    errors = 0
    for title, work in parts.items():
        report, began, folder = Report(), time.monotonic(), top / title.replace(" ", "-")
        folder.mkdir()
        work(folder=folder, report=report)
        if report.counts:
            print(f"\n{title}: {time.monotonic() - began:.0f} s")
            report.show()
        errors += len(report.errors)
    if errors:
        raise SystemExit(f"\n{errors} errors; the folders are in {top}")
    shutil.rmtree(top)


def _cycled(numbers: Sequence[signal.Signals], count: int) -> list[signal.Signals]:
    return list(itertools.islice(itertools.cycle(numbers), count))


if __name__ == "__main__":
    main()
