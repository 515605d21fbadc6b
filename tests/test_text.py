"""Texts for one line: printable, short, plain, with suggestions."""

import json

import pytest

from gflow.text import (
    CONTROL,
    brief,
    nearest,
    one_line,
    plain,
    power_of_ten,
    printable,
    printable_values,
    unknown,
)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("two\nlines\tand a tab", "two lines and a tab"),
        ("\x1b[2J", "[2J"),
        ("\x9b2J", "2J"),
        ("a\u202eb\u2066c\u2028d", "a b c d"),
        ("half \ud800", "half"),
        ("größe ∑ 値", "größe ∑ 値"),
        ("", ""),
    ],
)
def test_printable_is_one_line_without_control_characters(text, line):
    assert printable(text) == line
    assert CONTROL.search(printable(text)) is None


def test_brief_shortens_every_value():
    nested = []
    for _ in range(100_000):
        nested = [nested]
    assert brief("x" * 100, str, 5) == "xxxxx"
    assert len(brief(list(range(1000)))) == 80
    assert brief(nested) == "list too large to show"
    assert brief(16**5000) == "int too large to show"


def test_printable_values_preserves_the_tree():
    tree = {"a\n": ["\x1b", 1, None, {"b": "c" * 600}], "d": 0.5}
    assert printable_values(tree) == {"a": ["", 1, None, {"b": "c" * 500}], "d": 0.5}


def test_one_line_names_the_type_of_an_error():
    assert one_line(ValueError("two\nlines")) == "ValueError: two lines"
    assert len(one_line(ValueError("x" * 500))) == 200
    assert one_line(ValueError("x" * 500)).endswith("...")


def test_plain_values_are_standard_json():
    nested = {"a": (1, float("inf")), 2: {"b": float("nan")}, "c": [True, None, "x", -2.5]}
    result = plain(nested)
    assert result == {"a": [1, "inf"], "2": {"b": None}, "c": [True, None, "x", -2.5]}
    json.dumps(result, allow_nan=False)


def test_unknown_suggests_the_nearest_or_all_known_names():
    assert unknown("key", "dept", ["depth", "seed"]) == (
        "there is no key 'dept'; did you mean 'depth'?"
    )
    assert unknown("key", "zzz", ["depth", "seed"]).endswith("choose from depth, seed")


def test_capitals_and_dashes_are_no_difference():
    assert nearest("Step-Sizes", ["time", "step_sizes"]) == "step_sizes"
    assert nearest("cross_entropy", ["squared-error", "cross-entropy"]) == "cross-entropy"
    assert nearest("TAHN", ["relu", "tanh"]) == "tanh"
    assert nearest("", ["tanh"]) is nearest("x" * 10**6, ["tanh"]) is None


def test_a_power_of_ten_is_rounded_to_a_number():
    assert [power_of_ten(x) for x in (-300.0 - 1e-9, 2.0, 0.0, 2.5)] == [
        "1e-300",
        "1e2",
        "1",
        "316",
    ]
