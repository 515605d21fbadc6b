"""Thousands of hostile inputs: scenarios, data files, run folders and command lines.

    python tests/stress/fuzz.py --examples 10000 [--seed 0] [--workers 1]

Each worker process takes 500 inputs, so that a crash affects no other batch and memory does not
accumulate; the report has the last input before a crash. Exit status 1 if there is any error.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import json
import os
import pickle
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_BATCH = 500
_MEMORY = 6 * 2**30  # a false header that is trusted exceeds this
_SECONDS = 20.0


def main() -> int:
    """Run the batches and print the counts."""
    options = _options()
    if options.batch:
        _work(*options.batch)
        return 0
    sizes = [_BATCH] * (options.examples // _BATCH) + [options.examples % _BATCH]
    total: collections.Counter[str] = collections.Counter()
    examples: dict[str, str] = {}
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(options.workers) as pool:
        jobs = [pool.submit(_batch, size, options.seed + i) for i, size in enumerate(sizes) if size]
        for job in concurrent.futures.as_completed(jobs):
            counts, errors = job.result()
            total.update(counts)
            for kind in errors.keys() - examples.keys():
                print(f"\n--- {kind}\n{errors[kind][:6000]}", file=sys.stderr)
            examples |= errors
            done = sum(n for key, n in total.items() if key.startswith("kind "))
            print(f"{done} inputs after {time.monotonic() - began:.0f} s", file=sys.stderr)
    return _report(total, time.monotonic() - began)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--batch", type=int, nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def _batch(size: int, seed: int) -> tuple[collections.Counter[str], dict[str, str]]:
    """Return the counts of a worker, and an example of each kind of error."""
    command = [sys.executable, "-W", "ignore", __file__, "--batch", str(size), str(seed)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        done = subprocess.run(command, stdout=out, stderr=err, env=environment, check=False)
        out.seek(0)
        err.seek(0)
        counts, errors, last = collections.Counter[str](), {}, ""
        for line in out:
            record = json.loads(line)
            if "begin" in record:
                last = record["begin"]
                continue
            counts.update(
                [f"kind {record['kind']}", f"status {record['status']}", *record["trouble"]]
            )
            errors |= {kind: f"{text}\n{last}" for kind, text in record["trouble"].items()}
        if done.returncode:
            counts["crash"] += 1
            errors["crash"] = f"status {done.returncode}\n{err.read().decode()[-3000:]}\n{last}"
    return counts, errors


def _work(size: int, seed: int) -> None:
    """Observe inputs; print a line of JSON before and after each."""
    sys.path.insert(0, str(Path(__file__).parents[2]))
    import faulthandler

    import hypothesis
    from hypothesis import strategies as st

    from tests.fuzzing.inputs import KINDS, run_files
    from tests.fuzzing.observing import WAIT, observe

    run_files()
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    quiet = {"database": None, "deadline": None, "phases": [hypothesis.Phase.generate]}

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=size, suppress_health_check=list(hypothesis.HealthCheck), **quiet
    )
    @hypothesis.given(st.one_of(*KINDS.values()))
    def run(case):
        print(json.dumps({"begin": repr(pickle.dumps(case))}))
        with tempfile.TemporaryDirectory() as folder:
            # Where a signal does not interrupt the case.
            faulthandler.dump_traceback_later(2 * WAIT * _SECONDS, exit=True)
            observation = observe(case, Path(folder, "case"), _SECONDS)
            faulthandler.cancel_dump_traceback_later()
        trouble = dict(observation.trouble)
        print(
            json.dumps({"kind": case.kind, "status": repr(observation.status), "trouble": trouble})
        )

    run()


def _report(total: collections.Counter[str], seconds: float) -> int:
    from_worker = {"traceback", "hang", "outside", "line", "status", "started", "crash"}
    inputs = sum(n for key, n in total.items() if key.startswith("kind "))
    print(f"{inputs} inputs in {seconds:.0f} s")
    for key, count in sorted(total.items()):
        if key not in from_worker:
            print(f"  {key:<22} {count:>6}")
    names = {
        "traceback": "tracebacks",
        "hang": "hangs",
        "outside": "writes outside",
        "started": "programs, connections",
        "line": "unclear messages",
        "status": "undocumented statuses",
        "crash": "crashed workers",
    }
    for key, name in names.items():
        print(f"{name:<24} {total[key]:>6}")
    return 1 if from_worker & set(total) or not inputs else 0


if __name__ == "__main__":
    sys.exit(main())
