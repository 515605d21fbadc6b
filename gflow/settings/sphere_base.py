"""The base of settings on points of the unit sphere: their data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from gflow.settings.base import Count, Scenario

if TYPE_CHECKING:
    from gflow.data.named import Data


class SphereScenario(Scenario):
    """A setting on points of the unit sphere with targets."""

    inputs: Count = Field(20, description="with synthetic data: dimension of the inputs")

    def points_on_sphere(self, samples: int) -> Data:
        """Load the first samples of the data, or draw synthetic ones."""
        from gflow.data.named import load
        from gflow.data.synthetic import synthetic_sphere
        from gflow.preparation import subset

        if self.data == "synthetic":
            return synthetic_sphere(samples, self.inputs, self.seed)
        return subset(load(self.data), samples, self.classes)
