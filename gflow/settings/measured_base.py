"""The base of settings whose results have what networks are measured by, also on held-out data."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gflow.settings.base import Count, Text
from gflow.settings.network_base import NetworkScenario


class MeasuredNetworkScenario(NetworkScenario):
    """A setting whose result has the observables of its network's flow."""

    test_samples: Count | None = Field(
        None,
        description="number of held-out samples, the rows after those of --samples; without "
        "--samples, the last rows",
    )
    train_fraction: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] | None = Field(
        None, description="part of the samples to train on; the others are held out"
    )
    measure: tuple[Text, ...] | None = Field(
        None,
        min_length=1,
        description="what to measure beside loss, accuracy, margin, gradient and norms: "
        "kernel_distance, kernel_alignment, hessian_eigenvalues:10, effective_ranks, ...",
    )

    def _held_out(self) -> int:
        return self.test_samples or 0

    def _train_fraction(self) -> float | None:
        return self.train_fraction

    def _measures(self) -> tuple[str, ...]:
        return self.measure or ()
