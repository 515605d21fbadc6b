"""A path whose error is in proportion to the tolerance, and too large, is solved again."""

import dataclasses

import pytest
import torch

import gflow
from gflow.events import loss_reaches
from gflow.solvers import solve as solve_module
from gflow.solvers.options import SolveOptions
from gflow.solvers.refinement import finer_options, refined
from gflow.trajectory import certificate as certificates
from tests.helpers import times
from tests.solvers.test_escape import error_of, saddle

BOUND = 2e-7  # of the error, at rtol 1e-6: less than what a solve leaves here, 3e-7 to 1e-6


@pytest.fixture
def strict(monkeypatch):
    monkeypatch.setattr(certificates, "_ESCAPE", BOUND / 1e-6)


@pytest.mark.parametrize("method", ["auto", "tsit5"])
def test_the_second_solve_keeps_the_promise_of_the_first(strict, method):
    flow, y0, ts, truth = saddle(30.0, 1e-4, turned=True)
    path = gflow.integrate(flow, y0, ts, method, rtol=1e-6)
    assert path.certificate.holds, path.certificate
    assert path.certificate.bounds["escape_error"] == pytest.approx(BOUND)
    assert path.certificate.bounds["error_estimate"] == pytest.approx(1e-4)  # as at rtol 1e-6
    assert "solved again at rtol = " in path.stats.reason
    assert error_of(path.ys, truth) < BOUND
    assert path.stats.certificate_evals > 2 * path.stats.rhs_evals


def test_members_and_events_take_the_second_path(strict):
    flow, y0, ts, truth = saddle(30.0, 1e-4, turned=True)
    starts = torch.stack([y0, truth[2]])
    path = gflow.integrate(flow, starts, ts, rtol=1e-6, until=loss_reaches(flow, 0.1))
    assert path.certificate.holds, path.certificate
    assert "solved again" in path.stats.reason
    assert torch.allclose(flow.loss(path.ends), times(0.1, 0.1), rtol=1e-6)


def test_checkpoints_and_progress_are_those_of_the_first_solve(strict):
    flow, y0, ts, _ = saddle(30.0, 1e-4, turned=True)
    seen, saved = [], []
    path = gflow.integrate(
        flow,
        y0,
        ts,
        rtol=1e-6,
        progress=lambda t, loss: seen.append(t),
        checkpoint=saved.append,
        checkpoint_every=0.0,
    )
    assert "solved again" in path.stats.reason
    assert seen == sorted(seen)
    again = gflow.integrate(flow, y0, ts, rtol=1e-6, resume=saved[len(saved) // 2])
    assert torch.equal(again.ys, path.ys)
    assert again.certificate == path.certificate


@pytest.mark.parametrize("error", [ValueError("no more"), KeyboardInterrupt()])
def test_what_stops_the_second_solve_leaves_the_first(strict, monkeypatch, error):
    flow, y0, ts, _ = saddle(30.0, 1e-4, turned=True)
    solve_once, rtols = solve_module._solve_once, []

    def fails_again(flow, y0, times, options, *rest):
        rtols.append(options.rtol)
        if options.rtol == 1e-6:
            return solve_once(flow, y0, times, options, *rest)

        def raises(t, loss):
            raise error

        details = rest[0] | {"progress": raises}
        return solve_once(flow, y0, times, options, details, *rest[1:])

    monkeypatch.setattr(solve_module, "_solve_once", fails_again)
    if isinstance(error, KeyboardInterrupt):
        with pytest.raises(KeyboardInterrupt) as caught:
            gflow.integrate(flow, y0, ts, rtol=1e-6)
        assert not hasattr(caught.value, "checkpoint")  # no solve of the caller's goes on from it
    else:
        path = gflow.integrate(flow, y0, ts, rtol=1e-6)
        assert "escape_error" in str(path.certificate.failures())
    assert len(rtols) == 2


def test_a_library_s_method_takes_the_tolerance_that_it_is_given(strict):
    flow, y0, ts, _ = saddle(30.0, 1e-4, turned=True)
    path = gflow.integrate(flow, y0, ts, "dopri5", rtol=1e-6)
    assert "solved again" not in path.stats.reason


CERTIFICATE = dataclasses.replace(
    gflow.integrate(*gflow.FactorFlow.example(), [0.0, 1.0]).certificate,
    escape_error=1e-4,
    amplification=1e4,
)


@pytest.mark.parametrize(
    "changes",
    [
        {"escape_error": 1e-5},  # it holds
        {"escape_error": 0.1},  # in no proportion to the tolerance
        {"escape_error": float("nan")},  # the finer solve stopped
        {"amplification": 1e12},  # round-off grew as much
        {"rest": "round-off decides when a saddle is left"},
        {"velocity_error": 0.1},  # a wrong flow stays wrong
        {"discrete_changes": {"rank": 1.0}},
    ],
)
def test_no_second_solve_where_it_is_no_remedy(changes):
    assert finer_options(path(), SolveOptions(), 2e-16) is not None
    assert finer_options(path(**changes), SolveOptions(), 2e-16) is None


def path(failures=None, **changes):
    """Return a path with a certificate that differs in some measurements."""
    found = gflow.integrate(*gflow.FactorFlow.example(), [0.0, 1.0])
    changed = dataclasses.replace(CERTIFICATE, **changes)
    return dataclasses.replace(found, certificate=changed, failures=failures or {})


def test_a_second_path_that_is_worse_elsewhere_is_not_taken():
    before = path(failures={1: "its budget ran out"})
    assert refined(path(escape_error=1e-5), before, 1e-7, 1e-6) is not None
    assert refined(path(escape_error=9e-5), before, 1e-7, 1e-6) is None
    assert refined(path(escape_error=1e-5, energy_residual=1.0), before, 1e-7, 1e-6) is None
    assert refined(path({1: "stiff", 2: "stiff"}, escape_error=1e-5), before, 1e-7, 1e-6) is None
    assert refined(path({1: "stiff"}, escape_error=1e-5), before, 1e-7, 1e-6) is not None


def test_an_error_estimate_counts_as_much():
    failed = path(escape_error=None, error_estimate=6e-4)
    finer = finer_options(failed, SolveOptions(atol=1e-8), 2e-16)
    assert finer.rtol == pytest.approx(1e-6 / 20)
    assert finer.atol == pytest.approx(1e-8 / 20)
    assert finer.max_evals == 10 * failed.stats.rhs_evals + 500
    assert finer_options(failed, SolveOptions(max_evals=90), 2e-16).max_evals == 90
