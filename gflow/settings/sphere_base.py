"""The base of settings on points of the unit sphere: their data."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from pydantic import Field

from gflow.settings.base import Count, Scenario

if TYPE_CHECKING:
    from gflow.data.named import Data


class SphereScenario(Scenario):
    """A setting on points of the unit sphere with targets."""

    inputs: Count = Field(20, description="with synthetic data: dimension of the inputs")
    test_samples: Count = Field(
        200, description="largest number of test samples, those after the training samples"
    )

    def points_on_sphere(self, default: int, held_out: int) -> tuple[Data, int]:
        """Load the data, or draw synthetic ones, with the training samples first.

        Parameters
        ----------
        default : int
            The number of training samples where the scenario has none.
        held_out : int
            The least number of samples to leave for the test, 0 or 1.

        Returns
        -------
        data : Data
            The training samples, then at most `test_samples` others.
        train : int
            The number of training samples.

        Raises
        ------
        InputError
            If an option asks for more training samples than there are.
        """
        from gflow.data.synthetic import synthetic_sphere
        from gflow.errors import InputError
        from gflow.preparation import subset

        train = self.samples or default
        if self.data == "synthetic":
            return synthetic_sphere(train + self.test_samples, self.inputs, self.seed), train
        data = self.whole_data()
        rows = len(data.inputs)
        if rows <= held_out:
            raise InputError(
                f"{data.name} must have at least {held_out + 1} samples, one of them for the test, "
                f"got {rows}; add samples"
            )
        if train > rows - held_out:
            if not (self.fewer_samples or self.samples is None):
                raise InputError(
                    f"samples must be at most {rows - held_out}, the rows of {data.name}"
                    f"{' in these classes' if self.classes else ''}"
                    f"{' less one for the test' if held_out else ''}, got {train}; use fewer"
                )
            asked, train = train, max(1, rows * train // (train + self.test_samples * held_out))
            warnings.warn(
                f"{data.name} has {rows} samples, and the scenario asks for {asked} and a test; "
                f"{train} of them are for training, {rows - train} for the test",
                stacklevel=2,
            )
        return subset(data, min(rows, train + self.test_samples)), train
