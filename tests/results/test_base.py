"""The base of all results: cells, verdict and numbers of a summary."""

import json

import numpy as np
import pytest
import xarray as xr

from gflow.errors import InputError
from gflow.results.base import Column, Result, Verdict
from gflow.results.registry import find_kind

GOOD, BAD = {"holds": True, "failures": []}, {"holds": False, "failures": ["velocity_error 1"]}
COST = {"rhs_evals": 3, "wall_seconds": 0.5, "method": "exact", "reason": "closed form"}


class Walks(Result):
    """Rows of an invented kind."""

    kind = "walks"
    rows_key = "walks"
    row_label = "name"
    row_prefix = "walk_"
    certificate_keys = ("certificate", "second")

    @classmethod
    def columns(cls, summary):
        return Column("name", "name"), Column("steps", "steps"), Column("loss", "loss")

    @classmethod
    def lines(cls, summary):
        return [("loss", "as given")]


def row(**values):
    return {"name": "a", "steps": 7, "loss": 0.123456} | values


def summary(*rows, **values):
    return {"walks": list(rows), "certificate": GOOD, "cost": COST} | values


def test_summary_names_its_kind_first():
    result = Walks(xr.Dataset(), {"loss": 1.0})
    assert list(result.summary.items()) == [("kind", "walks"), ("loss", 1.0)]


@pytest.mark.parametrize(
    ("values", "cells"),
    [
        ({}, ("a", "7", "0.1235")),
        ({"loss": None}, ("a", "7", "-")),
        ({"stable": True}, ("a", "7", "0.1235")),
        ({"stable": False}, ("a (unstable)", "7", "0.1235")),
        ({"diverged_at": None, "stable": False}, ("a (unstable)", "7", "0.1235")),
        ({"diverged_at": 0, "stable": False}, ("a", "7", "diverged from step 0")),
    ],
)
def test_cells_of_a_row(values, cells):
    assert Walks.table(summary(row(**values))).rows == (cells,)


def test_table_ends_with_certificate_cost_and_method():
    table = Walks.table(summary(row(), second=BAD))
    assert table.headings == ("name", "steps", "loss")
    assert table.lines == (
        ("loss", "as given"),
        ("certificate", "DOES NOT HOLD: velocity_error 1"),
        ("cost", "3 evaluations, 0.50 s"),
        ("method", "exact, closed form"),
    )


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        (summary(row()), Verdict.HOLDS),
        (summary(), Verdict.HOLDS),
        (summary(row(diverged_at=None)), Verdict.HOLDS),
        (summary(row(), row(diverged_at=0)), Verdict.DIVERGED),
        (summary(row(), certificate=BAD), Verdict.UNCERTIFIED),
        (summary(row(), second=BAD), Verdict.UNCERTIFIED),
        (summary(row(diverged_at=2), certificate=BAD), Verdict.UNCERTIFIED),
    ],
)
def test_verdict_follows_from_the_summary(given, verdict):
    assert Walks.verdict(given) is verdict


def test_numbers_of_a_single_row_are_prefixed_where_the_summary_has_the_name():
    numbers = Walks.numbers(summary(row(), loss=1.0, text="x", rhs_evals=9))
    assert numbers == {
        "loss": 1.0,
        "rhs_evals": 9.0,  # from the summary, not from the cost
        "certificate_holds": 1.0,
        "wall_seconds": 0.5,
        "steps": 7.0,
        "walk_loss": 0.123456,
    }
    assert "steps" not in Walks.numbers(summary(row(), row()))


def test_numbers_of_a_summary_read_from_json():
    values = {"kind": "width", "a": 1, "b": "inf", "c": None, "name": "x"}
    values |= {"cost": {"a": 5, "rhs_evals": 3}, "certificate": {"holds": False}}
    values |= {"widths": [{"a": 7, "peak": 2.0}, {"peak": 1.0}]}
    numbers = find_kind(values).numbers(json.loads(json.dumps(values)))
    assert numbers == {"a": 1, "b": np.inf, "certificate_holds": 0, "rhs_evals": 3}


@pytest.mark.parametrize("rows", [None, 3, {}, "walks", [1], [{}, None]])
def test_rows_that_are_not_a_list_of_tables_are_refused(rows):
    with pytest.raises(InputError, match="'walks' must have a list of rows 'walks'; run the"):
        Walks.rows({"walks": rows})


def test_attributes_are_declared_shared_or_made_from_the_name():
    assert Walks.attributes("wall_seconds") == {"long_name": "seconds of the solve", "units": "s"}
    assert Walks.attributes("walk_loss") == {"long_name": "walk loss", "units": "1"}
