"""Axes: what a specification stands for, and what is refused in one line."""

import math

import pytest

from gflow.errors import InputError
from gflow.scenario import setting_model
from gflow.sweeping.axes import Axis, axis, zipped

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
def test_specification_stands_for_its_values(key, spec, values):
    found = axis(key, spec, DEEP)
    assert found.key == key.replace("-", "_")
    assert [type(v) for v in found.values] == [type(v) for v in values]
    if isinstance(values[0], float):
        assert all(
            math.isclose(a, b, rel_tol=1e-14) for a, b in zip(found.values, values, strict=True)
        )
        assert (found.values[0], found.values[-1]) == (values[0], values[-1])  # the ends as given
    else:
        assert found.values == values


def test_a_list_is_set_whole_and_swept_by_its_singular():
    assert axis("step_sizes", "0.5,0.25", DEEP) == Axis("step_sizes", ((0.5, 0.25),))
    swept = axis("step_size", "0.5,0.25", DEEP)
    assert swept.values == (0.5, 0.25)
    assert swept.change(0.25) == {"step_sizes": (0.25,)}
    assert axis("width", "64,128", WIDE).change(64) == {"widths": (64,)}
    assert axis("depth", "2,3", DEEP).change(3) == {"depth": 3}


@pytest.mark.parametrize(
    ("key", "spec", "says"),
    [
        ("dpeth", "2", "did you mean 'depth'"),
        ("dept", "2", "did you mean 'depth'"),  # no singular of a number
        ("depth", "", "a whole number"),
        ("depth", "2,,3", "a whole number"),
        ("depth", "2.5", "a whole number"),
        ("depth", "5:2", "must rise"),
        ("depth", "2:9:0", "must rise"),
        ("depth", "1:10000000000", "must rise"),
        ("depth", "2:b", "FIRST:LAST:STEP"),
        ("depth", "log:2:3:5", "given once, got 2 twice"),
        ("depth", "2,2", "given once, got 2 twice"),
        ("t_end", "log:0:1:5", "must be positive"),
        ("t_end", "log:1:10", "log:FIRST:LAST:COUNT"),
        ("t_end", "lin:1:inf:4", "lin:FIRST:LAST:COUNT"),
        ("t_end", "lin:1:2:1", "COUNT must be from 2"),
        ("t_end", "lin:1:2:3:4", "lin:FIRST:LAST:COUNT"),
        ("t_end", "x", "a number"),
        ("t_end", [], "must have a value"),
        ("t_end", [[1.0]], "must be a value"),
        ("t_end", {"a": 1}, "must be a value"),
        ("estimate_error", "yes", "true or false"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(key, spec, says):
    with pytest.raises(InputError, match=says) as caught:
        axis(key, spec, DEEP)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("together", "says"),
    [
        ([["a", "d"]], "no axis 'd'"),
        ([["a", "b"]], "as many values each, got 2 of a, 1 of b"),
        ([["a", "c"], ["c", "a"]], "stand once"),
        ([["a", "a"]], "stand once"),
    ],
)
def test_zip_of_what_does_not_fit_is_told(together, says):
    axes = [Axis("a", (1, 2)), Axis("b", (3,)), Axis("c", (5, 6))]
    with pytest.raises(InputError, match=says):
        zipped(axes, together)
