"""netCDF-4 files of labelled arrays, written and read with h5py alone.

What is written is what xarray would write (its own encoding, the dimension scales of HDF5 that
netCDF-4 is made of), and opens with ``xarray.open_dataset``; a small file takes a tenth of
the time that it takes through h5netcdf, which looks every dimension up again for every variable.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import h5py
    import xarray as xr

_BARE = "This is a netCDF dimension but not a netCDF variable."  # and its size, in 10 places


def write(dataset: xr.Dataset, path: Path) -> None:
    """Write labelled arrays as one new netCDF-4 file.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    import h5py
    from xarray.conventions import cf_encoder, encode_dataset_coordinates

    variables, attributes = cf_encoder(*encode_dataset_coordinates(dataset))
    # In memory first: of a disk that is full HDF5 has more to say than an OSError. The name is a
    # label there, under which HDF5 opens one file at a time in a process.
    memory = {"driver": "core", "backing_store": False}
    with h5py.File(
        uuid.uuid4().hex, "w", track_order=True, **memory
    ) as file:  # netCDF asks for the order
        for i, (name, size) in enumerate(dataset.sizes.items()):
            if name in variables:
                scale = _put(file, str(name), variables[name])
                scale.make_scale(str(name))
            else:
                scale = file.create_dataset(str(name), shape=(size,), dtype=">f4", track_order=True)
                scale.make_scale(f"{_BARE}{size:10}")
            scale.attrs["_Netcdf4Dimid"] = np.int32(i)
        for name, variable in variables.items():
            if name not in dataset.sizes:
                found = _put(file, str(name), variable)
                for axis, dim in enumerate(variable.dims):
                    found.dims[axis].attach_scale(file[str(dim)])
        file.attrs.update({str(k): _attribute(v) for k, v in attributes.items()})
        file.flush()
        path.write_bytes(file.id.get_file_image())


def _put(file: h5py.File, name: str, variable: xr.Variable) -> h5py.Dataset:
    import h5py

    values = np.asarray(variable.values)
    text = values.dtype.kind in "OUS"
    kind = h5py.string_dtype() if text else values.dtype
    found = file.create_dataset(
        name, data=values.astype(object) if text else values, dtype=kind, track_order=True
    )
    found.attrs.update({str(k): _attribute(v) for k, v in variable.attrs.items()})
    return found


def _attribute(value: Any) -> Any:
    return value if isinstance(value, str) else np.atleast_1d(value)


def read_variables(
    path: Path, like: Mapping[str, xr.Variable] | None = None
) -> dict[str, xr.Variable]:
    """The arrays of numbers in a file that `write` made, at their face value.

    `gflow.io.netcdf_check.require_plain_arrays` is for somebody else's file to pass first.
    ``like``, the variables of a file of the same kind, saves to look up the dimensions and
    attributes of those that have the same name and shape.

    Raises
    ------
    OSError, KeyError, TypeError
        If it is no such file.
    """
    import h5py
    import xarray as xr

    found = {}
    with h5py.File(path, "r") as file:
        for name in file:
            array = file[name]
            known = None if like is None else like.get(name)
            if known is not None and known.shape == array.shape:
                found[name] = xr.Variable(known.dims, array[()], known.attrs, fastpath=True)
                continue
            own = h5py.h5ds.is_scale(array.id)
            if array.dtype.kind not in "fiub" or (own and _BARE in str(array.attrs["NAME"])):
                continue
            attributes = {k: array.attrs[k] for k in ("long_name", "units") if k in array.attrs}
            refs = [] if own or not array.ndim else array.attrs["DIMENSION_LIST"]
            dims = [name] if own else [file[ref[0]].name[1:] for ref in refs]
            found[name] = xr.Variable(dims, array[()], attributes)
    return found
