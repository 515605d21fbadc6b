"""What a logger does, and how runs call it.

A logger is made when a run starts, gets the time and the loss of flow and descent about once a
second, and the numbers of the summary at the end. An error in it must not end a run: it is reported
once, and the logger is not called again.
"""

from __future__ import annotations

import abc
import importlib
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from gflow.discovery import concrete_classes
from gflow.errors import InputError
from gflow.text import one_line, unknown


@dataclass(frozen=True)
class LoggedRun:
    """What a logger may want to know of a run.

    Attributes
    ----------
    name : str
        The scenario's name and the folder's.
    folder : Path
    config : mapping
        All keys of the scenario.
    """

    name: str
    folder: Path
    config: Mapping[str, Any]


class Logger(abc.ABC):
    """The log of one run in another tool.

    Parameters
    ----------
    run : LoggedRun
    """

    #: By which ``--log`` knows it; also the extra that installs it.
    name: ClassVar[str]
    #: The module that must be importable.
    module: ClassVar[str]

    @abc.abstractmethod
    def __init__(self, run: LoggedRun): ...

    @abc.abstractmethod
    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log numbers, such as ``flow/t`` and ``flow/loss``; steps count the calls from 1 on."""

    @abc.abstractmethod
    def finish(self, numbers: Mapping[str, float]) -> None:
        """Log the numbers of the summary, none where the run has not finished, and close."""


def loggers() -> dict[str, type[Logger]]:
    """Return every logger by its name: the concrete classes in the files of this folder.

    Examples
    --------
    >>> sorted(loggers())
    ['mlflow', 'tensorboard', 'trackio', 'wandb']
    """
    return {kind.name: kind for kind in concrete_classes("gflow.loggers", Logger)}


def find_loggers(names: Iterable[str]) -> list[type[Logger]]:
    """Return loggers by their names.

    Raises
    ------
    InputError
        If there is none of a name, or its package is not installed.

    Examples
    --------
    >>> find_loggers(["tensorbord"])
    Traceback (most recent call last):
        ...
    gflow.errors.InputError: there is no logger 'tensorbord'; did you mean 'tensorboard'?
    """
    known, found = loggers(), []
    for name in dict.fromkeys(names):
        if name not in known:
            raise InputError(unknown("logger", name, known))
        try:
            importlib.import_module(known[name].module)
        except ImportError:
            raise InputError(
                f"--log {name} needs the package {name}; run: pip install 'gflow-ode[{name}]'"
            ) from None
        found.append(known[name])
    return found


class RunLog:
    """The loggers of a run, whose errors are warnings.

    Parameters
    ----------
    kinds : iterable of type
    run : LoggedRun

    Warns
    -----
    UserWarning
        Once for a logger that fails.
    """

    def __init__(self, kinds: Iterable[type[Logger]], run: LoggedRun):
        self._loggers: list[Logger] = []
        self._steps = 0
        for kind in kinds:
            try:
                self._loggers.append(kind(run))
            except Exception as error:  # of another package, which may raise anything
                _warn(kind, error)

    def log(self, stage: str, t: float, loss: float) -> None:
        """Log the time and the loss of a stage."""
        self._steps += 1
        values = {f"{stage}/t": t, f"{stage}/loss": loss}
        self._call(lambda logger: logger.log(self._steps, values))

    def finish(self, numbers: Mapping[str, float]) -> None:
        """Log the numbers of the summary, and close all loggers."""
        self._call(lambda logger: logger.finish(numbers))
        self._loggers = []

    def _call(self, do: Any) -> None:
        for logger in list(self._loggers):
            try:
                do(logger)
            except Exception as error:  # as above
                self._loggers.remove(logger)
                _warn(type(logger), error)


def _warn(kind: type[Logger], error: Exception) -> None:
    text = f"the logger {kind.name} failed and is not used any more: {one_line(error)}"
    warnings.warn(text, stacklevel=4)
