"""The base of all settings: the keys that every scenario has."""

from __future__ import annotations

import abc
import math
import warnings
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from gflow.errors import InputError
from gflow.text import CONTROL

if TYPE_CHECKING:
    import torch

    from gflow.callbacks import Stages
    from gflow.data.named import Data
    from gflow.flows import Flow
    from gflow.results.base import Result, Setup
    from gflow.solvers import SolveOptions


Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


Count = Annotated[int, Field(ge=1, le=1_000_000_000)]


def _one_line_of_text(value: str) -> str:
    if CONTROL.search(value):  # it is printed on terminals and written into files
        raise ValueError("must be one line of text without control characters")
    return value


Text = Annotated[str, AfterValidator(_one_line_of_text)]


def _positive_scales(value: float | tuple[float, ...]) -> float | tuple[float, ...]:
    numbers = value if isinstance(value, tuple) else (value,)
    if not numbers or not all(0 < number < math.inf for number in numbers):
        raise ValueError("must be a positive number, or one for each layer, separated by commas")
    return value


#: One number for all layers, or one for each.
Scales = Annotated[float | tuple[float, ...], AfterValidator(_positive_scales)]


#: Keys that exist in TOML files only, not as options.
FILE_ONLY: dict[str, Any] = {"cli": False}


#: Methods that choose the steps of each member of an ensemble separately.
ENSEMBLE_METHODS = ("auto", "tsit5", "dop853", "rkc2", "rock4")


#: A key whose value names code to run if it has a colon; a file alone must never run code.
RUNS_CODE: dict[str, Any] = {"runs_code": True}


