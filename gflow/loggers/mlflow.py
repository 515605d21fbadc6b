"""``mlflow``: a run of MLflow, where ``MLFLOW_TRACKING_URI`` says."""

from __future__ import annotations

import re
from collections.abc import Mapping

from gflow.loggers.base import LoggedRun, Logger


class MLflow(Logger):
    """A run in the experiment that ``MLFLOW_EXPERIMENT_NAME`` names."""

    name = module = "mlflow"

    def __init__(self, run: LoggedRun):
        import mlflow

        self._mlflow = mlflow
        mlflow.start_run(run_name=run.name)
        mlflow.log_params({key: str(value)[:250] for key, value in run.config.items()})

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log the numbers as one step."""
        self._mlflow.log_metrics(_named(values), step=step)

    def finish(self, numbers: Mapping[str, float]) -> None:
        """Log the numbers of the summary as metrics without a step."""
        self._mlflow.log_metrics(_named({f"summary/{k}": float(v) for k, v in numbers.items()}))
        self._mlflow.end_run()


def _named(values: Mapping[str, float]) -> dict[str, float]:
    """Return numbers by names that MLflow takes, which have no comma and no sign such as =."""
    return {re.sub(r"[^\w./: -]+", "", name): value for name, value in values.items()}
