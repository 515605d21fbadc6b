"""A flow whose path is known, how it is solved, and the verdict on the result.

A path is right where its largest error at the requested times, over the largest ‖truth‖ of the
member, is at most 100 times rtol + atol/‖truth‖ (N times that for a product of N parts of the
state), and what round-off of the stored state explains (a hundredth at most: where round-off
decides more than that, the certificate must say so). The verdicts:

``right``
    right, the certificate holds and nothing was warned of.
``warned``
    right, and the certificate holds, but a warning was given.
``false alarm``
    right to half of what is allowed, round-off aside, but the certificate does not hold.
``flagged``
    wrong, or right to round-off only, and the certificate does not hold, or a warning was given.
``refused``
    `InputError` or `IntegrationError`, in one line.
``silently wrong``
    wrong, the certificate holds and nothing was warned of.
``crash``
    any other exception, or a message of several lines.
"""

from __future__ import annotations

import contextlib
import signal
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import gflow
from gflow.events import loss_reaches
from gflow.flows import Flow

FAULTS = ("silently wrong", "crash")
_OTHERS = (DeprecationWarning, PendingDeprecationWarning, FutureWarning)  # other libraries'
EXPLAINED = 0.01  # the largest error that is put down to round-off of the stored state


@dataclass
class Truth:
    """A flow with a known path.

    Attributes
    ----------
    flow : Flow
    y0 : Tensor, shape (..., *state)
    ts : list of float
        Elapsed times at which something happens, from 0.
    at : callable
        ``at(elapsed)`` is the truth in float64, (T, ..., *shape); elapsed is a list of times.
    measure : callable
        The part of a path's states that ``at`` is the truth of.
    batch : int
        The number of dimensions of the ensemble.
    stiffness : float
        The fastest rate times the length of the path.
    round_off : float
        The relative error that round-off of the stored state explains.
    factors : int
        How many parts of a state ``measure`` multiplies: the tolerance promises the error of each.
    """

    flow: Flow
    y0: Tensor
    ts: list[float]
    at: Callable[[list[float]], Tensor]
    measure: Callable[[Tensor], Tensor] = lambda ys: ys
    batch: int = 0
    stiffness: float = 0.0
    round_off: float = 0.0
    factors: int = 1


@dataclass
class Verdict:
    """The result of a solve, judged.

    Attributes
    ----------
    kind : str
        One of the verdicts of the module.
    error, allowed : float
        The relative error, and the largest that is right.
    remark : str
        Failures of the certificate, warnings, or the message of the exception.
    evals : int
    """

    kind: str
    error: float = 0.0
    allowed: float = 0.0
    remark: str = ""
    evals: int = 0

    def __str__(self) -> str:
        return (
            f"{self.kind}: error {self.error:.2g}, allowed {self.allowed:.2g}, "
            f"{self.evals} evaluations; {self.remark}"
        )


def solve(truth: Truth, options: dict[str, Any]) -> tuple[gflow.Trajectory, float]:
    """Integrate to the times of a truth, and return the path with its relative error.

    Parameters
    ----------
    truth : Truth
    options : dict
        ``t0`` (default 0), ``times`` ("known", or the number of log-spaced ones), ``event``
        (whether to stop at the loss that the truth has at a middle time); the rest are
        keywords of `gflow.integrate`.
    """
    keywords = dict(options)
    t0, times = keywords.pop("t0", 0.0), keywords.pop("times", "known")
    if times == "known":
        elapsed = truth.ts
    else:
        last = truth.ts[-1]
        elapsed = [0.0, *(last * torch.logspace(-4, 0, times, dtype=torch.float64)).tolist()]
    stored = sorted({t0 + t for t in elapsed})
    elapsed = [t - t0 for t in stored]  # what is left of them beside t0
    event_at = None
    if keywords.pop("event", False) and not truth.batch:
        event_at = elapsed[(2 * len(elapsed)) // 3]
        keywords["until"] = loss_reaches(truth.flow, _loss_at(truth, event_at))
    path = gflow.integrate(truth.flow, truth.y0, stored, **keywords)
    if event_at is not None and path.event_times:
        elapsed = [t - t0 for t in path.ts.tolist()[:-1]] + [event_at]
    right = truth.at(elapsed)
    members = right.shape[: 1 + truth.batch]
    gap = (truth.measure(path.ys).double() - right).reshape(*members, -1).norm(dim=-1)
    scale = right.reshape(*members, -1).norm(dim=-1).amax(dim=0)
    error = gap.amax(dim=0) / torch.where(scale > 0, scale, torch.ones_like(scale))
    return path, float(error.max().nan_to_num(nan=torch.inf))


def _loss_at(truth: Truth, elapsed: float) -> float:
    """The loss of the true state, for truths of the whole state."""
    return float(truth.flow.loss(truth.at([elapsed])[0].to(truth.y0)))


def _size(truth: Truth, ts: list[float]) -> float:
    """The largest norm of the true states, of the member of which it is the smallest."""
    states = truth.at([t - ts[0] for t in ts])
    return float(states.reshape(*states.shape[: 1 + truth.batch], -1).norm(dim=-1).amax(0).min())


def judge(truth: Truth, options: dict[str, Any], factor: float = 100.0) -> Verdict:
    """Solve, and return the verdict."""
    round_off = min(truth.round_off, EXPLAINED)
    defaults = gflow.SolveOptions()
    rtol, atol = options.get("rtol", defaults.rtol), options.get("atol", defaults.atol)
    factor *= truth.factors
    promised = factor * rtol + 1e3 * torch.finfo(truth.y0.dtype).eps
    allowed = promised + round_off
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            path, error = solve(truth, options)
        except (gflow.InputError, gflow.IntegrationError) as refusal:
            line = str(refusal)
            return Verdict("refused" if "\n" not in line else "crash", allowed=allowed, remark=line)
        except OutOfTime:
            return Verdict("out of time", allowed=allowed)
        except Exception as crash:
            return Verdict("crash", allowed=allowed, remark=f"{type(crash).__name__}: {crash}")
    promised += factor * atol / max(_size(truth, path.ts.tolist()), atol)
    allowed = promised + round_off
    ours = {str(w.message) for w in warned if not issubclass(w.category, _OTHERS)}
    members = [f"member {i}: {why}" for i, why in path.failures.items()]
    if error <= promised / 2 and not path.certificate.holds:
        kind = "false alarm"
    elif error <= allowed and path.certificate.holds:
        kind = "warned" if ours else "right"
    else:
        told = ours or path.failures or not path.certificate.holds
        kind = "flagged" if told else "silently wrong"
    if round_off >= EXPLAINED:
        members.append("round-off decides")
    remarks = [*path.certificate.failures(), *sorted(ours), *members]
    remarks.append(f"{path.stats.method} ({path.stats.reason})")
    return Verdict(kind, error, allowed, "; ".join(remarks), path.stats.rhs_evals)


class OutOfTime(BaseException):
    """A solve takes too long; no Exception, which the certificate would take for a failed check."""


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise OutOfTime within, after the given seconds of CPU time."""

    def stop(*_: object) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.signal(signal.SIGPROF, before)
