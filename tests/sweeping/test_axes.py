"""Axes: the values of a specification, and what is refused."""

import math

import pytest

from gflow.errors import InputError
from gflow.scenario import setting_model
from gflow.sweeping.axes import Axis, group_axes, make_axis

DEEP, WIDE = setting_model("deep-linear"), setting_model("wide-network")


@pytest.mark.parametrize(
    ("key", "spec", "values"),
    [
        ("depth", "2", (2,)),
        ("depth", "2, 3,5", (2, 3, 5)),
        ("depth", "2:5", (2, 3, 4, 5)),
        ("depth", "2:9:3", (2, 5, 8)),
        ("hidden-width", "log:128:2048:5", (128, 256, 512, 1024, 2048)),
        ("t_end", "1,2.5", (1.0, 2.5)),
        ("t_end", "lin:0.1:0.5:5", (0.1, 0.2, 0.3, 0.4, 0.5)),
        ("t_end", "log:1e-3:1:7", (0.001, 10**-2.5, 0.01, 10**-1.5, 0.1, 10**-0.5, 1.0)),
        ("t_end", "log:1:0.01:3", (1.0, 0.1, 0.01)),
        ("t_end", [1, 2.5], (1.0, 2.5)),
        ("data", "digits,openml:mnist_784", ("digits", "openml:mnist_784")),
        ("outputs", "single,all", ("single", "all")),
        ("estimate_error", "true,False", (True, False)),
    ],
)
def test_specification_is_expanded_to_its_values(key, spec, values):
    axis = make_axis(key, spec, DEEP)
    assert axis.key == key.replace("-", "_")
    assert [type(v) for v in axis.values] == [type(v) for v in values]
    if isinstance(values[0], float):
        assert all(
            math.isclose(a, b, rel_tol=1e-14) for a, b in zip(axis.values, values, strict=True)
        )
        assert (axis.values[0], axis.values[-1]) == (values[0], values[-1])  # the ends as given
    else:
        assert axis.values == values


def test_list_is_set_by_its_plural_and_swept_by_its_singular():
    assert make_axis("step_sizes", "0.5,0.25", DEEP) == Axis("step_sizes", ((0.5, 0.25),))
    swept = make_axis("step_size", "0.5,0.25", DEEP)
    assert swept.values == (0.5, 0.25)
    assert swept.changes(0.25) == {"step_sizes": (0.25,)}
    assert make_axis("width", "64,128", WIDE).changes(64) == {"widths": (64,)}
    assert make_axis("depth", "2,3", DEEP).changes(3) == {"depth": 3}


@pytest.mark.parametrize(
    ("key", "spec", "message"),
    [
        ("dpeth", "2", "did you mean 'depth'"),
        ("dept", "2", "did you mean 'depth'"),  # no singular of a number
        ("depth", "", "an integer"),
        ("depth", "2,,3", "an integer"),
        ("depth", "2.5", "an integer"),
        ("depth", "5:2", "must increase"),
        ("depth", "2:9:0", "must increase"),
        ("depth", "1:10000000000", "must increase"),
        ("depth", "2:b", "FIRST:LAST:STEP"),
        ("depth", "log:2:3:5", "values must differ, got 2 twice"),
        ("depth", "2,2", "values must differ, got 2 twice"),
        ("t_end", "log:0:1:5", "must be positive"),
        ("t_end", "log:1:10", "log:FIRST:LAST:COUNT"),
        ("t_end", "lin:1:inf:4", "lin:FIRST:LAST:COUNT"),
        ("t_end", "lin:1:2:1", "COUNT must be from 2"),
        ("t_end", "lin:1:2:3:4", "lin:FIRST:LAST:COUNT"),
        ("t_end", "x", "a number"),
        ("t_end", [], "values must not be empty"),
        ("t_end", [[1.0]], "must be a value or a list"),
        ("t_end", {"a": 1}, "must be a value or a list"),
        ("estimate_error", "yes", "true or false"),
    ],
)
def test_invalid_specifications_are_refused_in_one_line(key, spec, message):
    with pytest.raises(InputError, match=message) as caught:
        make_axis(key, spec, DEEP)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("zips", "message"),
    [
        ([["a", "d"]], "no axis 'd'"),
        ([["a", "b"]], "equally many values, got 2 of a, 1 of b"),
        ([["a", "c"], ["c", "a"]], "named once"),
        ([["a", "a"]], "named once"),
    ],
)
def test_invalid_zips_are_refused(zips, message):
    axes = [Axis("a", (1, 2)), Axis("b", (3,)), Axis("c", (5, 6))]
    with pytest.raises(InputError, match=message):
        group_axes(axes, zips)
