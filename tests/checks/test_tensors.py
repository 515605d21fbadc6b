"""Checks of tensors: values that pass, and the one-line errors of those that do not."""

import math

import numpy as np
import pytest
import torch

from gflow.checks import (
    require_dtype_and_device,
    require_finite,
    require_float,
    require_nonempty,
    require_single_start,
    require_table,
    require_tensor,
    require_times,
)
from gflow.errors import InputError

ONES = torch.ones(2, 3)


@pytest.mark.parametrize(
    ("check", "arguments"),
    [
        (require_nonempty, ("x", torch.tensor(0.0))),
        (require_finite, ("x", ONES)),
        (require_finite, ("x", ONES.long())),
        (require_dtype_and_device, ("x", ONES, torch.zeros(0), "H")),
        (require_single_start, ("a study", ONES, 2)),
        (require_table, ("inputs", np.ones((1, 2)))),
        (require_table, ("inputs", np.ones((1, 0)))),
    ],
)
def test_valid_values_pass(check, arguments):
    assert check(*arguments) is None


@pytest.mark.parametrize(
    "array", [np.arange(3.0), np.arange(3.0)[::-1], np.arange(3, dtype=">f4"), np.float64(2.0)]
)
def test_arrays_become_tensors(array):
    tensor = require_float("x", array)
    assert tensor.tolist() == array.tolist()
    assert tensor.element_size() == array.dtype.itemsize
    assert require_float("x", tensor) is tensor


@pytest.mark.parametrize(
    ("check", "arguments", "message"),
    [
        (
            require_float,
            ("x", [1.0]),
            "x must be a floating-point tensor, got list; use torch.tensor",
        ),
        (
            require_float,
            ("x", None),
            "x must be a floating-point tensor, got NoneType; use torch.tensor",
        ),
        (
            require_float,
            ("x", ONES.long()),
            "x must be a floating-point tensor, got torch.int64; use x.double()",
        ),
        (
            require_float,
            ("x", ONES + 1j),
            "x must be a floating-point tensor, got torch.complex64; use x.double()",
        ),
        (
            require_float,
            ("x", np.ones(2, int)),
            "x must be a floating-point tensor, got int64; use x.astype(float)",
        ),
        (
            require_float,
            ("x", ONES.to_sparse()),
            "x must be a floating-point tensor, got a sparse one; use x.to_dense()",
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
    ],
)
def test_invalid_values_raise_in_one_line(check, arguments, message):
    with pytest.raises(InputError) as caught:
        check(*arguments)
    assert str(caught.value) == message


@pytest.mark.parametrize("array", [np.arange(3), np.array([True, False]), np.ones(2)[::-1]])
def test_tensors_of_any_numbers_pass(array):
    assert require_tensor("mask", array).tolist() == array.tolist()


@pytest.mark.parametrize(
    ("check", "arguments", "message"),
    [
        (require_tensor, ("mask", [True]), "mask must be a tensor of numbers, got [True]; convert"),
        (
            require_tensor,
            ("mask", np.array("x")),
            "must be a tensor of numbers, got x; convert",
        ),
        (require_tensor, ("mask", ONES.to_sparse()), "got a sparse one"),
        (require_times, ([-1.0],), "times must be at least 0, got -1; count from 0"),
        (require_times, ([math.nan],), "times must be finite"),
        (require_times, (1.0,), "times must be a sequence of numbers, got 1.0; write [0.0, 1.0]"),
        (require_times, (ONES,), "times must have one dimension"),
        (require_table, ("inputs", [[1.0]]), "inputs must be a NumPy array of numbers, got list"),
        (require_table, ("x", np.array([["a"]])), "x must be a NumPy array of numbers, got one of"),
    ],
)
def test_the_message_says_what_to_do(check, arguments, message):
    with pytest.raises(InputError) as caught:
        check(*arguments)
    assert message in str(caught.value)
