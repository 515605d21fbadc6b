"""Families of truths, and how examples are drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from hypothesis import strategies as st

from tests.truths.case import OutOfTime, Truth, Verdict, judge, time_limit
from tests.truths.convex import affine, logistic, modified
from tests.truths.landscapes import landscape
from tests.truths.matrices import aligned, factorization, thin_product, two_layers

EXPLICIT = ["tsit5", "dop853", "dopri5"]
STIFF = ["auto", "auto", "auto", "bdf", "rkc2", "rock4", "scipy:LSODA", "scipy:BDF", "scipy:Radau"]
STEPPING = ("auto", "tsit5", "dop853", "rkc2", "rock4", "bdf")
TOLERANCES = [1e-3, 1e-4, 1e-6, 1e-6, 1e-6, 1e-8, 1e-10]
SLOW = ("logistic", "modified", "thin product")  # families of expensive evaluations or truths
_TOO_STIFF = 1500.0  # rate times length from which explicit methods are not drawn


@dataclass(frozen=True)
class Example:
    """One family with its parameters, and the options of the solve; its repr reproduces it."""

    family: str
    parameters: dict[str, Any]
    options: dict[str, Any]

    def __repr__(self) -> str:
        return repr((self.family, self.parameters, self.options))

    def truth(self) -> Truth:
        """Make the flow and its known path."""
        return FAMILIES[self.family][0](**self.parameters)

    def verdict(self, seconds: float = 30.0) -> Verdict:
        """Solve, within a time."""
        try:
            with time_limit(seconds):
                return judge(self.truth(), self.options)
        except OutOfTime:
            return Verdict("out of time")


def _log(random: Random, low: float, high: float) -> float:
    """Draw a number whose logarithm is uniform, of three digits."""
    return float(f"{low * (high / low) ** random.random():.3g}")


def _logs(random: Random, least: int, most: int, low: float, high: float) -> list[float]:
    return [_log(random, low, high) for _ in range(random.randint(least, most))]


def _turn(random: Random) -> int | None:
    return random.choice([None, random.randrange(10**6)])


def _saddles(random: Random) -> dict[str, Any]:
    wells = _logs(random, 1, 3, 0.2, 20.0)
    members = random.choice([1, 1, 1, 1, 2, 3])
    zero = random.random() < 0.2
    starts = [[_log(random, 1e-18, 1e-2) for _ in wells] for _ in range(members)]
    if zero:
        starts[-1][-1] = 0.0
    return {
        "rates": _logs(random, 0, 3, 1e-3, 1e6),
        "wells": wells,
        "starts": starts,
        "turn": _turn(random),
        "network": random.random() < 0.12,
        "single": random.random() < 0.125,
    }


def _hills(random: Random) -> dict[str, Any]:
    return {
        "rates": _logs(random, 1, 2, 1e-3, 1e4),
        "wells": [],
        "starts": [[]],
        "hills": _logs(random, 1, 2, 0.1, 10.0),
        "hill_start": _log(random, 1e-16, 1e-2),
        "turn": _turn(random),
    }


def _factorization(random: Random) -> dict[str, Any]:
    target = _logs(random, 2, 3, 0.2, 5.0)
    if random.random() < 0.4:
        target[-1] *= -1
    single = random.random() < 0.1
    return {
        "target": target,
        "scale": _log(random, 1e-5 if single else random.choice([1e-12, 1e-60]), 1.0),
        "columns": random.randint(1, len(target)),
        "turn": _turn(random),
        "product": random.random() < 0.5,
        "seed": random.randrange(10**6),
        "identity": random.random() < 0.5,
        "single": single,
    }


def _thin_product(random: Random) -> dict[str, Any]:
    n = random.randint(2, 5)
    return {
        "n": n,
        "rank": random.randint(1, n - 1),
        "scale": _log(random, 1e-4, 1.0),
        "seed": random.randrange(10**6),
        "missing": random.randint(1, max(1, n * n // 3)),
    }


def _aligned(random: Random) -> dict[str, Any]:
    r, depth = random.randint(1, 3), random.randint(1, 5)
    small, tiny = (1e-12, 1e-36) if depth <= 2 else (1e-6, 1e-15)
    least = random.choice([1e-2, small, tiny])
    starts = _logs(random, r, r, least, 10.0 if random.random() < 0.3 else 0.1)
    if random.random() < 0.2:
        starts[-1] = 0.0
    target = _logs(random, r, r, 0.2, 5.0)
    if random.random() < 0.25:
        target[0] *= -1
    return {
        "target": target,
        "starts": starts,
        "depth": depth,
        "shape": [r + random.randint(0, 1), r + random.randint(0, 2)],
        "turn": None if least == tiny else _turn(random),
        "layers": random.random() < 0.5,
        "single": random.random() < 0.1,
    }


def _two_layers(random: Random) -> dict[str, Any]:
    shape = [random.randint(1, 3), random.randint(1, 3)]
    return {
        "shape": shape,
        "rank": random.randint(1, min(shape)),
        "scale": _log(random, 1e-12, 1.0),
        "seed": random.randrange(10**6),
        "layers": random.random() < 0.5,
        "target_scale": _log(random, 0.3, 5.0),
    }


def _affine(random: Random) -> dict[str, Any]:
    rates = _logs(random, 2, 6, 1e-9, 1e3)
    if random.random() < 0.4:
        rates.append(0.0)
    return {
        "rates": rates,
        "turn": _turn(random),
        "kind": random.choice(["kernel", "product", "network", "regression"]),
        "moment": random.randrange(6),
        "seed": random.randrange(10**6),
        "single": random.random() < 0.1,
    }


def _logistic(random: Random) -> dict[str, Any]:
    return {
        "sizes": _logs(random, 1, 4, 0.1, 10.0),
        "turn": _turn(random),
        "criterion": random.choice(["logistic", "cross-entropy"]),
        "end": _log(random, 10.0, random.choice([1e4, 1e40])),
        "start": random.choice([0.0, -3.0, 2.0]),
    }


def _modified(random: Random) -> dict[str, Any]:
    return {
        "rates": _logs(random, 1, 4, 1e-3, 1e2),
        "turn": _turn(random),
        "step": _log(random, 1e-3, 1.0),
        "seed": random.randrange(10**6),
    }


#: name: (builder, how its parameters are drawn, weight)
FAMILIES: dict[str, tuple[Callable[..., Truth], Callable[[Random], dict[str, Any]], int]] = {
    "saddles": (landscape, _saddles, 6),
    "hills": (landscape, _hills, 1),
    "factorization": (factorization, _factorization, 3),
    "thin product": (thin_product, _thin_product, 2),
    "aligned": (aligned, _aligned, 4),
    "two layers": (two_layers, _two_layers, 2),
    "affine": (affine, _affine, 3),
    "logistic": (logistic, _logistic, 2),
    "modified": (modified, _modified, 1),
}


def draw(random: Random, max_evals: int = 6_000, family: str | None = None) -> Example:
    """Draw a family, its parameters and the options of the solve."""
    weighted = [name for name, (*_, weight) in FAMILIES.items() for _ in range(weight)]
    family = family or random.choice(weighted)
    parameters = FAMILIES[family][1](random)
    truth = FAMILIES[family][0](**parameters)
    return Example(family, parameters, _options(random, family, parameters, truth, max_evals))


def draw_quick(random: Random, max_evals: int = 400) -> Example:
    """Draw an example of which most solves take some hundredths of a second."""
    while True:
        family = random.choice([name for name in FAMILIES if name not in SLOW])
        parameters = FAMILIES[family][1](random)
        if (
            parameters.get("single")
            or parameters.get("network")
            or parameters.get("kind") == "network"
        ):
            continue
        if 0 < parameters.get("scale", 1.0) < 1e-12 or parameters.get("depth", 1) > 3:
            continue
        truth = FAMILIES[family][0](**parameters)
        options = _options(random, family, parameters, truth, max_evals)
        method = options["method"]
        if (
            method.startswith("scipy")
            or "estimate_error" in options
            or options["rtol"] < 1e-6
            or "dense" in options
        ):
            continue
        return Example(family, parameters, options)


def _options(
    random: Random, family: str, parameters: dict[str, Any], truth: Truth, max_evals: int
) -> dict[str, Any]:
    """Draw the options of the solve."""
    methods = STIFF if truth.stiffness > _TOO_STIFF else STIFF + EXPLICIT
    if family == "affine" and parameters["kind"] in ("kernel", "product"):
        methods = ["auto", "auto", "krylov", "bdf", "rkc2", "scipy:BDF"]
    method = random.choice(methods)
    if truth.batch and method == "bdf":
        method = "auto"  # bdf takes one start
    single = parameters.get("single", False)
    options: dict[str, Any] = {"method": method, "max_evals": max_evals}
    options["rtol"] = random.choice([1e-3, 1e-4] if single else TOLERANCES)
    atol = random.choice(["default", "proportional", "small"])
    if atol == "proportional":
        options["atol"] = float(f"{1e-3 * options['rtol']:.3g}")
    elif atol == "small" or single:
        size = float(truth.flow.norm(truth.y0).min()) or 1.0
        options["atol"] = float(f"{1e-3 * options['rtol'] * min(size, 1.0):.3g}")
    extra = random.choice(["", "", "", "", "dense", "event", "log", "t0", "estimate"])
    if extra == "dense" and method in STEPPING:
        options |= {"dense": True, "times": 40}
    elif extra == "event" and method in STEPPING and family in ("saddles", "logistic", "affine"):
        options["event"] = True
    elif extra == "log":
        options["times"] = 12
    elif extra == "t0":
        options["t0"] = random.choice([-3.0, 1e3, 1e7])
    elif extra == "estimate":
        options["estimate_error"] = True
    return options


def examples(max_evals: int = 6_000, family: str | None = None) -> st.SearchStrategy[Example]:
    """Examples for hypothesis, which draws the seed of each: its numbers have no nearby variants,
    of which hypothesis would try too many."""
    return st.randoms(use_true_random=True).map(lambda random: draw(random, max_evals, family))


def quick_examples() -> st.SearchStrategy[Example]:
    """Examples for every run of the tests."""
    return st.randoms(use_true_random=True).map(draw_quick)
