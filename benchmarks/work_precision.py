"""Work against true error: every gflow method and every peer on every problem.

Each (problem, method) climbs a ladder of tolerances until its error is small enough; each
rung is a row of ``results/solvers.csv``. Afterwards the quick rungs are repeated in turns,
so that a busy machine slows all alike, and medians are kept. From the rows come the tables
of cost at matched error, the figures, and the list of what must be shown.

Run: python benchmarks/work_precision.py            all, under ten minutes
     python benchmarks/work_precision.py --full     without the short time limits
     python benchmarks/work_precision.py --problems tanh300 --methods rkc2,CVODE
                                                    measure some anew, keep the other rows
     python benchmarks/work_precision.py --report   tables and figures of the rows kept
     python benchmarks/work_precision.py --quick    smoke run, writes nothing
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import warnings
from collections.abc import Sequence

import ensemble
import overhead
import torch
from bars import must_show
from figures import draw
from measuring import Method, Row, measure
from peers import gflow_methods, peer_methods
from peers_jax import jax_methods
from problems import PROBLEMS, Problem
from reporting import report
from rows import RESULTS, load, save
from truth import reference

_REPEATS = 7
_REPEATED = 0.5  # solves of up to so many seconds are repeated
_REPEAT_BUDGET = 6.0  # seconds a problem


def climb(method: Method, problem: Problem, slack: float) -> list[Row]:
    """Rows of one method from loose to tight; the ladder ends where there is no more to see."""
    rows: list[Row] = []
    short = method.explicit and not method.fixed and problem.explicit_ladder
    rungs = list(problem.explicit_ladder if short else method.ladder)
    limit = problem.explicit_limit if method.explicit else problem.limit
    limit = slack * (min(limit, 4.0) if method.fixed else limit)
    while rungs:
        rows.append(measure(method, problem, rungs.pop(0), limit))
        status = rows[-1].status
        # A tighter tolerance helps against nonsense, not against a limit of time or size.
        if status == "projected" or status.startswith(("not run", "out of time")):
            break
        if rows[-1].answered and (rows[-1].error or 0) <= problem.enough:
            break
        if not method.explicit and rows[-1].wall > 0.4 * limit:
            break  # the next would cost more still
        if not short and rows[-1].wall > limit / 8:
            rungs = rungs[1:]  # slow: two rungs at a time
    return rows


def repeat(rows: list[Row], methods: dict[str, Method], problem: Problem) -> None:
    """More timings of the quick rows, in turns."""
    quick = [row for row in rows if row.answered and row.seconds[0] <= _REPEATED]
    began = time.perf_counter()
    for turn in range(_REPEATS - 1):
        random.Random(turn).shuffle(quick)  # no method always follows the same one
        for row in quick:
            again = measure(methods[row.method], problem, row.rtol, 10 * _REPEATED)
            row.seconds += again.seconds
            row.inner_seconds += again.inner_seconds
            if again.peak_mb is not None and row.peak_mb is not None:
                row.peak_mb = min(row.peak_mb, again.peak_mb)  # the first may load libraries
        if time.perf_counter() - began > _REPEAT_BUDGET:
            break


def run(problem: Problem, methods: Sequence[Method], slack: float) -> list[Row]:
    """All rows of one problem."""
    reference(problem)
    flow = problem.make()
    flow.jvp(problem.y0, flow(0.0, problem.y0))  # load what the first call loads
    began, rows = time.perf_counter(), []
    for method in methods:
        rows += climb(method, problem, slack)
    repeat(rows, {method.name: method for method in methods}, problem)
    print(f"{problem.name}: {len(rows)} rows, {time.perf_counter() - began:.0f} s", flush=True)
    return rows


def quick() -> int:
    """Every problem builds; every method makes one loose solve of the cheapest."""
    for make in PROBLEMS.values():
        problem = make()
        velocity = problem.make()(0.0, problem.y0)
        print(f"{problem.name}: {problem.y0.numel()} states, speed {float(velocity.norm()):.3g}")
    problem = PROBLEMS["non_stiff"]()
    bad = 0
    for method in [*gflow_methods(), *peer_methods()]:
        rtol = 1e-3 if 1e-3 in method.ladder else method.ladder[0]
        row = measure(method, problem, rtol, 10.0)
        wrong = row.answered and (row.error or 0) > 0.02
        bad += wrong or not (row.answered or row.status.startswith(("not run", "nonsense")))
        error = "" if row.error is None else f"error {row.error:.1e}"
        print(f"{method.name}: {row.status} {error}, rhs {row.rhs}, jvp {row.jvp}")
    return 1 if bad else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--problems", default=",".join(PROBLEMS), help="names, by commas")
    parser.add_argument("--methods", default="", help="parts of names, by commas (default all)")
    parser.add_argument(
        "--full", action="store_true", help="30 times the time limits; more of the methods"
    )
    parser.add_argument("--report", action="store_true", help="measure nothing")
    parser.add_argument("--quick", action="store_true", help="smoke run")
    options = parser.parse_args()
    unknown = set(options.problems.split(",")) - set(PROBLEMS)
    if unknown:
        parser.error(f"--problems must be of {', '.join(PROBLEMS)}, got {', '.join(unknown)}")
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")  # peers' deprecations, SciPy's remarks on tolerances
    if options.quick:
        return quick()
    parts = [part.lower() for part in options.methods.split(",")]
    everyone = [*gflow_methods(options.full), *peer_methods(options.full), *jax_methods()]
    methods = [m for m in everyone if any(part in m.name.lower() for part in parts)]
    names = options.problems.split(",")
    whole = not options.methods and set(names) == set(PROBLEMS)
    rows = [] if whole and not options.report else load()
    if not options.report:
        measure(methods[0], PROBLEMS["non_stiff"](), 1e-2, 60.0)  # load the libraries
        for name in names:
            fresh = run(PROBLEMS[name](), methods, 30.0 if options.full else 1.0)
            anew = {(row.problem, row.method) for row in fresh}
            rows = [row for row in rows if (row.problem, row.method) not in anew] + fresh
            save(rows)
        if whole:
            rows += [*ensemble.rows(), *overhead.rows()]
            save(rows)
    text = report(rows) + must_show(rows)
    (RESULTS / "solvers.md").write_text(text, encoding="utf-8")
    draw(rows)
    print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
