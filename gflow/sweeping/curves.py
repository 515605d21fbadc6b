"""Arrays of all runs of a sweep on one grid."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set

import numpy as np
import xarray as xr

from gflow.errors import InputError

#: Position of a run along the swept dimensions.
GridIndex = tuple[int, ...]
Values = dict[GridIndex, np.ndarray]

#: Bound for all curves together.
_MAX_BYTES = 2**30


def filled(shape: Sequence[int], values: Values) -> np.ndarray:
    """Return one array over the sweep, NaN where there is no run.

    Truth values stay truth values where no run is missing; else they are 1, 0 and NaN.

    Parameters
    ----------
    shape : sequence of int
        Lengths of the swept dimensions.
    values : dict of tuple of int to numpy.ndarray
        Arrays of one shape by position.

    Returns
    -------
    numpy.ndarray, shape (*shape, *one array's)

    Examples
    --------
    >>> filled((3,), {(1,): np.array(0.5)}).tolist()
    [nan, 0.5, nan]
    """
    first = next(iter(values.values()))
    kinds = {array.dtype.kind for array in values.values()}
    complete = len(values) == math.prod(shape)
    dtype = bool if kinds == {"b"} and complete else float
    full = np.full((*shape, *first.shape), np.nan).astype(dtype)
    for index, array in values.items():
        full[index] = array
    return full


class Curves:
    """The arrays of the runs' results, combined where they have one shape in all runs.

    Parameters
    ----------
    swept : set of str
        The swept keys.

    Attributes
    ----------
    last : mapping or None
        The variables of the run that was added last.

    Examples
    --------
    >>> curves, ds = Curves({"seed"}), xr.Dataset(coords={"seed": [0, 1]})
    >>> curves.add((1,), {"loss": xr.Variable("time", [3.0, 2.0])})
    >>> curves.add_to(ds, ("seed",), (2,))
    >>> ds["loss"].values.tolist()
    [[nan, nan], [3.0, 2.0]]
    """

    def __init__(self, swept: Set[str]):
        self._swept = swept
        self._curves: dict[str, tuple[xr.Variable, Values]] = {}
        self._uneven: set[str] = set()
        self.last: Mapping[str, xr.Variable] | None = None

    def add(self, index: GridIndex, result: Mapping[str, xr.Variable]) -> None:
        """Add the arrays of one run.

        Parameters
        ----------
        index : tuple of int
            Position of the run along the swept dimensions.
        result : mapping of str to xarray.Variable
            Dimensions that are swept too have one value each.
        """
        self.last = result
        for name, variable in result.items():
            curve = variable.squeeze(
                [d for d in variable.dims if d in self._swept and variable.sizes[d] == 1]
            )
            if curve.ndim:
                first, values = self._curves.setdefault(name, (curve, {}))
                values[index] = curve.values
                if first.sizes != curve.sizes or self._swept & set(curve.dims):
                    self._uneven.add(name)

    def add_to(self, ds: xr.Dataset, dims: tuple[str, ...], shape: tuple[int, ...]) -> None:
        """Add the curves to the sweep's dataset.

        Parameters
        ----------
        ds : xarray.Dataset
            Changed in place; its attribute ``left_out`` names arrays of several shapes.
        dims : tuple of str
            The swept dimensions.
        shape : tuple of int
            Their lengths.

        Raises
        ------
        InputError
            If the arrays are too large together.
        """
        remaining = _MAX_BYTES
        left_out = set(self._uneven)
        for name, (first, values) in self._curves.items():
            if name in self._uneven or name in ds.variables:
                continue
            if first.dims == (name,) and all(
                np.array_equal(v, first.values) for v in values.values()
            ):
                ds.coords[name] = first
                continue
            # A variable must not have the name of one of its dimensions.
            variable_name = f"{name}_values" if name in first.dims else name
            remaining -= math.prod(shape) * first.nbytes
            if remaining < 0:
                raise InputError(
                    f"the arrays of the runs must take at most {_MAX_BYTES} bytes together; load "
                    "the sweep with curves=False, or load single runs"
                )
            fits = all(ds.sizes.get(d, n) == n for d, n in first.sizes.items())
            fits = fits and not set(first.dims) & set(ds.data_vars) and variable_name not in ds.dims
            if not fits or first.dtype.kind not in "fiub":
                left_out.add(name)
                continue
            ds[variable_name] = ((*dims, *first.dims), filled(shape, values), first.attrs)
        if left_out:
            ds.attrs["left_out"] = ", ".join(sorted(left_out))
