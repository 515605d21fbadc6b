"""``tensorboard``: event files in ``tensorboard/`` in the run's folder."""

from __future__ import annotations

from collections.abc import Mapping

from gflow.loggers.base import LoggedRun, Logger


class TensorBoard(Logger):
    """A log for ``tensorboard --logdir outputs``."""

    name = module = "tensorboard"

    def __init__(self, run: LoggedRun):
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(run.folder / "tensorboard")
        self._writer.add_text(
            "scenario", "\n".join(f"    {k} = {v}" for k, v in run.config.items())
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write one scalar for each number."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def finish(self, numbers: Mapping[str, float]) -> None:
        """Write the numbers of the summary as scalars at step 0."""
        self.log(0, {f"summary/{name}": value for name, value in numbers.items()})
        self._writer.close()
