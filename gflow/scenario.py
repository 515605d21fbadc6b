"""Scenarios: a TOML file <-> a validated model.

A scenario is a flat table of keys. ``setting`` names a file of ``gflow/settings``, whose
model declares every other key once: the field is the TOML key, the command-line option,
its default, its bounds and its help.
"""

from __future__ import annotations

import abc
import difflib
import functools
import importlib
import importlib.resources
import inspect
import pkgutil
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from gflow.errors import CONTROL, InputError, brief, printable
from gflow.io.plain import read_text

if TYPE_CHECKING:
    import torch

    from gflow.flows import Flow
    from gflow.results.paths import Outcome, Setup
    from gflow.studies.flow_and_descent import Stages

_MAX_BYTES = 100_000
_MAX_LINE = 2_000  # a key a.b.c... takes tomllib the square of its length, and is one line

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


# -- finding and reading --------------------------------------------------------------


def scenario_names() -> list[str]:
    """Names of the scenarios that come with gflow.

    Examples
    --------
    >>> "deep-linear" in scenario_names()
    True
    """
    folder = importlib.resources.files("gflow.scenarios")
    return sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith("toml"))


def scenario_text(name: str) -> str:
    """The TOML text of a scenario that comes with gflow."""
    names = scenario_names()
    if name not in names:
        raise InputError(unknown("scenario", name, names))
    file = importlib.resources.files("gflow.scenarios").joinpath(f"{name}.toml")
    return file.read_text(encoding="utf-8")


def read_scenario(source: str) -> dict[str, Any]:
    """The keys of a scenario: a name that comes with gflow, or the path of a TOML file."""
    path = Path(source)
    if path.suffix == ".toml":
        try:
            text = read_text(path, _MAX_BYTES)
        except (OSError, ValueError) as error:
            raise InputError(f"cannot read the scenario file {source}: {_why(error)}") from None
        longest = max(map(len, text.split("\n")))
        if longest > _MAX_LINE:
            raise InputError(
                f"{source} must have lines of at most {_MAX_LINE} characters, got one of "
                f"{longest}; write long lists over several lines"
            )
        name = path.stem
    else:
        text, name = scenario_text(source), source
    try:
        keys = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{source} is not valid TOML: {printable(str(error))}") from None
    return {"name": name, **keys}


def load_scenario(
    source: str, changes: Mapping[str, Any] | None = None, *, code: bool = False
) -> Scenario:
    """Read a scenario, apply changes, validate.

    A file may come from anybody: a model of the user's own, ``package.module:function``, which
    runs code, is taken from ``changes`` only.

    Parameters
    ----------
    source : str
        The name of a scenario that comes with gflow, or the path of a ``.toml`` file.
    changes : mapping, optional
        Keys to override.
    code : bool
        Whether the file itself may name such a model: to look at it, or because it is trusted.

    Raises
    ------
    InputError
        For anything that does not fit, in one line.

    Examples
    --------
    >>> load_scenario("deep-linear", {"depth": 4}).depth
    4
    """
    changes = dict(changes or {})
    keys = read_scenario(source) | changes
    keys.pop("sweep", None)  # what `gflow sweep` varies; a single run is the scenario itself
    scenario = validate(keys, source)
    if not code:
        refuse_code(scenario, changes, source)
    return scenario


def refuse_code(scenario: Scenario, said: Mapping[str, Any], source: str) -> None:
    """Raise InputError if a scenario names code to run that was not said by the user as well."""
    for key, info in type(scenario).model_fields.items():
        value = getattr(scenario, key)
        if info.json_schema_extra == RUNS_CODE and ":" in value and said.get(key) != value:
            raise InputError(
                f"{source} names code to run, {key} = {value!r}, and no code is run because a file "
                f"says so; if you trust it, pass --{key} {value}"
            )


def validate(keys: Mapping[str, Any], source: str) -> Scenario:
    """The model of a table of keys; ``setting`` says which."""
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in keys.items()}
    model = setting_model(values.pop("setting", None), source)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise InputError(_one_line(error, model, source)) from None


@functools.cache
def setting_models() -> dict[str, type[Scenario]]:
    """Every setting by name: the concrete models in the files of ``gflow/settings``.

    Examples
    --------
    >>> "kernel" in setting_models()
    True
    """
    package = importlib.import_module("gflow.settings")
    files = [
        importlib.import_module(f"gflow.settings.{info.name}")
        for info in pkgutil.iter_modules(package.__path__)
    ]
    classes = [value for file in files for value in vars(file).values()]
    return {
        value.setting: value
        for value in classes
        if isinstance(value, type) and issubclass(value, Scenario) and not inspect.isabstract(value)
    }


def setting_model(name: object, source: str = "a scenario") -> type[Scenario]:
    """The model of a setting."""
    models = setting_models()
    if name is None:
        raise InputError(f"{source} must say its setting: one of {', '.join(sorted(models))}")
    if not isinstance(name, str) or name not in models:
        raise InputError(unknown("setting", str(name), models))
    return models[name]


def field_kind(annotation: Any) -> tuple[Any, bool]:
    """(type, whether many) of a field: optional and bounded types are looked through.

    Examples
    --------
    >>> field_kind(tuple[Positive, ...] | None)
    (<class 'float'>, True)
    """
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        return field_kind(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return field_kind(next(a for a in typing.get_args(annotation) if a is not type(None)))
    if origin is tuple:
        return field_kind(typing.get_args(annotation)[0])[0], True
    return annotation, False


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """One line for a name that is not known, with the nearest that is."""
    options = list(known)
    close = difflib.get_close_matches(name, options, n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'?" if close else f"choose from {', '.join(options)}"
    return f"there is no {kind} '{printable(name[:80])}'; {hint}"


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or printable(str(error))


def _one_line(error: ValidationError, model: type[Scenario], source: str) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    key = str(first["loc"][0]) if first["loc"] else "scenario"
    if first["type"] == "extra_forbidden":
        return f"{source}: {unknown('key', key, model.model_fields)}"
    if first["type"] == "missing":
        return f"{source}: '{key}' is missing: {model.model_fields[key].description}"
    message = first["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    more = error.error_count() - 1
    return f"{key.replace('_', '-')}: {message}, got {brief(first['input'])}" + (
        f" (and {more} more)" if more else ""
    )
