"""A small data set with classes, and a check that an error is one line."""

import numpy as np
import pytest

from gflow.data import Data
from gflow.errors import InputError


def refused(line, function, *args, **kwargs):
    with pytest.raises(InputError, match=line) as caught:
        function(*args, **kwargs)
    assert "\n" not in str(caught.value)


def three_classes() -> Data:
    return Data(
        "it",
        np.arange(10.0).reshape(5, 2),
        np.array([[0.0], [2.0], [1.0], [2.0], [0.0]]),
        ("a", "b", "c"),
        ("x0", "x1"),
    )
