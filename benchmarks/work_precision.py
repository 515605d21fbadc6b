"""Work and precision: every gflow method and every peer on every problem.

Each method solves each problem with smaller and smaller tolerances until its error is small enough;
each solve is a row of ``results/solvers.csv``. Fast solves, and slow ones that a requirement
compares, are then repeated in interleaved order, so that other load slows all alike; medians count.
diffrax's solves are rows with and without their compilation.
The rows give the tables of cost at matched error, the figures, and the table of requirements.

Run: python benchmarks/work_precision.py            everything, in a quarter of an hour
     python benchmarks/work_precision.py --full     without the short time limits
     python benchmarks/work_precision.py --problems tanh300 --methods rkc2,CVODE
                                                    measure these again, keep the other rows
     python benchmarks/work_precision.py --report   tables and figures of the stored rows
     python benchmarks/work_precision.py --quick    smoke test, writes nothing
"""

from __future__ import annotations

import argparse
import dataclasses
import random
import sys
import time
import warnings
from collections.abc import Callable, Sequence

import ensemble
import overhead
import torch
from figures import draw
from matched_error import LEVELS, by_method, fastest, solve_seconds
from measuring import Method, Row, measure
from peers import gflow_methods, peer_methods
from peers_jax import cold_rows, jax_methods
from problems import PROBLEMS, Problem
from references import reference
from reporting import report
from requirements import requirements_table
from rows import RESULTS, load, save

_REPEATS = 7
_REPEATED = 0.5  # seconds; shorter solves are repeated
_REPEAT_BUDGET = 6.0  # seconds per problem
_SLOW_BUDGET = 40.0
_COMPARED = ("torchdiffeq", "CVODE", "diffrax Tsit5")


def climb(method: Method, problem: Problem) -> list[Row]:
    """Return the rows of one method, from the loosest tolerance until its error is small enough."""
    rows: list[Row] = []
    short = method.explicit and not method.fixed and problem.explicit_ladder
    rungs = list(problem.explicit_ladder if short else method.ladder)
    if problem.ladder and not method.explicit and len(rungs) > 1:
        rungs = list(problem.ladder)
    if short and not method.name.startswith(("torchdiffeq", "diffrax")):
        rungs = rungs[-1:]  # requirements compare with these two
    limit = problem.explicit_limit if method.explicit else problem.limit
    limit = min(limit, 4.0) if method.fixed else limit
    while rungs:
        rows.append(measure(method, problem, rungs.pop(0), limit))
        status = rows[-1].status
        # A smaller tolerance may help against divergence, but not against limits.
        if status == "projected" or status.startswith(("not run", "out of time")):
            break
        if rows[-1].answered and (rows[-1].error or 0) <= problem.enough:
            break
        if not method.explicit and rows[-1].solve > 0.5 * limit:
            break  # the next one costs more
        if not (short or problem.ladder) and rows[-1].solve > limit / 8:
            rungs = rungs[1:]  # slow: skip every other tolerance
    return rows


def repeat(rows: list[Row], methods: dict[str, Method], problem: Problem) -> None:
    """Repeat the timings of fast rows, and of slow rows that a requirement compares."""
    quick = [row for row in rows if row.answered and row.solve <= _REPEATED]
    _interleave(quick, methods, problem, _REPEATS - 1, _REPEAT_BUDGET)
    _interleave(_slow_rows(rows), methods, problem, 2, _SLOW_BUDGET)


def _slow_rows(rows: list[Row]) -> list[Row]:
    """Return the slow rows by which `auto` is compared with the fastest methods of peers."""
    groups = by_method(rows, rows[0].problem)
    slow = []
    for level in LEVELS:
        peers = [fastest(groups, peer, level, solve_seconds) for peer in _COMPARED]
        for name in ("gflow auto", *(peer[0] for peer in peers if peer)):
            group = [r for r in groups.get(name, []) if r.answered or r.status == "projected"]
            above = [r for r in group if r.answered and (r.error or 0) > level][-1:]
            below = [r for r in group if r not in above and not (r.error or 0) > level][:1]
            slow += [r for r in above + below if r.solve > _REPEATED and r not in slow]
    return slow


