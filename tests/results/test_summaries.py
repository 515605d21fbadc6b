"""Certificates and costs as plain values, and the numbers of a summary."""

import json
import math

import torch

import gflow
from gflow.flows import KernelFlow
from gflow.results.summaries import (
    certificate_summary,
    combined_summary,
    cost_summary,
    plain_numbers,
)

H = torch.diag(torch.tensor([1.0, 0.25], dtype=torch.float64))
KERNEL = KernelFlow(H, torch.ones(2, dtype=torch.float64))
ZERO = torch.zeros(2, dtype=torch.float64)


def test_certificate_and_cost_are_plain_values():
    path = gflow.integrate(KERNEL, ZERO, [0.0, 1.0])
    certificate, cost = certificate_summary(path), cost_summary(path)
    assert json.loads(json.dumps(certificate)) == certificate
    assert json.loads(json.dumps(cost)) == cost
    assert certificate["holds"] is path.certificate.holds is True
    assert certificate["failures"] == []
    assert cost["rhs_evals"] == path.stats.rhs_evals


def test_combined_summary_adds_costs_and_names_the_failing_trajectory():
    exact = gflow.integrate(KERNEL, ZERO, [0.0, 1.0])
    rough = gflow.integrate(KERNEL, ZERO, [0.0, 1.0], method="tsit5", rtol=0.5, atol=0.5)
    combined = combined_summary({"exact": exact, "rough": rough})
    assert combined["cost"]["rhs_evals"] == exact.stats.rhs_evals + rough.stats.rhs_evals
    assert combined["cost"]["method"] == "exact, tsit5"
    failures = [f"rough: {failure}" for failure in rough.certificate.failures()]
    assert combined["certificate"] == {"holds": not failures, "failures": failures}


def test_plain_numbers_are_those_of_a_mapping():
    assert plain_numbers({"a": True, "b": "-inf", "c": [1], "d": "1"}) == {"a": 1, "b": -math.inf}
    assert plain_numbers(None) == {}
