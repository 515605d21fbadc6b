"""What a netCDF-4 file may be before anything in it is read: flat arrays that are all there.

HDF5 can do more than a run needs, and somebody else's file would do it unasked: links and
arrays that lie in other files of the reader's disk, filters that inflate a kilobyte to gigabytes
or load a library, sizes declared without a byte behind them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gflow.io.plain import require_plain_file

if TYPE_CHECKING:
    import h5py

_PLAIN = "biuf"
_NO_VARIABLE = b"This is a netCDF dimension but not a netCDF variable"  # a length alone


def require_plain_arrays(path: Path, most: int) -> None:
    """Raise ValueError unless a file is one group of arrays whose bytes it holds itself.

    Arrays of numbers, contiguous and unfiltered, and lists of strings; everything declared is no
    larger than the file. The message says why not, without the file's name.

    Parameters
    ----------
    path : Path
    most : int
        Bytes that the file may have.

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
    ValueError: 'loss' is a link and no array
    """
    import h5py

    require_plain_file(path)
    size = path.stat().st_size
    if size > most:
        raise ValueError(f"it is over {most} bytes")
    with h5py.File(path, "r") as file:
        room = size - _attributes(file)
        for name in file:
            if not isinstance(file.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"{name!r} is a link and no array")
            item = file[name]
            if not isinstance(item, h5py.Dataset):
                raise ValueError(f"{name!r} is no array")
            room -= _attributes(item) + _array(name, item, room)
            if room < 0:
                raise ValueError(f"it declares more than its {size} bytes")


def _array(name: str, item: h5py.Dataset, room: int) -> int:
    """The bytes that an array takes, after checks of how it is stored."""
    import h5py

    if item.size == 0 or bytes(item.attrs.get("NAME", b"")).startswith(_NO_VARIABLE):
        return 0  # nothing is read of it
    made = item.id.get_create_plist()
    if made.get_layout() not in (h5py.h5d.CONTIGUOUS, h5py.h5d.COMPACT):
        raise ValueError(f"{name!r} is chunked, compressed or put together from elsewhere")
    if made.get_external_count():
        raise ValueError(f"{name!r} lies in another file")
    if item.dtype.kind in _PLAIN:
        if item.id.get_storage_size() < item.nbytes:
            raise ValueError(f"{name!r} declares {item.nbytes} bytes that are not there")
        return item.nbytes
    if h5py.check_string_dtype(item.dtype) is None:
        raise ValueError(f"{name!r} holds {item.dtype} and no numbers")
    if item.ndim != 1:
        raise ValueError(f"{name!r} is no list of strings")
    taken = 0
    for index in range(item.size):  # many may be one and the same long string
        taken += 1 + len(item[index])
        if taken > room:
            break
    return taken


def _attributes(item: h5py.Group | h5py.Dataset) -> int:
    """The bytes that the attributes of an item take."""
    import h5py

    return sum(
        h5py.h5a.open(item.id, index=i).get_storage_size()
        for i in range(h5py.h5a.get_num_attrs(item.id))
    )
