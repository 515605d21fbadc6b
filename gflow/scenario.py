"""Scenarios: TOML files read into validated models.

A scenario is a flat table of keys. ``setting`` names a model in ``gflow/settings``, which
declares every other key once: the field is the TOML key, the command-line option, its default,
its bounds and its help.
"""

from __future__ import annotations

import functools
import importlib.resources
import tomllib
import types
import typing
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import ValidationError

from gflow.discovery import concrete_classes
from gflow.errors import InputError
from gflow.io.plain import as_path, read_text
from gflow.settings.base import RUNS_CODE, Scenario
from gflow.settings.laboratory_base import LaboratoryScenario
from gflow.text import brief, nearest, printable, unknown

_MAX_BYTES = 100_000
_MAX_LINE = 2_000  # a dotted key is on one line, and tomllib takes the square of its length


# -- finding and reading --------------------------------------------------------------


def scenario_names() -> list[str]:
    """Return the names of the scenarios that come with gflow.

    Examples
    --------
    >>> "deep-linear" in scenario_names()
    True
    """
    folder = importlib.resources.files("gflow.scenarios")
    return sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith("toml"))


def scenario_text(name: str) -> str:
    """Return the TOML text of a scenario that comes with gflow."""
    names = scenario_names()
    if name not in names:
        raise InputError(unknown("scenario", name, names))
    file = importlib.resources.files("gflow.scenarios").joinpath(f"{name}.toml")
    return file.read_text(encoding="utf-8")


def read_scenario(source: str | Path) -> dict[str, Any]:
    """Read the keys of a scenario, by its name in gflow or the path of a TOML file."""
    path, source = as_path(source), str(source)
    if path.suffix == ".toml":
        try:
            text = read_text(path, _MAX_BYTES)
        except (OSError, ValueError) as error:
            raise InputError(
                f"cannot read the scenario file {source}: {_reason(error)}; check the file"
            ) from None
        longest = max(map(len, text.split("\n")))
        if longest > _MAX_LINE:
            raise InputError(
                f"{source} must have lines of at most {_MAX_LINE} characters, got one of "
                f"{longest}; break long lists into several lines"
            )
        name = path.stem
    else:
        text, name = scenario_text(source), source
    try:
        keys = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{source} is not valid TOML: {printable(str(error))}; correct the file"
        ) from None
    return {"name": name, **keys}


def load_scenario(
    source: str | Path, changes: Mapping[str, Any] | None = None, *, code: bool = False
) -> Scenario:
    """Read a scenario, apply changes and validate it.

    A file may come from anybody. The user's own model, ``package.module:function``, runs code, so
    it is accepted from ``changes`` only.

    Parameters
    ----------
    source : str or Path
        The name of a scenario that comes with gflow, or the path of a ``.toml`` file.
    changes : mapping, optional
        Keys to override.
    code : bool
        Whether the file itself may name such a model: to show the scenario, or because the file
        is trusted.

    Returns
    -------
    Scenario

    Raises
    ------
    InputError
        If the file or a value is not valid.

    Examples
    --------
    >>> load_scenario("deep-linear", {"depth": 4}).depth
    4
    """
    changes = dict(changes or {})
    keys = read_scenario(source) | changes
    keys.pop("sweep", None)  # the table that `gflow sweep` varies; a single run ignores it
    keys = with_fewer_samples(keys, changes)
    scenario = validate(keys, str(source))
    if changes.get("fewer_samples") and isinstance(scenario, LaboratoryScenario):
        raise InputError(f"{source}: fewer_samples must be left out, as the data are drawn")
    if not code:
        refuse_code(scenario, changes, str(source))
    return scenario


def with_fewer_samples(keys: Mapping[str, Any], options: Collection[str]) -> dict[str, Any]:
    """Return the keys with ``fewer_samples``: whether data may be smaller than ``samples`` says.

    Parameters
    ----------
    keys : mapping
        The keys of a scenario, with the options.
    options : collection of str
        The names of the options.

    Returns
    -------
    dict

    Examples
    --------
    >>> with_fewer_samples({"samples": 500}, [])
    {'samples': 500, 'fewer_samples': True}
    >>> with_fewer_samples({"samples": 500}, ["samples"])
    {'samples': 500, 'fewer_samples': False}
    """
    if "fewer_samples" in options:
        return dict(keys)
    own = "samples" not in options
    return {**keys, "fewer_samples": own and keys.get("fewer_samples", True)}


def refuse_code(scenario: Scenario, options: Mapping[str, Any], source: str) -> None:
    """Raise InputError if a scenario names code to run that the user did not name as well.

    Parameters
    ----------
    scenario : Scenario
    options : mapping
        The values that the user gave.
    source : str
        What the message calls the scenario.

    Raises
    ------
    InputError
        If the code is not among the options.

    Examples
    --------
    >>> scenario = load_scenario("network", {"model": "mine:make"})
    >>> refuse_code(scenario, {"model": "mine:make"}, "a.toml")
    >>> refuse_code(scenario, {}, "a.toml")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    gflow.errors.InputError: a.toml names code to run, model = 'mine:make'; if you trust it, ...
    """
    for key, info in type(scenario).model_fields.items():
        value = getattr(scenario, key)
        if info.json_schema_extra == RUNS_CODE and ":" in value and options.get(key) != value:
            raise InputError(
                f"{source} names code to run, {key} = {value!r}; if you trust it, pass "
                f"--{key} {value}"
            )


