"""netCDF-4 files of labelled arrays: written, checked and read with h5py alone.

`write` writes what xarray would write (its own encoding, and the HDF5 dimension scales of which
netCDF-4 consists), so ``xarray.open_dataset`` opens the file. For a run's result of about 20 arrays
it takes a fifth of the time of ``Dataset.to_netcdf`` through h5netcdf (18 ms instead of 95), and
`read_variables` a fifth of reading: h5netcdf looks up every dimension again for every variable. One
array of 80 MB takes longer (240 ms instead of 70), because the file is made in memory first.
``benchmarks/netcdf.py`` measures this.

A result may have been made by anybody, and HDF5 can do more than a run needs: links and arrays that
lie in other files on the reader's disk, filters that inflate a kilobyte to gigabytes or load a
library, declared sizes without a byte behind them. `require_plain_arrays` refuses all of these
before anything is read.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gflow.io.plain import require_plain_file

if TYPE_CHECKING:
    import h5py
    import xarray as xr

_NUMBERS = "biuf"  # NumPy's kinds of dtypes
#: How netCDF marks a dimension that is only a length; its size follows, in 10 characters.
_LENGTH_ONLY = "This is a netCDF dimension but not a netCDF variable."


def write(dataset: xr.Dataset, path: Path) -> None:
    """Write labelled arrays as one new netCDF-4 file.

    Parameters
    ----------
    dataset : xarray.Dataset
    path : Path

    Raises
    ------
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> import xarray as xr
    >>> dataset = xr.Dataset({"loss": ("time", [2.0, 1.0])})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(dataset, Path(folder, "result.nc"))
    ...     xr.load_dataset(Path(folder, "result.nc")).identical(dataset)
    True
    """
    import h5py
    from xarray.conventions import cf_encoder, encode_dataset_coordinates

    variables, attributes = cf_encoder(*encode_dataset_coordinates(dataset))
    # In memory first: on a full disk HDF5 raises more than an OSError. The file's name is a label
    # only, and must be unique in the process. netCDF requires the order of creation.
    memory = {"driver": "core", "backing_store": False, "track_order": True}
    with h5py.File(uuid.uuid4().hex, "w", **memory) as file:
        for i, (name, size) in enumerate(dataset.sizes.items()):
            if name in variables:
                scale = _create(file, str(name), variables[name])
                scale.make_scale(str(name))
            else:
                scale = file.create_dataset(str(name), shape=(size,), dtype=">f4", track_order=True)
                scale.make_scale(f"{_LENGTH_ONLY}{size:10}")
            scale.attrs["_Netcdf4Dimid"] = np.int32(i)
        for name, variable in variables.items():
            if name not in dataset.sizes:
                array = _create(file, str(name), variable)
                for axis, dim in enumerate(variable.dims):
                    array.dims[axis].attach_scale(file[str(dim)])
        file.attrs.update({str(k): _attribute(v) for k, v in attributes.items()})
        file.flush()
        path.write_bytes(file.id.get_file_image())


def _create(file: h5py.File, name: str, variable: xr.Variable) -> h5py.Dataset:
    import h5py

    values = np.asarray(variable.values)
    is_text = values.dtype.kind in "OUS"
    dtype = h5py.string_dtype() if is_text else values.dtype
    array = file.create_dataset(
        name, data=values.astype(object) if is_text else values, dtype=dtype, track_order=True
    )
    array.attrs.update({str(k): _attribute(v) for k, v in variable.attrs.items()})
    return array


def _attribute(value: Any) -> Any:
    return value if isinstance(value, str) else np.atleast_1d(value)


def read_variables(
    path: Path, like: Mapping[str, xr.Variable] | None = None
) -> dict[str, xr.Variable]:
    """Read the numeric arrays of a file that `write` made, without decoding.

    Call `require_plain_arrays` first: anybody may have made the file.

    Parameters
    ----------
    path : Path
    like : mapping of str to xarray.Variable, optional
        The variables of a similar file. An array of the same name and shape gets their dimensions
        and attributes, which saves looking them up.

    Returns
    -------
    dict of str to xarray.Variable

    Raises
    ------
    OSError, KeyError, TypeError
        If it is not such a file.

    Examples
    --------
    >>> import tempfile
    >>> import xarray as xr
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(xr.Dataset({"loss": ("time", [2.0, 1.0])}), Path(folder, "result.nc"))
    ...     read_variables(Path(folder, "result.nc"))["loss"].values
    array([2., 1.])
    """
    import h5py
    import xarray as xr

    variables = {}
    with h5py.File(path, "r") as file:
        for name in file:
            array = file[name]
            known = None if like is None else like.get(name)
            if known is not None and known.shape == array.shape:
                variables[name] = xr.Variable(known.dims, array[()], known.attrs, fastpath=True)
                continue
            is_scale = h5py.h5ds.is_scale(array.id)
            if array.dtype.kind not in _NUMBERS:
                continue
            if is_scale and _LENGTH_ONLY in str(array.attrs["NAME"]):
                continue
            attributes = {k: array.attrs[k] for k in ("long_name", "units") if k in array.attrs}
            scales = [] if is_scale or not array.ndim else array.attrs["DIMENSION_LIST"]
            dims = [name] if is_scale else [file[scale[0]].name[1:] for scale in scales]
            variables[name] = xr.Variable(dims, array[()], attributes)
    return variables


def require_plain_arrays(path: Path, max_bytes: int) -> None:
    """Raise ValueError unless a file is one group of arrays that it stores itself.

    Allowed are contiguous, unfiltered arrays of numbers, and lists of strings, which together
    declare no more than the file's size. The message gives the reason, without the file's name.

    Parameters
    ----------
    path : Path
    max_bytes : int
        The size that the file may have.

    Raises
    ------
    ValueError
        If the file is something else.
    OSError
        If HDF5 cannot read it.

    Examples
    --------
    >>> import h5py, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with h5py.File(f"{folder}/result.nc", "w") as file:
    ...         file["loss"] = h5py.ExternalLink("/home/me/mine.nc", "loss")
    ...     require_plain_arrays(Path(folder, "result.nc"), 1_000)
    Traceback (most recent call last):
        ...
    ValueError: 'loss' is a link, not an array
    """
    import h5py

    require_plain_file(path)
    size = path.stat().st_size
    if size > max_bytes:
        raise ValueError(f"it is over {max_bytes} bytes")
    with h5py.File(path, "r") as file:
        available = size - _attribute_bytes(file)
        for name in file:
            if not isinstance(file.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"{name!r} is a link, not an array")
            item = file[name]
            if not isinstance(item, h5py.Dataset):
                raise ValueError(f"{name!r} is not an array")
            available -= _attribute_bytes(item) + _array_bytes(name, item, available)
            if available < 0:
                raise ValueError(f"it declares more than its {size} bytes")


def _array_bytes(name: str, array: h5py.Dataset, available: int) -> int:
    """Return the bytes that an array takes, after checks of how it is stored."""
    import h5py

    mark = bytes(array.attrs.get("NAME", b""))
    if array.size == 0 or mark.startswith(_LENGTH_ONLY.encode()[:-1]):
        return 0  # nothing of it is read
    layout = array.id.get_create_plist()
    if layout.get_layout() not in (h5py.h5d.CONTIGUOUS, h5py.h5d.COMPACT):
        raise ValueError(f"{name!r} is chunked, compressed or virtual")
    if layout.get_external_count():
        raise ValueError(f"{name!r} is stored in another file")
    if array.dtype.kind in _NUMBERS:
        if array.id.get_storage_size() < array.nbytes:
            raise ValueError(f"{name!r} declares {array.nbytes} bytes that the file does not hold")
        return array.nbytes
    if h5py.check_string_dtype(array.dtype) is None:
        raise ValueError(f"{name!r} holds {array.dtype}, not numbers")
    if array.ndim != 1:
        raise ValueError(f"{name!r} is not a list of strings")
    taken = 0
    for index in range(array.size):  # many entries may be one and the same long string
        taken += 1 + len(array[index])
        if taken > available:
            break
    return taken


def _attribute_bytes(item: h5py.Group | h5py.Dataset) -> int:
    """Return the bytes that the attributes of an item take."""
    import h5py

    return sum(
        h5py.h5a.open(item.id, index=i).get_storage_size()
        for i in range(h5py.h5a.get_num_attrs(item.id))
    )
