"""The axes of a sweep, and the specifications of their values.

``--set key=SPEC`` with SPEC one of

====================  ==========================================================
``128,512,2048``      a list
``log:1e-3:1:7``      7 numbers at equal ratios from 1e-3 to 1, both included
``lin:0:1:5``         5 numbers at equal distances from 0 to 1, both included
``2:10``, ``2:10:2``  integers from 2 to 10, both included, with an optional step
====================  ==========================================================

One value sets a key for all runs; several values make an axis. A key that holds a list
(``step_sizes``) is set to a whole list, and swept by its singular: ``step_size=…`` gives every run
a list of one value. Axes named in one ``--zip`` vary together; all others are crossed.
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
    """A swept key and its values.

    Attributes
    ----------
    key : str
    values : tuple
    singular : bool
        Whether the key is the singular of a key that holds a list: each value is a list of one.
    """

    key: str
    values: tuple[Any, ...]
    singular: bool = False

    def changes(self, value: Any) -> dict[str, Any]:
        """Return the scenario's keys that a value of this axis sets."""
        return {f"{self.key}s": (value,)} if self.singular else {self.key: value}


def make_axis(key: str, spec: str | Sequence[Any], model: type[Scenario]) -> Axis:
    """Read the axis of a key from its specification.

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
        With one value where ``spec`` sets the key for all runs; for a key that holds a list that
        value is the list.

    Raises
    ------
    InputError
        If there is no such key, or ``spec`` is malformed, empty or has repeated values. The
        values themselves are validated by the model.

    Examples
    --------
    >>> from gflow.scenario import setting_model
    >>> model = setting_model("deep-linear")
    >>> make_axis("depth", "2:6:2", model)
    Axis(key='depth', values=(2, 4, 6), singular=False)
    >>> make_axis("step_size", "log:0.001:0.1:3", model)
    Axis(key='step_size', values=(0.001, 0.01, 0.1), singular=True)
    """
    key = key.replace("-", "_")
    fields = model.model_fields
    name = key if key in fields or f"{key}s" not in fields else f"{key}s"
    if name not in fields:
        raise InputError(f"--set: {unknown('key', key, fields)}")
    kind, is_list = field_kind(fields[name].annotation)
    if name != key and not is_list:
        raise InputError(f"--set: {unknown('key', key, fields)}")
    values = _read_values(key, spec, kind)
    if name == key and is_list:
        return Axis(key, (values,))
    if len(set(values)) < len(values):
        repeated = next(v for i, v in enumerate(values) if v in values[:i])
        raise InputError(f"--set {key}: values must differ, got {repeated} twice; remove one")
    return Axis(key, values, singular=is_list)


def _read_values(key: str, spec: str | Sequence[Any], kind: Any) -> tuple[Any, ...]:
    if isinstance(spec, str):
        parts = spec.split(":")
        if parts[0] in ("lin", "log") and kind in (int, float):
            return _spaced_values(key, spec, parts, kind)
        if kind is int and len(parts) in (2, 3):
            return _integer_range(key, spec, parts)
        values = tuple(_parse_value(key, part.strip(), kind) for part in spec.split(","))
    elif isinstance(spec, Sequence):
        values = tuple(spec)
    else:
        values = (spec,)
    if not values or "" in values:
        raise InputError(
            f"--set {key}: values must not be empty, got '{spec}'; use --set {key}=VALUE,..."
        )
    if not all(isinstance(v, int | float | str) for v in values):
        raise InputError(f"--set {key}: must be a value or a list of values, got {spec!r:.80}")
    if kind is float:  # TOML writes 1 for 1.0
        values = tuple(float(v) if type(v) is int else v for v in values)
    return values


def _spaced_values(key: str, spec: str, parts: list[str], kind: Any) -> tuple[Any, ...]:
    form = f"{parts[0]}:FIRST:LAST:COUNT"
    try:
        first, last, count = float(parts[1]), float(parts[2]), int(parts[3])
        valid = len(parts) == 4 and math.isfinite(first) and math.isfinite(last)
    except (ValueError, IndexError):
        valid = False
    if not valid:
        raise InputError(f"--set {key}: must be {form}, got '{spec}'")
    if not 2 <= count <= _MAX_VALUES:
        raise InputError(f"--set {key}: COUNT must be from 2 to {_MAX_VALUES}, got {count}")
    if parts[0] == "log":
        if min(first, last) <= 0:
            raise InputError(f"--set {key}: FIRST and LAST of log must be positive, got '{spec}'")
        ratio = math.log10(last / first)
        # Rounded to 15 digits: 0.01, not 0.010000000000000002.
        inner = [10 ** (math.log10(first) + ratio * i / (count - 1)) for i in range(1, count - 1)]
    else:
        inner = [first + (last - first) * i / (count - 1) for i in range(1, count - 1)]
    values = (first, *(float(f"{v:.15g}") for v in inner), last)
    return tuple(round(v) for v in values) if kind is int else values


def _integer_range(key: str, spec: str, parts: list[str]) -> tuple[int, ...]:
    try:
        first, last, step = (*map(int, parts), 1)[:3]
    except ValueError:
        raise InputError(f"--set {key}: must be FIRST:LAST:STEP, got '{spec}'") from None
    if step < 1 or last < first or (last - first) // step >= _MAX_VALUES:
        raise InputError(
            f"--set {key}: FIRST:LAST:STEP must increase in steps of at least 1 and have at most "
            f"{_MAX_VALUES} values, got '{spec}'"
        )
    return tuple(range(first, last + 1, step))


def _parse_value(key: str, text: str, kind: Any) -> Any:
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise InputError(f"--set {key}: a value must be true or false, got '{text}'")
        return text.lower() == "true"
    if kind not in (int, float):
        return text
    try:
        return kind(text)
    except ValueError:
        number = "an integer" if kind is int else "a number"
        raise InputError(f"--set {key}: a value must be {number}, got '{text[:80]}'") from None


def group_axes(axes: Sequence[Axis], zips: Sequence[Sequence[str]]) -> list[tuple[Axis, ...]]:
    """Group the axes that vary together; the groups are crossed.

    Parameters
    ----------
    axes : sequence of Axis
    zips : sequence of sequences of str
        The keys of each group of more than one axis.

    Returns
    -------
    list of tuple of Axis

    Raises
    ------
    InputError
        If a key in ``zips`` is no axis or is repeated, or numbers of values differ in a group.

    Examples
    --------
    >>> groups = group_axes([Axis("a", (1, 2)), Axis("b", (3,)), Axis("c", (5, 6))], [["a", "c"]])
    >>> [[axis.key for axis in group] for group in groups]
    [['a', 'c'], ['b']]
    """
    by_key: Mapping[str, Axis] = {a.key: a for a in axes}
    group_of: dict[str, tuple[str, ...]] = {}
    for names in zips:
        keys = tuple(name.replace("-", "_") for name in names)
        for key in keys:
            if key not in by_key:
                raise InputError(f"--zip: {unknown('axis', key, by_key) if by_key else 'no axes'}")
            if key in group_of or keys.count(key) > 1:
                raise InputError(f"--zip: an axis must be named once, got {key} twice")
        lengths = {key: len(by_key[key].values) for key in keys}
        if len(set(lengths.values())) > 1:
            counts = ", ".join(f"{n} of {key}" for key, n in lengths.items())
            raise InputError(
                f"--zip: axes must have equally many values, got {counts}; add or remove some"
            )
        group_of |= dict.fromkeys(keys, keys)
    groups = dict.fromkeys(group_of.get(a.key, (a.key,)) for a in axes)
    return [tuple(by_key[key] for key in keys) for keys in groups]
