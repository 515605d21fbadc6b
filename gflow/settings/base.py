"""The base of all settings: the keys that every scenario has."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from gflow.errors import InputError
from gflow.text import CONTROL

if TYPE_CHECKING:
    import torch

    from gflow.callbacks import Stages
    from gflow.flows import Flow
    from gflow.results.base import Setup
    from gflow.results.paths import Outcome
    from gflow.solvers import SolveOptions


Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


Count = Annotated[int, Field(ge=1, le=1_000_000_000)]


def _one_line_of_text(value: str) -> str:
    if CONTROL.search(value):  # it is shown in terminals and written into files
        raise ValueError("must be one line of text without control characters")
    return value


Text = Annotated[str, AfterValidator(_one_line_of_text)]


#: Kept out of the command line: said in the file only.
FILE_ONLY: dict[str, Any] = {"cli": False}


#: Methods that solve an ensemble with steps of each member's own.
ENSEMBLE_METHODS = ("auto", "tsit5", "dop853", "rkc2", "rock4")


#: A key whose value, where it has a colon, names code that will run: never on a file's word.
RUNS_CODE: dict[str, Any] = {"runs_code": True}


class Scenario(BaseModel, abc.ABC):
    """What all settings share; a subclass is one file of ``gflow/settings``."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, strict=True)
    setting: ClassVar[str]
    #: Whether processes can share the work: its one flow is split, see `gflow.distributed`.
    splits: ClassVar[bool] = False

    name: Text = Field(
        "unnamed",
        pattern=r"^[^./\\][^/\\]*$",  # it names a folder
        description="name of the scenario",
        json_schema_extra=FILE_ONLY,
    )
    title: Text = Field("", description="one line on what it shows", json_schema_extra=FILE_ONLY)
    data: Text = Field(
        description="data set: a name (digits, diabetes, ...), openml:NAME, synthetic, or a "
        ".npz, .npy or .csv file"
    )
    samples: Count | None = Field(None, description="use the first so many samples")
    classes: tuple[Text, ...] | None = Field(
        None, min_length=1, description="keep these classes only"
    )
    t_end: Positive = Field(description="length of the path; t = k * step_size of descent")
    points: Annotated[int, Field(ge=2, le=100_000)] = Field(
        100, description="comparisons of flow and descent along the path"
    )
    time: Literal["linear", "log"] = Field(
        "linear",
        description="spacing of the comparisons; log for plateaus, which last log(1/scale)",
    )
    step_sizes: tuple[Positive, ...] | None = Field(
        None,
        min_length=1,
        description="step sizes of descent; by default 1/2, 1/4 and 1/8 of the stability limit",
    )
    method: Text = Field(
        "auto",
        description="solver: auto, tsit5, bdf, rkc2, exact, krylov, dopri5, scipy:LSODA, ...",
    )
    rtol: Positive = Field(1e-8, description="relative tolerance of the solver")
    atol: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        1e-11, description="absolute tolerance of the solver"
    )
    max_evals: Count = Field(1_000_000, description="budget of right-hand side evaluations")
    estimate_error: bool = Field(
        True, description="measure the solver's error by a second solve where no closed form does"
    )
    seed: Annotated[int, Field(ge=0, lt=2**63)] = Field(0, description="seed of everything random")
    device: Text = Field("cpu", description="torch device, such as cpu or cuda:0")
    dtype: Literal["float64", "float32"] = Field("float64", description="floating-point type")

    threads: Annotated[int, Field(ge=1, le=1024)] = Field(
        1, description="CPU threads of torch; more help large networks only"
    )

    @abc.abstractmethod
    def setup(self) -> Setup:
        """Flow and start, from data."""

    def start_keys(self) -> frozenset[str]:
        """Keys that set the start and leave the flow as it is, where solving several starts as
        one ensemble can be faster: see `gflow.sweeping.grouping`."""
        return frozenset()

    def share(self) -> Flow:
        """The flow that `setup` makes, alone: a process that only answers needs no more."""
        return self.setup().flow

    @abc.abstractmethod
    def run(self, stages: Stages) -> Outcome:
        """Do the work; ``stages(name, t_end)`` gives a progress callback."""

    def solve_options(self) -> SolveOptions:
        """Return how flows are solved and compared with descent."""
        from gflow.solvers import SolveOptions

        return SolveOptions(
            method=self.method,
            rtol=self.rtol,
            atol=self.atol,
            max_evals=self.max_evals,
            estimate_error=self.estimate_error,
            points=self.points,
            spacing=self.time,
        )

    def torch_options(self) -> dict[str, Any]:
        """``device`` and ``dtype`` for torch's factories.

        Raises
        ------
        InputError
            If the device does not exist here.
        """
        import torch

        try:
            device = torch.device(self.device)
            torch.zeros(1, device=device).item()  # `meta` has no values
        except (RuntimeError, AssertionError) as error:
            why = str(error).splitlines()[0]
            raise InputError(
                f"device '{self.device}' cannot be used here ({why}); use --device cpu"
            ) from None
        return {"device": device, "dtype": getattr(torch, self.dtype)}

    def generator(self) -> torch.Generator:
        """A random generator on the host, seeded."""
        import torch

        return torch.Generator().manual_seed(self.seed)

    def resolved(self) -> dict[str, Any]:
        """The whole scenario as plain values, ready for TOML."""
        values = self.model_dump(mode="json", exclude_none=True)
        return {"setting": self.setting, **values}

    def toml(self) -> str:
        """The whole scenario as a TOML file that can be run."""
        import tomli_w

        return tomli_w.dumps(self.resolved())
