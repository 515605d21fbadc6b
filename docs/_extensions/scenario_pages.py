"""The reference of the scenarios' keys: tables made from the pydantic models of gflow/settings."""

from __future__ import annotations

import tomllib
import typing
from typing import Any, Literal

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from gflow.scenario import field_kind, scenario_names, scenario_text, setting_models
from gflow.settings.base import Scenario

_TYPES = {int: "integer", float: "number", str: "text", bool: "true or false"}
_NO_BOUND = 1e9  # bounds from here on are there for the sake of safety
_BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def _values(info: FieldInfo) -> str:
    """Return the type of a key's value in words, with its choices or bounds."""
    kind, several = field_kind(info.annotation)
    if typing.get_origin(kind) is Literal:
        text = ", ".join(f"``{choice}``" for choice in typing.get_args(kind))
    else:
        text = _TYPES.get(kind, getattr(kind, "__name__", str(kind)))
    bounds = _bounds(info)
    text += f" {bounds}" if bounds else ""
    return f"list: {text}" if several else text


def _bounds(info: FieldInfo) -> str:
    found: list[str] = []
    for item in _metadata(info.annotation, info.metadata):
        for name, sign in _BOUNDS.items():
            value = getattr(item, name, None)
            if isinstance(value, int | float) and value < _NO_BOUND:
                found.append(f"{sign} {value:,}" if isinstance(value, int) else f"{sign} {value:g}")
    return " and ".join(dict.fromkeys(found))


def _metadata(annotation: Any, metadata: list[Any]) -> list[Any]:
    """Return the constraints of a field, also those inside ``| None`` and lists."""
    found = list(metadata)
    for item in getattr(annotation, "__metadata__", ()):
        found += [item, *getattr(item, "metadata", ())]
    for inner in typing.get_args(annotation):
        if hasattr(inner, "__metadata__") or typing.get_origin(inner) is not None:
            found += _metadata(inner, [])
    return found


def _default(info: FieldInfo) -> str:
    if info.default is PydanticUndefined:
        return "required"
    value = info.default
    if value is None:
        return "none"
    if isinstance(value, bool):
        return f"``{str(value).lower()}``"
    if isinstance(value, tuple):
        return f"``{list(value)}``"
    return f"``{value}``" if value != "" else "empty"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("*", r"\*").replace("|", r"\|").replace("`", r"\`")


def _table(fields: dict[str, FieldInfo]) -> list[str]:
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: 18 22 15 45", ""]
    lines += ["   * - key", "     - value", "     - default", "     - meaning"]
    for name, info in fields.items():
        cells = [f"``{name}``", _values(info), _default(info), _escaped(info.description or "")]
        lines += [f"   * - {cells[0]}", *(f"     - {cell}" for cell in cells[1:])]
    return [*lines, ""]


def _heading(text: str, sign: str) -> list[str]:
    return [text, sign * len(text), ""]


def pages() -> dict[str, str]:
    """Return the page of all keys by file name."""
    lines = _heading("Keys of scenarios", "=")
    lines += [
        "A scenario is a TOML file: a flat table of keys, of which ``setting`` says what is",
        "simulated. The keys are also the options of its command, with hyphens for underscores.",
        "``gflow show NAME`` prints a scenario with all its values; save it, edit it, and run it",
        "with ``gflow run FILE``.",
        "",
    ]
    lines += _heading("Keys of every setting", "-") + _table(dict(Scenario.model_fields))
    scenarios = {name: tomllib.loads(scenario_text(name)) for name in scenario_names()}
    for setting, model in sorted(setting_models().items()):
        lines += _heading(f"Setting {setting}", "-")
        lines += [" ".join((_escaped(model.__doc__ or "")).split()), ""]
        own = {
            name: info
            for name, info in model.model_fields.items()
            if name not in Scenario.model_fields
        }
        lines += _table(own) if own else []
        changed = {
            name: info
            for name, info in model.model_fields.items()
            if name in Scenario.model_fields
            and (info.default, info.description)
            != (Scenario.model_fields[name].default, Scenario.model_fields[name].description)
        }
        if changed:
            lines += ["Keys of every setting that differ here:", "", *_table(changed)]
        for name, keys in scenarios.items():
            if keys.get("setting") == setting:
                lines += [f"The scenario ``{name}``:", "", ".. code-block:: toml", ""]
                lines += [f"   {line}" for line in scenario_text(name).splitlines()] + [""]
    return {"scenario-keys.rst": "\n".join(lines)}
