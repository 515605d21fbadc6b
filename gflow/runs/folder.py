"""The folder of a run while it is written; each of its files is complete or absent.

``manifest.json`` (state, resolved scenario, versions, command line) and ``scenario.toml`` exist
from the start, ``metrics.jsonl`` and the checkpoints while the run lasts, then ``result.nc``
(labelled arrays, which ``xarray.open_dataset`` opens), ``summary.json`` and ``figures/``. A file is
written under a temporary name, flushed to disk, and renamed. The process that writes holds a lock
on ``metrics.jsonl``. Loading never runs code.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from gflow.errors import InputError, OutputError
from gflow.io.atomic import Folder, cannot_write
from gflow.io.locks import try_lock
from gflow.runs.reading import MANIFEST, METRICS, read_manifest
from gflow.text import plain

_NO_LINKS = ("parts", "figures", METRICS)  # a link here could lead out of a foreign folder


class RunFolder(Folder):
    """The folder of a run while it is written.

    Parameters
    ----------
    path : Path
        A folder that does not exist, and is made here, or is empty.

    Raises
    ------
    InputError
        If the folder cannot be made or written, or is not empty.
    """

    def __init__(self, path: Path):
        self.path = path
        self._metrics: IO[bytes] | None = None
        self._made = [p for p in (path, *path.parents) if not os.path.lexists(p)]
        try:
            path.mkdir(parents=True, exist_ok=True)
            occupied = any(not _is_leftover(file) for file in path.iterdir())
            with tempfile.TemporaryFile(dir=path):
                pass
        except OSError as error:
            self._remove_made()
            raise InputError(
                f"cannot write the output folder {path}: {error.strerror}; choose another --output"
            ) from None
        if occupied:
            raise InputError(f"the output folder {path} is not empty; choose another --output")

    @classmethod
    def reopen(cls, path: Path) -> RunFolder:
        """Open the folder of an interrupted run, and lock it.

        Raises
        ------
        InputError
            If it holds no run, it contains links, or another process writes it.
        """
        read_manifest(path)
        links = [name for name in _NO_LINKS if (path / name).is_symlink()]
        if links:
            raise InputError(
                f"{path / links[0]} must be a plain file or folder, got a link; remove it"
            )
        metrics = path / METRICS
        if metrics.exists() and not metrics.is_file():  # a pipe would wait for a reader
            raise InputError(f"{metrics} must be a plain file; remove it")
        folder = cls.__new__(cls)
        folder.path, folder._made, folder._metrics = path, [], None
        folder._lock()
        for place in (path, path / "parts", path / "figures"):
            # Of a process that was killed while it wrote; the second kind is safetensors' own.
            for temporary in (*place.glob(".*.part"), *place.glob(".tmp??????")):
                with contextlib.suppress(OSError):  # `write` reports what is wrong with it
                    temporary.unlink()
        return folder

    def begin(self, manifest: Mapping[str, Any], scenario: str) -> None:
        """Write the files from which a run can be resumed, and lock the folder until `close`."""
        self._lock()
        self.write_json(MANIFEST, manifest)
        self.write_text("scenario.toml", scenario)

    def _lock(self) -> None:
        try:
            self._metrics = (self.path / METRICS).open("ab")
        except OSError as error:
            raise InputError(
                f"cannot write {self.path / METRICS}: {error.strerror}; check its permissions"
            ) from None
        if not try_lock(self._metrics, exclusive=True):
            self.close()
            raise InputError(
                f"another process is writing the run in {self.path}; wait until it ends"
            )

    def close(self) -> None:
        """Release the lock on the folder."""
        if self._metrics is not None:
            self._metrics.close()
            self._metrics = None

    def add_metrics(self, values: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl."""
        if self._metrics is None:
            return
        try:
            self._metrics.write(json.dumps(plain(values)).encode() + b"\n")
            self._metrics.flush()
        except OSError as error:
            raise OutputError(cannot_write(self.path / METRICS, error)) from None

    def discard(self) -> None:
        """Remove the folder of a run that stored nothing, and the parents made for it."""
        self.close()
        for name in (MANIFEST, "scenario.toml", METRICS):
            with contextlib.suppress(OSError):
                (self.path / name).unlink()
        self._remove_made()

    def _remove_made(self) -> None:
        for folder in self._made:  # rmdir refuses a folder that is not empty
            with contextlib.suppress(OSError):
                folder.rmdir()


def _is_leftover(file: Path) -> bool:
    """Return whether a file may be left by a run that was killed when it began."""
    if file.name == METRICS:
        return not file.is_symlink() and file.stat().st_size == 0
    return file.name.startswith(".") and file.name.endswith(".part")
