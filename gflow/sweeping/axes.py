"""What a sweep varies: axes, and the values that their specifications stand for.

``--set key=SPEC`` with SPEC one of

====================  ==========================================================
``128,512,2048``      a list
``log:1e-3:1:7``      7 numbers at equal ratios from 1e-3 to 1, both included
``lin:0:1:5``         5 numbers at equal distances, both included
``2:10``, ``2:10:2``  whole numbers, both ends included, with a step
====================  ==========================================================

One value fixes a key for all runs; several make an axis. A key that holds a list
(``step_sizes``) is set as a whole, and swept by its singular: ``step_size=…`` gives every
run a list of one. Axes named in one ``--zip`` go together, all others are crossed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gflow.errors import InputError
from gflow.scenario import field_kind
from gflow.settings.base import Scenario
from gflow.text import unknown

_MAX_VALUES = 100_000


@dataclass(frozen=True)
class Axis:
    """A swept key and its values; ``of_list`` where each is a list of one for the scenario."""

    key: str
    values: tuple[Any, ...]
    of_list: bool = False

    def change(self, value: Any) -> dict[str, Any]:
        """What a value of this axis changes in the scenario."""
        return {f"{self.key}s": (value,)} if self.of_list else {self.key: value}


def axis(key: str, spec: str | Sequence[Any], model: type[Scenario]) -> Axis:
    """The axis of a key of a model.

    Parameters
    ----------
    key : str
        A key of the scenario, or the singular of one that holds a list.
    spec : str or sequence
        As in the table above, or the values themselves.
    model : type of Scenario

    Returns
    -------
    Axis
        With one value where ``spec`` fixes the key; for a key that holds a list that value
        is the list.

    Raises
    ------
    InputError
        If there is no such key, or spec is not of the table or gives no or equal values.
        Whether each value fits is for the model to say.

    Examples
    --------
    >>> from gflow.scenario import setting_model
    >>> model = setting_model("deep-linear")
    >>> axis("depth", "2:6:2", model)
    Axis(key='depth', values=(2, 4, 6), of_list=False)
    >>> axis("step_size", "log:0.001:0.1:3", model)
    Axis(key='step_size', values=(0.001, 0.01, 0.1), of_list=True)
    """
    key = key.replace("-", "_")
    fields = model.model_fields
    name = key if key in fields or f"{key}s" not in fields else f"{key}s"
    if name not in fields:
        raise InputError(f"--set: {unknown('key', key, fields)}")
    kind, many = field_kind(fields[name].annotation)
    if name != key and not many:
        raise InputError(f"--set: {unknown('key', key, fields)}")
    values = _values(key, spec, kind)
    if name == key and many:
        return Axis(key, (values,))
    if len(set(values)) < len(values):
        again = next(v for i, v in enumerate(values) if v in values[:i])
        raise InputError(f"--set {key}: every value must be given once, got {again} twice")
    return Axis(key, values, of_list=many)


def _values(key: str, spec: str | Sequence[Any], kind: Any) -> tuple[Any, ...]:
    if isinstance(spec, str):
        parts = spec.split(":")
        if parts[0] in ("lin", "log") and kind in (int, float):
            return _spaced(key, spec, parts, kind)
        if kind is int and len(parts) in (2, 3):
            return _whole(key, spec, parts)
        found = tuple(_parse(key, part.strip(), kind) for part in spec.split(","))
    elif isinstance(spec, Sequence):
        found = tuple(spec)
    else:
        found = (spec,)
    if not found or "" in found:
        raise InputError(f"--set {key}: it must have a value, got '{spec}'; say {key}=VALUE,...")
    if not all(isinstance(v, int | float | str) for v in found):
        raise InputError(f"--set {key}: it must be a value, or a list of them, got {spec!r:.80}")
    if kind is float:  # TOML writes 1 for 1.0
        found = tuple(float(v) if type(v) is int else v for v in found)
    return found


def _spaced(key: str, spec: str, parts: list[str], kind: Any) -> tuple[Any, ...]:
    form = f"{parts[0]}:FIRST:LAST:COUNT"
    try:
        first, last, count = float(parts[1]), float(parts[2]), int(parts[3])
        good = len(parts) == 4 and math.isfinite(first) and math.isfinite(last)
    except (ValueError, IndexError):
        good = False
    if not good:
        raise InputError(f"--set {key}: it must read {form}, got '{spec}'")
    if not 2 <= count <= _MAX_VALUES:
        raise InputError(f"--set {key}: COUNT must be from 2 to {_MAX_VALUES}, got {count}")
    if parts[0] == "log":
        if min(first, last) <= 0:
            raise InputError(f"--set {key}: the ends of log must be positive, got '{spec}'")
        ratio = math.log10(last / first)
        # Rounded to 15 digits: 0.01, not 0.010000000000000002.
        inner = [10 ** (math.log10(first) + ratio * i / (count - 1)) for i in range(1, count - 1)]
    else:
        inner = [first + (last - first) * i / (count - 1) for i in range(1, count - 1)]
    values = (first, *(float(f"{v:.15g}") for v in inner), last)
    return tuple(round(v) for v in values) if kind is int else values


def _whole(key: str, spec: str, parts: list[str]) -> tuple[int, ...]:
    try:
        first, last, step = (*map(int, parts), 1)[:3]
    except ValueError:
        raise InputError(f"--set {key}: it must read FIRST:LAST:STEP, got '{spec}'") from None
    if step < 1 or last < first or (last - first) // step >= _MAX_VALUES:
        raise InputError(
            f"--set {key}: FIRST:LAST:STEP must rise, by 1 or more, to at most {_MAX_VALUES} "
            f"values, got '{spec}'"
        )
    return tuple(range(first, last + 1, step))


def _parse(key: str, text: str, kind: Any) -> Any:
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise InputError(f"--set {key}: a value must be true or false, got '{text}'")
        return text.lower() == "true"
    if kind not in (int, float):
        return text
    try:
        return kind(text)
    except ValueError:
        whole = "a whole" if kind is int else "a"
        raise InputError(
            f"--set {key}: a value must be {whole} number, got '{text[:80]}'"
        ) from None


# -- axes that go together --------------------------------------------------------------


def zipped(axes: Sequence[Axis], together: Sequence[Sequence[str]]) -> list[tuple[Axis, ...]]:
    """Axes in groups: those of one group go together, groups are crossed.

    Raises
    ------
    InputError
        If a name in ``together`` is no axis or stands twice, or lengths differ.

    Examples
    --------
    >>> groups = zipped([Axis("a", (1, 2)), Axis("b", (3,)), Axis("c", (5, 6))], [["a", "c"]])
    >>> [[axis.key for axis in group] for group in groups]
    [['a', 'c'], ['b']]
    """
    by_key: Mapping[str, Axis] = {a.key: a for a in axes}
    group_of: dict[str, tuple[str, ...]] = {}
    for names in together:
        keys = tuple(name.replace("-", "_") for name in names)
        for key in keys:
            if key not in by_key:
                raise InputError(f"--zip: {unknown('axis', key, by_key) if by_key else 'no axes'}")
            if key in group_of or keys.count(key) > 1:
                raise InputError(f"--zip: every axis must stand once, got {key} twice")
        lengths = {key: len(by_key[key].values) for key in keys}
        if len(set(lengths.values())) > 1:
            shown = ", ".join(f"{n} of {key}" for key, n in lengths.items())
            raise InputError(f"--zip: axes must have as many values each, got {shown}")
        group_of |= dict.fromkeys(keys, keys)
    groups = dict.fromkeys(group_of.get(a.key, (a.key,)) for a in axes)
    return [tuple(by_key[key] for key in keys) for keys in groups]
