"""Thousands of solves whose paths are known: right, or flagged, or refused; never silently wrong.

    python tests/stress/truths.py --examples 2000 [--seed 0] [--family saddles] [--verbose]
    python tests/stress/truths.py --reproduce "('saddles', {…}, {…})"

Flows, methods and tolerances are drawn by hypothesis from the families of ``tests/truths``, whose
paths have closed forms or an independent solve. The verdicts are explained in
``tests/truths/case.py``. Exit status 1 where a path is silently wrong, or anything crashes.
"""

from __future__ import annotations

import argparse
import ast
import collections
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))


def main() -> int:
    """Draw, solve and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--family", help="draw from this family only")
    parser.add_argument("--max-evals", type=int, default=6_000)
    parser.add_argument("--seconds", type=float, default=10.0, help="CPU time of a solve")
    parser.add_argument("--verbose", action="store_true", help="print false alarms, too")
    parser.add_argument("--reproduce", help="the example to run again, as it was printed")
    options = parser.parse_args()
    from tests.truths.case import FAULTS
    from tests.truths.drawing import Example

    if options.reproduce:
        verdict = Example(*ast.literal_eval(options.reproduce)).verdict(options.seconds)
        print(verdict)
        return 1 if verdict.kind in FAULTS else 0
    import sympy.printing  # noqa: F401  torch imports it at the first product with a Jacobian

    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    began = time.monotonic()
    for example in drawn(options):
        verdict = example.verdict(options.seconds)
        counts[example.family, verdict.kind] += 1
        if verdict.kind in FAULTS or (options.verbose and verdict.kind != "right"):
            print(f"{verdict}\n    {example!r}", flush=True)
    report(counts, time.monotonic() - began)
    return 1 if any(counts[key] for key in counts if key[1] in FAULTS) else 0


def drawn(options: argparse.Namespace) -> list:
    """Draw the examples before any is solved, so that the same seed draws the same."""
    import hypothesis

    from tests.truths.drawing import examples

    result = {}

    @hypothesis.seed(options.seed)
    @hypothesis.settings(
        max_examples=2 * options.examples,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(examples(options.max_evals, options.family))
    def draw(example):
        if len(result) < options.examples:
            result[repr(example)] = example

    draw()
    return list(result.values())


def report(counts: collections.Counter[tuple[str, str]], seconds: float) -> None:
    """Print the verdicts of each family."""
    kinds = [
        "right",
        "warned",
        "false alarm",
        "flagged",
        "refused",
        "out of time",
        "silently wrong",
        "crash",
    ]
    families = sorted({family for family, _ in counts})
    print(f"{sum(counts.values())} solves in {seconds:.0f} s")
    print(f"{'':<14}" + "".join(f"{kind:>{len(kind) + 2}}" for kind in kinds))
    for family in families:
        print(
            f"{family:<14}" + "".join(f"{counts[family, kind]:>{len(kind) + 2}}" for kind in kinds)
        )
    totals = {kind: sum(counts[family, kind] for family in families) for kind in kinds}
    print(f"{'all':<14}" + "".join(f"{totals[kind]:>{len(kind) + 2}}" for kind in kinds))


if __name__ == "__main__":
    sys.exit(main())
