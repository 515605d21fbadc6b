"""Runs on disk: one folder a run, each file whole or absent.

``manifest.json`` (state, resolved scenario, versions, command line) and ``scenario.toml`` are
there from the start, ``metrics.jsonl`` and the checkpoints while the run goes on, then
``result.nc`` (labelled arrays, opens with ``xarray.open_dataset``), ``summary.json`` and
``figures/``. A file is written beside its place, flushed to disk, and renamed. The process that
writes holds a lock on ``metrics.jsonl``. Loading never runs code.
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

_LINKS = ("parts", "figures", METRICS)  # through which a folder made by others could lead outside


class RunFolder(Folder):
    """A run's folder while it is written.

    Parameters
    ----------
    path : Path
        The run's own folder; made here, refused if it exists and is not empty.

    Raises
    ------
    InputError
        If the folder cannot be made or written, or holds something.
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
    def again(cls, path: Path) -> RunFolder:
        """The folder of a run that was begun, to go on with it.

        Raises
        ------
        InputError
            If there is no run, it is not a folder of its own, or another process writes it.
        """
        read_manifest(path)
        linked = [name for name in _LINKS if (path / name).is_symlink()]
        if linked:
            raise InputError(f"{path / linked[0]} must not be a link: it may lead anywhere")
        metrics = path / METRICS
        if metrics.exists() and not metrics.is_file():  # a pipe would wait for a reader
            raise InputError(f"{metrics} must be a plain file")
        folder = cls.__new__(cls)
        folder.path, folder._made, folder._metrics = path, [], None
        folder._lock()
        for place in (path, path / "parts", path / "figures"):
            # By a process that was killed as it wrote; safetensors has such a file of its own.
            for left in (*place.glob(".*.part"), *place.glob(".tmp??????")):
                with contextlib.suppress(OSError):  # `write` says what is wrong with it
                    left.unlink()
        return folder

    def begin(self, manifest: Mapping[str, Any], scenario: str) -> None:
        """Write what a run can be started again from, and hold the folder until `close`."""
        self._lock()
        self.write_json(MANIFEST, manifest)
        self.write_text("scenario.toml", scenario)

    def _lock(self) -> None:
        try:
            self._metrics = (self.path / METRICS).open("ab")
        except OSError as error:
            raise InputError(f"cannot write {self.path / METRICS}: {error.strerror}") from None
        if not try_lock(self._metrics, alone=True):
            self.close()
            raise InputError(f"the run in {self.path} is being written by another process")

    def close(self) -> None:
        """Let go of the folder."""
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
        """Remove the folder, and parents made for it, where no work was kept."""
        self.close()
        for name in (MANIFEST, "scenario.toml", METRICS):
            with contextlib.suppress(OSError):
                (self.path / name).unlink()
        self._remove_made()

    def _remove_made(self) -> None:
        for folder in self._made:  # rmdir refuses one that holds something
            with contextlib.suppress(OSError):
                folder.rmdir()


def _is_leftover(file: Path) -> bool:
    """Whether a run that was killed as it began left a file."""
    if file.name == METRICS:
        return not file.is_symlink() and file.stat().st_size == 0
    return file.name.startswith(".") and file.name.endswith(".part")
