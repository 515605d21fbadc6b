"""Lines below a table, also from summaries that were read back from JSON."""

import math

import pytest

from gflow.results import lines


@pytest.mark.parametrize("error", [math.nan, None])
def test_solver_error_that_was_not_measured(error):
    label, text = lines.solver_error_line({"solver_error": error})
    assert label == "error"
    assert text.startswith("not measured")


@pytest.mark.parametrize("limit", [math.inf, "inf"])
def test_infinite_stability_limit(limit):
    line = lines.stability_line({"stability_limit": limit})
    assert line == ("stability", "descent is stable below 2/λ_max = inf")


def test_facts_are_the_time_unit_and_final_values_but_no_losses():
    summary = {"final_loss": 1.0, "final_kernel_loss": 2.0, "final_test_error": 0.25}
    assert lines.fact_lines(summary | {"time_unit": "epochs"}) == [
        ("time", "epochs"),
        ("final", "test error 0.25"),
    ]


def test_certificate_line_names_every_failure():
    assert lines.certificate_line([]) == ("certified", "holds")
    assert lines.certificate_line(["a 1", "b 2"]) == ("certified", "DOES NOT HOLD: a 1; b 2")


def test_cost_line_has_method_and_reason():
    cost = {"rhs_evals": 48, "wall_seconds": 0.0123, "method": "exact", "reason": "closed form"}
    assert lines.cost_line(cost) == ("cost", "48 evaluations, 0.01 s, exact (closed form)")