class Scenario(BaseModel, abc.ABC):
    """The keys that all settings have; a subclass is one file of ``gflow/settings``."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, strict=True)
    setting: ClassVar[str]
    #: Whether the work on its one flow can be split across processes, see `gflow.distributed`.
    can_be_split: ClassVar[bool] = False
    #: Papers to cite: keys of ``gflow/reporting/references.bib``, or whole BibTeX entries.
    papers: ClassVar[tuple[str, ...]] = ()

    name: Text = Field(
        "unnamed",
        pattern=r"^[^./\\][^/\\]*$",  # it names a folder
        description="name of the scenario and of the folder of its runs",
        json_schema_extra=FILE_ONLY,
    )
    title: Text = Field(
        "", description="what the scenario shows, in one line", json_schema_extra=FILE_ONLY
    )
    data: Text = Field(
        description="data set: digits, diabetes, breast_cancer, wine, iris, linnerud, china, "
        "flower, mnist5k, openml:NAME, modular:P, synthetic, or the path of a .npz, .npy or .csv "
        "file"
    )
    samples: Count | None = Field(None, description="number of samples, from the first on")
    fewer_samples: bool | None = Field(
        None,
        description="use data with fewer samples whole instead of refusing them; so by default, "
        "unless --samples is given",
    )
    classes: tuple[Text, ...] | None = Field(
        None, min_length=1, description="classes to use, of all in the data"
    )
    t_end: Positive = Field(
        description="length of the path in time; step k of descent is at t = k * step_size"
    )
    points: Annotated[int, Field(ge=2, le=100_000)] = Field(
        100, description="number of times at which flow and descent are compared"
    )
    time: Literal["linear", "log"] = Field(
        "linear",
        description="spacing of these times; log resolves plateaus, which last log(1/init_scale)",
    )
    step_sizes: tuple[Positive, ...] | None = Field(
        None,
        min_length=1,
        description="step sizes of descent",
        json_schema_extra={"without": "1/2, 1/4, 1/8, ... of the stability limit 2/lambda_max"},
    )
    method: Text = Field(
        "auto",
        description="solver: auto, tsit5, bdf, rkc2, exact, krylov, dopri5, scipy:LSODA, ...",
    )
    rtol: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = Field(
        1e-8, description="relative tolerance of the solver"
    )
    atol: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        1e-11, description="absolute tolerance of the solver"
    )
    max_evals: Count = Field(
        1_000_000, description="largest number of right-hand side evaluations of a solve"
    )
    max_step: Positive | None = Field(
        None, description="longest step of the solver; none by default"
    )
    estimate_error: bool = Field(
        True,
        description="measure the solver's error by a second, finer solve where there is no closed "
        "form",
    )
    seed: Annotated[int, Field(ge=0, lt=2**63)] = Field(0, description="seed of all random numbers")
    device: Text = Field("cpu", description="torch device, such as cpu or cuda:0")
    dtype: Literal["float64", "float32"] = Field("float64", description="floating-point type")

    threads: Annotated[int, Field(ge=1, le=1024)] = Field(
        1, description="CPU threads of torch; more than one helps large networks only"
    )

    @abc.abstractmethod
    def setup(self) -> Setup:
        """Load the data, and make the flow and its start."""

    def start_keys(self) -> frozenset[str]:
        """Return the keys that change the start and not the flow.

        Runs that differ in these alone can be solved as one ensemble, where that is faster: see
        `gflow.sweeping.grouping`.
        """
        return frozenset()

    def build_flow(self) -> Flow:
        """Return the flow of `setup` alone, for processes that only compute their part of it."""
        return self.setup().flow

    @abc.abstractmethod
    def run(self, stages: Stages) -> Result:
        """Run the study; ``stages(name, t_end)`` gives a progress callback for each part."""

    def solve_options(self) -> SolveOptions:
        """Return how flows are solved and compared with descent."""
        from gflow.solvers import SolveOptions

        return SolveOptions(
            method=self.method,
            rtol=self.rtol,
            atol=self.atol,
            max_evals=self.max_evals,
            max_step=math.inf if self.max_step is None else self.max_step,
            estimate_error=self.estimate_error,
            points=self.points,
            spacing=self.time,
        )

    def load_data(self, *, tokens: bool = False) -> Data:
        """Load the data: the first samples of the classes.

        Parameters
        ----------
        tokens : bool
            Whether to leave token ids as they are; by default they become columns of 0 and 1.

        Raises
        ------
        InputError
            If the data cannot be loaded, or have fewer samples than an option asks for.
        """
        from gflow.preparation import subset

        data = self.whole_data(tokens=tokens)
        if self.samples is not None and self.may_have_fewer(data, self.samples):
            return data
        return subset(data, self.samples)

    def whole_data(self, *, tokens: bool = False) -> Data:
        """Load all samples of the classes.

        Parameters
        ----------
        tokens : bool
            Whether to leave token ids as they are; by default they become columns of 0 and 1.

        Raises
        ------
        InputError
            If the data cannot be loaded.
        """
        from gflow.data.named import load
        from gflow.preparation import one_hot_tokens, subset

        data = subset(load(self.data, self.seed), None, self.classes)
        return data if tokens else one_hot_tokens(data)

    def may_have_fewer(self, data: Data, wanted: int) -> bool:
        """Return whether data have fewer samples than wanted and are used whole; then warn."""
        rows = len(data.inputs)
        fewer = wanted > rows and bool(self.fewer_samples)
        if fewer:
            warnings.warn(
                f"{data.name} has {rows} samples, fewer than the {wanted} of the scenario; all of "
                "them are used",
                stacklevel=3,
            )
        return fewer

    def torch_options(self) -> dict[str, Any]:
        """Return ``device`` and ``dtype`` for torch's factories.

        Raises
        ------
        InputError
            If the device does not exist here.
        """
        import torch

        try:
            device = torch.device(self.device)
            torch.zeros(1, device=device).item()  # fails on `meta`, which has no values
        except (RuntimeError, AssertionError) as error:
            why = str(error).splitlines()[0]
            raise InputError(
                f"device '{self.device}' cannot be used here ({why}); use --device cpu"
            ) from None
        return {"device": device, "dtype": getattr(torch, self.dtype)}

    def generator(self) -> torch.Generator:
        """Return a seeded random generator on the host."""
        import torch

        return torch.Generator().manual_seed(self.seed)

    def resolved(self) -> dict[str, Any]:
        """Return all keys and values of the scenario, as plain values for TOML."""
        values = self.model_dump(mode="json", exclude_none=True)
        return {"setting": self.setting, **values}

    def toml(self) -> str:
        """Return the scenario as the text of a TOML file that can be run."""
        import tomli_w

        return tomli_w.dumps(self.resolved())
