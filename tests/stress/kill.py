"""Runs stopped at random moments, and what becomes of them.

A run is stopped (SIGKILL, SIGTERM, SIGUSR1, SIGINT) at a random moment between its first
instruction and its end, the folder it leaves is read, and the run is resumed, to be stopped
again, until it gets to its end before the signal does. What it ends with must equal an
undisturbed run to the last bit. Then the same in processes of their own, imports and all,
and killed at one change of a file after the other instead of at random moments.

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
from stopped_run import CASES, SELDOM, Count, Run, Start, Undisturbed

_OTHERS = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)
_ENDED = 8  # runs that got to their end first: their checkpoints, and changes, vary in number


def stopped_at_random(
    numbers: Sequence[signal.Signals],
    names: Sequence[str],
    start: Start,
    undisturbed: Undisturbed,
    folder: Path,
    count: Count,
    chance: random.Random,
    *,
    imports: float = 0.0,
) -> None:
    """Stop runs of the cases in turn until every signal has met a run at work.

    ``imports``: seconds that go by before a run begins.
    """
    left = list(numbers)
    for turn, name in enumerate(itertools.cycle(names)):
        if not left:
            return
        whole, seconds = undisturbed(name)
        run = Run(name, folder / f"{turn}-{name}", whole, count)
        while left and not run.over:
            if run.stop(left[-1], chance.uniform(0, seconds + imports), start):
                left.pop()
        run.finish(start)


def killed_at_each_change(
    most: int, name: str, undisturbed: Undisturbed, folder: Path, count: Count
) -> None:
    """Kill a run before its first change of a file, its second, ..., resuming from each."""
    whole, _ = undisturbed(name)
    drawing = functools.partial(forked, draw=True)
    ended = 0
    for change in range(1, most + 1):
        run = Run(name, folder / f"{change}-{name}", whole, count, every=SELDOM)
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
    parser.add_argument("--case", action="append", choices=CASES, help="these alone")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    top = Path(tempfile.mkdtemp(prefix="gflow-kill-"))
    undisturbed = Undisturbed(top)
    at_random = functools.partial(
        stopped_at_random,
        names=given.case or list(CASES),
        undisturbed=undisturbed,
        chance=random.Random(given.seed),
    )
    at_changes = functools.partial(
        killed_at_each_change, given.changes, (given.case or [*CASES])[0], undisturbed
    )
    kill, term = [signal.SIGKILL], [signal.SIGTERM]
    others, both = _in_turn(_OTHERS, given.other), _in_turn(kill + term, given.processes)
    parts: dict[str, Callable[..., None]] = {
        "SIGKILL": functools.partial(at_random, kill * given.kill, start=forked),
        "SIGTERM": functools.partial(at_random, term * given.term, start=forked),
        "other signals": functools.partial(at_random, others, start=forked),
        "new processes": functools.partial(at_random, both, start=process, imports=4.0),
        "SIGKILL before each change of a file": at_changes,
    }
    wrong = 0
    for title, work in parts.items():
        count, began, folder = Count(), time.monotonic(), top / title.replace(" ", "-")
        folder.mkdir()
        work(folder=folder, count=count)
        if count.of:
            print(f"\n{title}: {time.monotonic() - began:.0f} s")
            count.show()
        wrong += len(count.wrong)
    if wrong:
        raise SystemExit(f"\n{wrong} wrong; the folders are in {top}")
    shutil.rmtree(top)


def _in_turn(numbers: Sequence[signal.Signals], count: int) -> list[signal.Signals]:
    return list(itertools.islice(itertools.cycle(numbers), count))


if __name__ == "__main__":
    main()
