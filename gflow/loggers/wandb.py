"""``wandb``: a run of Weights & Biases; ``WANDB_MODE=offline`` keeps it on this machine."""

from __future__ import annotations

from collections.abc import Mapping

from gflow.loggers.base import LoggedRun, Logger


class WandB(Logger):
    """A run in the project that ``WANDB_PROJECT`` names, by default ``gflow``."""

    name = module = "wandb"

    def __init__(self, run: LoggedRun):
        import os

        import wandb

        project = os.environ.get("WANDB_PROJECT", "gflow")
        self._run = wandb.init(
            project=project, name=run.name, config=dict(run.config), dir=str(run.folder)
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log the numbers as one step."""
        self._run.log(dict(values), step=step)

    def finish(self, numbers: Mapping[str, float]) -> None:
        """Set the numbers as the run's summary."""
        self._run.summary.update(dict(numbers))
        self._run.finish()
