"""Lines below a table, also from summaries that were read back from JSON."""

import math

import pytest

from gflow.results import lines


@pytest.mark.parametrize("error", [math.nan, None])
def test_solver_error_that_was_not_measured(error):
    line = lines.solver_error_line({"solver_error": error})
    assert line == ("solver error", "not measured")


def test_solver_error_is_to_be_compared_with_the_gaps():
    line = lines.solver_error_line({"solver_error": 1.4e-15})
    assert line == ("solver error", "1.4e-15 (compare with the gaps)")


@pytest.mark.parametrize("limit", [math.inf, "inf"])
def test_infinite_stability_limit(limit):
    line = lines.stability_line({"stability_limit": limit})
    assert line == ("stability", "descent is stable below 2/λ_max = inf")


def test_facts_are_the_time_unit_and_final_values_but_no_losses():
    summary = {"final_loss": 1.0, "final_kernel_loss": 2.0, "final_test_error": 0.25}
    assert lines.fact_lines(summary | {"time_unit": "epochs"}) == [
        ("time", "epochs"),
        ("test error", "0.25 at the end of the flow"),
    ]


@pytest.mark.parametrize(("value", "text"), [(1.0, "yes"), (0.0, "no"), (None, "-")])
def test_fact_that_holds_or_not_is_yes_or_no(value, text):
    line = ("bound holds", f"{text} at the end of the flow")
    assert lines.fact_lines({"final_bound_holds": value}) == [line]


def test_certificate_line_names_every_failure():
    assert lines.certificate_line([]) == ("certificate", "holds")
    assert lines.certificate_line(["a 1", "b 2"]) == ("certificate", "DOES NOT HOLD: a 1; b 2")


def test_cost_lines_have_evaluations_seconds_method_and_reason():
    cost = {"rhs_evals": 48, "wall_seconds": 0.0123, "method": "exact", "reason": "closed form"}
    assert lines.cost_lines(cost) == [
        ("cost", "48 evaluations, 0.01 s"),
        ("method", "exact, closed form"),
    ]
