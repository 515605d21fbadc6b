"""The base of settings that show a theorem on the data of its paper, which are drawn."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from gflow.settings.base import Positive, Scenario, Text


def _refused(value: tuple[str, ...] | None) -> None:
    if value is not None:
        raise ValueError("must be left out, as the data are drawn")


class LaboratoryScenario(Scenario):
    """A setting on data that are drawn, followed until what is measured has happened."""

    data: Literal["synthetic"] = Field(
        "synthetic", description="synthetic: what the theorem is about is drawn by the seed"
    )
    classes: Annotated[tuple[Text, ...] | None, AfterValidator(_refused)] = Field(
        None, description="refused: the data are drawn"
    )
    fewer_samples: bool | None = Field(None, description="refused: the data are drawn")
    t_end: Positive | None = Field(  # type: ignore[assignment]
        None,
        description="longest time of a path, and the length of the path of `gflow converge`",
        json_schema_extra={"without": "long enough, by theory"},
    )
    points: Annotated[int, Field(ge=2, le=100_000)] = Field(
        300, description="number of times at which a path is measured"
    )
    step_sizes: tuple[Positive, ...] | None = Field(
        None, min_length=1, description="step sizes of `gflow converge`; a run has no descent"
    )
    estimate_error: bool = Field(
        False,
        description="measure the solver's error by a second, finer solve of each path, which takes "
        "one and a half to two times the time of the first",
    )
