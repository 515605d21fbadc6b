"""A number that is not known is left out of titles and lines, and a line says why."""

import re

import pytest

from gflow import plots
from gflow.results.registry import find_kind
from gflow.scenario import load_scenario
from gflow.text import plain

_NO_NUMBER = re.compile(r"\bnan\b|\binf\b|\bNone\b|\^-(?!\d)|(by|error|:) -(?!\d)|1e-0\b|1e-1e")
MODES = {"size": 4, "modes": (3.0, 2.0), "points": 20, "rtol": 1e-4}
SADDLES = {"jumps": 1, "points": 20, "rtol": 1e-4}
COMPLETE = {"size": 1, "rank": 1, "depths": (2,), "seeds": 1, "init_scales": (0.1,)}
CASES = [
    ("max-margin", {"samples": 2, "inputs": 1, "log10_loss_end": -30.0}, "the angle is 0"),
    ("max-margin", {"points": 2, "log10_loss_end": -9.0}, "no two late points"),
    ("max-margin", {"t_end": 1e-3}, "no two late points"),
    ("incremental-learning", MODES | {"depth": 5, "init_scales": (0.1, 0.05)}, "it takes 3 starts"),
    ("incremental-learning", MODES | {"init_scales": (0.1,)}, "it takes 2 starts"),
    ("incremental-learning", MODES | {"t_end": 1e-3}, "a path ends before mode 1"),
    ("saddle-to-saddle", SADDLES | {"powers": (20.0,), "t_end": 0.1}, "not known from 1e-20"),
    ("saddle-to-saddle", SADDLES | {"powers": (1e6,)}, None),
    ("matrix-completion", COMPLETE, "every entry is observed"),
]


def outcome(name, keys):
    """Return the titles of all figures, and the lines below the table."""
    result = load_scenario(name, keys).run(lambda stage, t_end: None)
    summary = plain(result.summary)
    drawn = plots.figures(result.dataset).values()
    titles = [" ".join(figure.get_suptitle().split()) for figure in drawn]
    return titles, [text for _, text in find_kind(summary).lines(summary)]


@pytest.mark.parametrize(("name", "keys", "why"), CASES)
def test_nothing_stands_in_place_of_a_number(name, keys, why):
    titles, lines = outcome(name, keys)
    assert titles
    for text in [*titles, *lines]:
        assert not _NO_NUMBER.search(text), text
    assert why is None or any(why in text for text in lines)


@pytest.mark.parametrize(
    ("keys", "grows"),
    [
        ({"loss_end": 0.1}, True),
        ({"t_end": 1e-5}, True),
        ({"init_scale": 1e4, "loss_end": 0.3}, False),
    ],
)
def test_title_and_line_agree_on_whether_the_entry_grows(keys, grows):
    titles, lines = outcome("two-by-two", {"depths": (2,), "points": 20, "rtol": 1e-4} | keys)
    assert ("entry grows" in titles[0]) == grows
    assert ("W11 grows" in lines[0]) == grows


def test_titles_claim_no_more_than_was_reached():
    titles, _ = outcome("kernel", {"samples": 5, "t_end": 1e-3, "points": 5})
    learned = next(title for title in titles if "learned" in title)
    assert "Half" not in learned
    small = {"samples": 4, "inputs": 2, "width": 3, "depth": 1, "t_end": 1.0, "points": 5}
    titles, _ = outcome("edge-of-stability", small)
    assert any("changes sides at 0 % of its steps" in title for title in titles)
