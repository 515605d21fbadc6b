"""Checks of arguments: values that pass, and the one-line errors of those that do not."""

import math

import numpy as np
import pytest
import torch

from gflow.checks import (
    require_count,
    require_dtype_and_device,
    require_finite,
    require_float,
    require_fraction,
    require_nonempty,
    require_positive,
    require_single_start,
    require_table,
)
from gflow.errors import InputError

ONES = torch.ones(2, 3)


@pytest.mark.parametrize(
    ("check", "arguments"),
    [
        (require_float, ("x", ONES)),
        (require_float, ("x", ONES.half())),
        (require_nonempty, ("x", torch.tensor(0.0))),
        (require_finite, ("x", ONES)),
        (require_finite, ("x", ONES.long())),
        (require_dtype_and_device, ("x", ONES, torch.zeros(0), "H")),
        (require_single_start, ("a study", ONES, 2)),
        (require_table, ("inputs", np.ones((1, 2)))),
        (require_table, ("inputs", np.ones((1, 0)))),
        (require_count, ("depth", 1)),
        (require_count, ("depth", np.int64(1))),
        (require_count, ("steps", 0, 0)),
        (require_positive, ("rate", 1)),
        (require_positive, ("rate", np.float32(1e-30))),
        (require_fraction, ("momentum", 0)),
        (require_fraction, ("momentum", 1 - 1e-16)),
    ],
)
def test_valid_values_pass(check, arguments):
    assert check(*arguments) is None


@pytest.mark.parametrize(
    ("check", "arguments", "message"),
    [
        (require_float, ("x", [1.0]), "x must be a floating-point tensor, got list; convert it"),
        (require_float, ("x", None), "x must be a floating-point tensor, got NoneType; convert it"),
        (
            require_float,
            ("x", ONES.long()),
            "x must be a floating-point tensor, got torch.int64; convert it",
        ),
        (
            require_float,
            ("x", ONES + 1j),
            "x must be a floating-point tensor, got torch.complex64; convert it",
        ),
        (
            require_nonempty,
            ("x", ONES[:, :0]),
            "x must not be empty, got shape (2, 0); add entries",
        ),
        (
            require_finite,
            ("x", torch.tensor([1.0, math.nan, -math.inf])),
            "x must be finite, but 2 of 3 entries are NaN or infinite; remove or fill them first",
        ),
        (
            require_dtype_and_device,
            ("x", ONES, ONES.double(), "H"),
            "x must have the dtype and device of H, torch.float64 on cpu, got torch.float32 on "
            "cpu; convert one with .to(...)",
        ),
        (
            require_dtype_and_device,
            ("x", ONES.to("meta"), ONES, "H"),
            "x must have the dtype and device of H, torch.float32 on cpu, got torch.float32 on "
            "meta; convert one with .to(...)",
        ),
        (
            require_single_start,
            ("a study", ONES, 1),
            "a study takes one start, got an ensemble of shape (2, 3); pass one",
        ),
        (
            require_table,
            ("inputs", np.ones(3)),
            "inputs must be a matrix with one sample a row, got shape (3,); "
            "reshape to (samples, -1) first",
        ),
        (
            require_table,
            ("inputs", np.ones((0, 2))),
            "inputs must not be empty, got shape (0, 2); add samples",
        ),
        (
            require_table,
            ("inputs", np.array([[1.0, 2.0], [3.0, np.inf]])),
            "inputs must be finite, got inf at row 1, column 1 (counted from 0; 1 such entries); "
            "remove or fill them first",
        ),
        (require_count, ("depth", 0), "depth must be a whole number of at least 1, got 0"),
        (require_count, ("depth", 1.0), "depth must be a whole number of at least 1, got 1.0"),
        (require_count, ("depth", True), "depth must be a whole number of at least 1, got True"),
        (require_count, ("depth", "2"), "depth must be a whole number of at least 1, got '2'"),
        (require_count, ("steps", -1, 0), "steps must be a whole number of at least 0, got -1"),
        (require_positive, ("rate", 0.0), "rate must be a positive number, got 0.0"),
        (require_positive, ("rate", -1), "rate must be a positive number, got -1"),
        (require_positive, ("rate", math.inf), "rate must be a positive number, got inf"),
        (require_positive, ("rate", math.nan), "rate must be a positive number, got nan"),
        (require_fraction, ("momentum", 1), "momentum must be at least 0 and below 1, got 1"),
        (require_fraction, ("momentum", -0.1), "momentum must be at least 0 and below 1, got -0.1"),
        (
            require_fraction,
            ("momentum", math.nan),
            "momentum must be at least 0 and below 1, got nan",
        ),
    ],
)
def test_invalid_values_raise_in_one_line(check, arguments, message):
    with pytest.raises(InputError) as caught:
        check(*arguments)
    assert str(caught.value) == message
