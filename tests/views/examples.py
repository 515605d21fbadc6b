"""Small values of every kind that can be drawn."""

import functools

import torch

import gflow
from gflow import studies
from gflow.losses import SquaredDistance

TARGET = torch.diag(torch.tensor([2.0, 1.0], dtype=torch.float64))
FLOW = gflow.EndToEndFlow(SquaredDistance(TARGET), depth=2)
START = 0.1 * torch.eye(2, dtype=torch.float64)
TIMES = [0.1 * k for k in range(11)]
KINDS = ["trajectory", "descent", "gap", "flow and descent", "step sizes", "plateaus"]
SLOW_KINDS = ["continuous", "implicit", "edge"]


@functools.cache
def value(kind: str):
    """Return a value of a kind."""
    factors = gflow.FactorFlow(SquaredDistance(TARGET))
    make = {
        "trajectory": lambda: gflow.integrate(FLOW, START, TIMES, method="tsit5"),
        "descent": lambda: gflow.descend(FLOW, START, 0.1, 10),
        "gap": lambda: gflow.compare(value("trajectory"), value("descent")),
        "flow and descent": lambda: studies.flow_and_descent(FLOW, START, 1.0, [0.1, 0.05]),
        "step sizes": lambda: gflow.step_size_study(FLOW, START, 1.0, [0.1, 0.05, 0.025]),
        "continuous": lambda: studies.continuous_vs_discrete(factors, START, 0.2, 0.05),
        "implicit": lambda: studies.implicit_regularization(factors, START, 0.2, [0.02, 0.01]),
        "edge": lambda: studies.edge_of_stability(factors, START, 3.0, [0.2]),
        "plateaus": lambda: studies.plateaus(value("trajectory")),
        "ensemble": lambda: gflow.integrate(
            factors, torch.stack([START, 2 * START, 3 * START]), TIMES, method="tsit5"
        ),
    }
    return make[kind]()