def _interleave(
    rows: list[Row], methods: dict[str, Method], problem: Problem, turns: int, budget: float
) -> None:
    began, rows = time.perf_counter(), list(rows)
    for turn in range(turns):
        spent = time.perf_counter() - began
        if turn:
            expected = spent * (turn + 1) / turn
        else:  # a projected solve is stopped at the limit
            expected = sum(min(row.seconds[0], problem.limit) for row in rows)
        if expected > budget:
            break  # this turn would exceed it
        random.Random(turn).shuffle(rows)  # no fixed order of methods
        for row in rows:
            method = methods[row.method]
            limit = problem.explicit_limit if method.explicit else problem.limit
            again = measure(method, problem, row.rtol, limit)
            row.seconds += again.seconds
            row.inner_seconds += again.inner_seconds
            if again.peak_mb is not None and row.peak_mb is not None:
                row.peak_mb = min(row.peak_mb, again.peak_mb)  # the first solve may load libraries


def run(problem: Problem, methods: Sequence[Method]) -> list[Row]:
    """Measure all rows of one problem."""
    reference(problem)
    flow = problem.make()
    flow.jvp(problem.y0, flow(0.0, problem.y0))  # load libraries
    began, rows = time.perf_counter(), []
    for method in methods:
        rows += climb(method, problem)
    repeat(rows, {method.name: method for method in methods}, problem)
    rows += cold_rows(rows, problem)
    print(f"{problem.name}: {len(rows)} rows, {time.perf_counter() - began:.0f} s", flush=True)
    return rows


def quick() -> int:
    """Build every problem, and solve the cheapest one once by every method."""
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


#: Benchmarks with their own files and methods.
_ALONE: dict[str, Callable[[], list[Row]]] = {
    "ensemble": ensemble.rows,
    "overhead": overhead.rows,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    everything = [*PROBLEMS, *_ALONE]
    parser.add_argument("--problems", default=",".join(everything), help="names, by commas")
    parser.add_argument("--methods", default="", help="parts of names, by commas (default all)")
    parser.add_argument("--full", action="store_true", help="five minutes per solve; more methods")
    parser.add_argument(
        "--report", action="store_true", help="report the stored rows, measure nothing"
    )
    parser.add_argument("--quick", action="store_true", help="smoke test")
    options = parser.parse_args()
    unknown = set(options.problems.split(",")) - set(everything)
    if unknown:
        parser.error(f"--problems must be of {', '.join(everything)}, got {', '.join(unknown)}")
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")  # peers' deprecations, SciPy's remarks on tolerances
    if options.quick:
        return quick()
    parts = [part.lower() for part in options.methods.split(",")]
    everyone = [*gflow_methods(options.full), *peer_methods(options.full), *jax_methods()]
    methods = [m for m in everyone if any(part in m.name.lower() for part in parts)]
    names = options.problems.split(",")
    complete = not options.methods and set(names) == set(everything)
    rows = [] if complete and not options.report else load()
    if not options.report:
        for name in ("non_stiff", "tanh300"):  # load the libraries
            measure(methods[0], PROBLEMS[name](), 1e-2, 60.0)
        for name in (name for name in names if name in _ALONE and not options.methods):
            rows = [row for row in rows if row.problem != name] + _ALONE[name]()
            save(rows)
        for name in (name for name in names if name in PROBLEMS):
            problem = PROBLEMS[name]()
            if options.full:
                problem = dataclasses.replace(
                    problem, explicit_ladder=(), ladder=(), limit=300.0, explicit_limit=300.0
                )
            fresh = run(problem, methods)
            measured_again = {(row.problem, row.method) for row in fresh}
            rows = [row for row in rows if (row.problem, row.method) not in measured_again] + fresh
            save(rows)
    text = report(rows) + requirements_table(rows)
    (RESULTS / "solvers.md").write_text(text, encoding="utf-8")
    draw(rows)
    print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
