"""Measure what docs/measures.md and docs/laws.md state of networks.

python benchmarks/networks.py grokking|evaluations|counts|drift|refine
"""

import itertools
import sys
import time
from collections.abc import Callable

import torch
from sklearn.datasets import load_digits
from torch import nn

import gflow
from gflow.flows.objective.criteria import HalfSquaredError
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


def counts() -> None:
    """Conservation laws found and counted, for the networks of the tables of arXiv:2307.00144."""
    tables: dict[str, list[tuple[int, ...]]] = {
        "linear, depth 2": [(1, 1, 1), (2, 1, 2), (3, 2, 3), (4, 3, 2), (2, 3, 2)],
        "linear, depth 3": [(1, 1, 1, 1), (2, 2, 2, 2), (3, 2, 2, 3), (2, 1, 3, 2)],
        "ReLU, no biases": [(1, 2, 1), (2, 3, 2), (3, 4, 2), (2, 2, 2, 2)],
        "ReLU, biases": [(1, 2, 1), (2, 3, 2), (3, 4, 2), (2, 2, 2, 2)],
    }
    print("network          widths        parameters  dimension  laws counted  found  published")
    for name, rows in tables.items():
        for widths in rows:
            torch.manual_seed(0)
            layers: list[nn.Module] = []
            for a, b in itertools.pairwise(widths):
                layers += [nn.Linear(a, b, bias=name == "ReLU, biases")]
                layers += [nn.ReLU()] if name.startswith("ReLU") else []
            module = nn.Sequential(*(layers[:-1] if name.startswith("ReLU") else layers)).double()
            inputs = torch.randn(200, widths[0], dtype=torch.float64)
            hidden = widths[1:-1]
            # A symmetric matrix for each linear hidden layer, a number for each ReLU.
            published = sum(r * (r + 1) // 2 if name.startswith("linear") else r for r in hidden)
            count = gflow.laws.count(module, inputs)
            print(
                f"{name:<16} {'-'.join(map(str, widths)):<13} {count.parameters:>10} "
                f"{count.dimension:>10} {count.laws:>13} {count.found:>6} {published:>10}",
                flush=True,
            )


class Attention(nn.Module):
    """One head, read at the last token."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(4, 4) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = self.q(x) @ self.k(x).transpose(-2, -1) / 2.0
        outputs: torch.Tensor = self.out(torch.softmax(logits, -1) @ self.v(x))[:, -1]
        return outputs


class FirstLayerFaster(gflow.NetworkFlow):
    """A planted fault: the first parameter moves faster by a hundredth."""

    def loss_and_velocity(self, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        loss, velocity = super().loss_and_velocity(y)
        faster = torch.ones_like(velocity)
        faster[..., : next(self.module.parameters()).numel()] = 1.01
        return loss, velocity * faster


def drift() -> None:
    """Drift of the conservation laws of four networks at rtol 1e-10, and with a wrong gradient."""
    networks: dict[str, tuple[tuple[int, ...], Callable[[], list[nn.Module]]]] = {
        "ReLU, three layers": (
            (4,),
            lambda: [nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4)],
        ),
        "convolutions": (
            (1, 6, 6),
            lambda: [
                nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(),
                nn.Linear(32, 4),
            ],
        ),
        "layer norm": (
            (4,),
            lambda: [nn.Linear(4, 16), nn.LayerNorm(16), nn.ReLU(), nn.Linear(16, 4)],
        ),
        "attention": ((5, 4), lambda: [Attention()]),
    }  # fmt: skip
    for name, (shape, make) in networks.items():
        for kind in (gflow.NetworkFlow, FirstLayerFaster):
            torch.manual_seed(0)
            X, Y = (torch.randn(20, *size).double() for size in (shape, (4,)))
            flow = kind(nn.Sequential(*make()).double(), nn.functional.mse_loss, X, Y)
            began = time.process_time()
            path = gflow.integrate(flow, flow.pack(), [0.0, 0.1], rtol=1e-10, atol=1e-13)
            certificate = path.certificate
            print(
                f"{name}, {'right' if kind is gflow.NetworkFlow else 'first layer × 1.01'}: "
                f"{len(flow.laws)} laws, largest drift "
                f"{max(certificate.invariant_drift.values()):.1e} (bound "
                f"{certificate.bounds['invariant_drift']:.0e}), certified {certificate.holds}, "
                f"{path.stats.rhs_evals} evaluations, {time.process_time() - began:.0f} CPU s",
                flush=True,
            )


def refine() -> None:
    """Critical points behind the flow of the tanh network on digits, from ten starts.

    Further arguments are the number of digits, 200 by default, and of starts.
    """
    samples, starts = (int(a) for a in (*sys.argv[2:], *("200", "10")[len(sys.argv) - 2 :]))
    X, classes = load_digits(return_X_y=True)
    inputs = torch.as_tensor(X[:samples] / 16)
    targets = nn.functional.one_hot(torch.as_tensor(classes[:samples])).double()
    for seed in range(starts):
        torch.manual_seed(seed)
        layers = [nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10)]
        flow = gflow.NetworkFlow(
            nn.Sequential(*layers).double(), HalfSquaredError(), inputs - inputs.mean(0), targets
        )
        began = time.process_time()
        path = gflow.integrate(flow, flow.pack(), [0.0, 300.0], rtol=1e-4, atol=1e-7)
        point = gflow.refine(flow, path.ys[-1])
        low, high = point.eigenvalues
        print(
            f"start {seed}: loss {float(path.losses[-1]):.4f} at t = 300, then {point.loss:.1e}; "
            f"gradient {point.gradient_norm:.1e}, index {point.index}, {point.verdict}, "
            f"{point.flat} of {len(point.state)} directions flat, eigenvalues {low:.1e} to "
            f"{high:.3g}, moved {point.distance:.2g}, {point.steps} steps, "
            f"{time.process_time() - began:.0f} CPU s",
            flush=True,
        )


if __name__ == "__main__":
    torch.set_num_threads(1)
    {f.__name__: f for f in (grokking, evaluations, counts, drift, refine)}[sys.argv[1]]()
