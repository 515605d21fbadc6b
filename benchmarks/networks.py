"""Measure what docs/measures.md and docs/laws.md state of networks.

python benchmarks/networks.py grokking|evaluations|counts|refine
"""

import sys
import time

import torch

import gflow
from gflow.scenario import load_scenario


def grokking() -> None:
    """Times at which accuracies pass 0.95, by flow and by descent, over five seeds."""
    for seed in range(5):
        began = time.process_time()
        summary = load_scenario("grokking", {"seed": seed}).run(lambda *_, **__: None).summary
        (row,) = summary["descent"]
        print(
            f"seed {seed}: memorised at {summary['memorisation_time']:.1f} (descent "
            f"{row['memorisation_time']:.1f}), generalised at {summary['generalisation_time']:.0f} "
            f"(descent {row['generalisation_time']:.0f}, {row['difference']:+.2%}), ratio "
            f"{summary['delay']:.1f}, {summary['cost']['rhs_evals']} evaluations, "
            f"{time.process_time() - began:.0f} CPU s, certified {summary['certificate']['holds']}",
            flush=True,
        )


def evaluations() -> None:
    """Evaluations of the flow of ``grokking`` by bdf and by an explicit method."""
    scenario = load_scenario("grokking")
    setup = scenario.setup()
    for method in ("bdf", "rkc2", "tsit5"):
        began = time.process_time()
        path = gflow.integrate(
            setup.flow, setup.y0, [0.0, scenario.t_end], method, rtol=scenario.rtol,
            atol=scenario.atol,
        )  # fmt: skip
        print(
            f"{method}: {path.stats.rhs_evals} evaluations, {time.process_time() - began:.0f} CPU "
            f"s, loss {float(path.losses[-1]):.6f}, certified {path.certificate.holds}",
            flush=True,
        )


if __name__ == "__main__":
    torch.set_num_threads(1)
    {f.__name__: f for f in (grokking, evaluations)}[sys.argv[1]]()
