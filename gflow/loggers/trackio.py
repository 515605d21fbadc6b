"""``trackio``: a run in the local database of trackio."""

from __future__ import annotations

from collections.abc import Mapping

from gflow.loggers.base import LoggedRun, Logger


class Trackio(Logger):
    """A run in trackio's project ``gflow``; ``trackio show`` opens it."""

    name = module = "trackio"

    def __init__(self, run: LoggedRun):
        import trackio

        self._run = trackio.init(project="gflow", name=run.name, config=dict(run.config))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log the numbers as one step."""
        self._run.log(dict(values), step=step)

    def finish(self, numbers: Mapping[str, float]) -> None:
        """Log the numbers of the summary."""
        self._run.log({f"summary/{name}": float(value) for name, value in numbers.items()})
        self._run.finish()