def validate(keys: Mapping[str, Any], source: str) -> Scenario:
    """Validate a table of keys against the model of its ``setting``.

    Parameters
    ----------
    keys : mapping
    source : str
        What the messages call the table.

    Returns
    -------
    Scenario

    Raises
    ------
    InputError
        If a key is unknown or missing, or a value is not valid.

    Examples
    --------
    >>> keys = {"setting": "deep-linear", "data": "iris", "t_end": 1.0}
    >>> validate(keys, "my table").depth
    3
    """
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in keys.items()}
    model = model_of(values, source)
    values.pop("setting")
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise InputError(_one_line(error, model, source)) from None


@functools.cache
def setting_models() -> dict[str, type[Scenario]]:
    """Return every setting by name: the concrete models in the files of ``gflow/settings``.

    Examples
    --------
    >>> "kernel" in setting_models()
    True
    """
    return {model.setting: model for model in concrete_classes("gflow.settings", Scenario)}


def model_of(keys: Mapping[str, Any], source: str) -> type[Scenario]:
    """Return the model of the setting that the keys of a scenario name.

    Parameters
    ----------
    keys : mapping
    source : str
        What the message calls the scenario.

    Returns
    -------
    type

    Raises
    ------
    InputError
        If the setting is missing or unknown.

    Examples
    --------
    >>> model_of({"seting": "kernel"}, "my table")
    Traceback (most recent call last):
        ...
    gflow.errors.InputError: my table: there is no key 'seting'; did you mean 'setting'?
    """
    if keys.get("setting") is None:
        for key in keys:
            known = key == "setting" or key in Scenario.model_fields
            if not known and nearest(key, ["setting"]):
                raise InputError(f"{source}: {unknown('key', key, ['setting'])}")
    return setting_model(keys.get("setting"), source)


def setting_model(name: object, source: str = "a scenario") -> type[Scenario]:
    """Return the model of a setting.

    Parameters
    ----------
    name : str
    source : str
        What the message calls the scenario.

    Returns
    -------
    type

    Raises
    ------
    InputError
        If the name is missing or unknown.

    Examples
    --------
    >>> setting_model("kernel").setting
    'kernel'
    """
    models = setting_models()
    if name is None:
        raise InputError(f"{source} must name its setting: one of {', '.join(sorted(models))}")
    if not isinstance(name, str) or name not in models:
        raise InputError(unknown("setting", str(name), models))
    return models[name]


def field_kind(annotation: Any) -> tuple[Any, bool]:
    """Return the type of a field's values, without bounds and None, and whether it is a list.

    Examples
    --------
    >>> field_kind(tuple[float, ...] | None)
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


def takes_several(annotation: Any) -> bool:
    """Return whether a field takes a value, or a list of values.

    Examples
    --------
    >>> takes_several(float | tuple[float, ...]), takes_several(tuple[float, ...] | None)
    (True, False)
    """
    if typing.get_origin(annotation) is Annotated:
        return takes_several(typing.get_args(annotation)[0])
    parts = [a for a in typing.get_args(annotation) if a is not type(None)]
    lists = [a for a in parts if typing.get_origin(a) is tuple]
    return 0 < len(lists) < len(parts)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or printable(str(error))


def _one_line(error: ValidationError, model: type[Scenario], source: str) -> str:
    errors = error.errors(include_url=False, include_context=True)
    # A key with a typing error is unknown, and the key that was meant may be missing.
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    key = str(first["loc"][0]) if first["loc"] else "scenario"
    if first["type"] == "extra_forbidden" and isinstance(first["input"], dict):
        return (
            f"{source}: there is no key '{printable(key[:80])}' that holds a table; write keys at "
            "the top of the file, without a table"
        )
    if first["type"] == "extra_forbidden":
        return f"{source}: {unknown('key', key, model.model_fields)}"
    if first["type"] == "missing":
        return f"{source}: '{key}' is missing: {model.model_fields[key].description}"
    message = first["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    # One bad value of a list has two errors, as the list is then also too short.
    others = len({e["loc"][:1] for e in errors}) - 1
    return (
        f"{key.replace('_', '-')}: {message}, got {brief(first['input'])}"
        + _nearest_name(first, model, key)
        + (f" (and {others} more)" if others else "")
    )


def _nearest_name(error: Mapping[str, Any], model: type[Scenario], key: str) -> str:
    """Return the nearest of the names that a value can be, or nothing."""
    if error["type"] != "literal_error" or not isinstance(error["input"], str):
        return ""
    names = typing.get_args(field_kind(model.model_fields[key].annotation)[0])
    close = nearest(error["input"], [name for name in names if isinstance(name, str)])
    return f"; did you mean {close!r}?" if close else ""
