"""Every kind of result is registered under its name, and declares the same attributes."""

import pkgutil

import pytest

import gflow.results
import gflow.studies
from gflow.errors import InputError
from gflow.results.base import Result
from gflow.results.registry import find_kind, result_kinds

KINDS = sorted(result_kinds().values(), key=lambda kind: kind.kind)


def test_every_kind_is_registered_once_in_the_file_of_its_name():
    modules = [kind.__module__.removeprefix("gflow.results.") for kind in KINDS]
    assert [kind.kind.replace("-", "_") for kind in KINDS] == modules


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_a_kind_has_the_name_of_its_study_and_implements_only_abstract_methods(kind):
    studies = {info.name for info in pkgutil.iter_modules(gflow.studies.__path__)}
    if kind.complete and kind.study_type is not None:
        assert kind.kind.replace("-", "_") in studies
    assert kind.__bases__ == (Result,)
    methods = {name for name, value in vars(kind).items() if isinstance(value, classmethod)}
    (constructor,) = methods - {"columns", "lines"}
    assert constructor.startswith("from_")
    assert bool(kind.rows_key) == bool(kind.row_label)


@pytest.mark.parametrize("summary", [{}, {"kind": 3}, {"kind": "Width"}, {"kind": ["width"]}])
def test_a_summary_without_a_known_kind_is_refused(summary):
    with pytest.raises(
        InputError, match=r"must name its kind, one of .*width, got .*; run"
    ) as info:
        find_kind(summary)
    assert "\n" not in str(info.value)
