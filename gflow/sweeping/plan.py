"""The plan of a sweep: its axes, and a validated scenario with an id for every run.

A sweep is a scenario and a table of its axes, from the command line or in TOML::

    [sweep]
    seeds = 20                            # seed, seed + 1, ...: an axis `seed`
    zip = [["width", "init_scale"]]       # these vary together
    [sweep.set]
    width = [128, 512, 2048]
    init_scale = [0.1, 0.05, 0.02]
    step_size = "log:1e-3:1:7"

A run's id is the hash of its resolved scenario and gflow's version, so that the same run has the
same folder when the sweep is extended, and is not executed twice.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gflow._version import __version__
from gflow.errors import InputError
from gflow.scenario import model_of, read_scenario, refuse_code, validate, with_fewer_samples
from gflow.settings.base import Scenario
from gflow.sweeping.axes import Axis, group_axes, make_axis
from gflow.text import unknown

_MAX_RUNS = 100_000
_TABLE_KEYS = ("set", "zip", "seeds", "converge", "modified", "apart")


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep.

    Attributes
    ----------
    id : str
    scenario : Scenario
    point : mapping of str to value
        The run's value on each axis.
    index : tuple of int
        The run's position along each dimension.
    """

    id: str
    scenario: Scenario
    point: Mapping[str, Any]
    index: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """The plan of a sweep.

    Attributes
    ----------
    keys : mapping
        The scenario's keys that all runs share.
    groups : tuple of tuple of Axis
        Axes that vary together; each group is one dimension.
    members : tuple of SweepRun
        The runs.
    converge, modified : bool
        Whether every run is a step-size study; with the modified flow.
    apart : bool
        Whether every run is solved individually (`gflow.sweeping.grouping`).
    """

    keys: Mapping[str, Any]
    groups: tuple[tuple[Axis, ...], ...]
    members: tuple[SweepRun, ...]
    converge: bool = False
    modified: bool = False
    apart: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of values along each dimension."""
        return tuple(len(group[0].values) for group in self.groups)

    @property
    def threads(self) -> int:
        """The largest number of threads of a run."""
        return max(m.scenario.threads for m in self.members)

    @property
    def gpus(self) -> bool:
        """Whether every run takes a GPU.

        Raises
        ------
        InputError
            If only some runs do, or a run names a GPU by its number: each worker sees one GPU.
        """
        devices = {m.scenario.device for m in self.members}
        on_gpu = {d for d in devices if d.startswith("cuda")}
        if on_gpu - {"cuda", "cuda:0"} or (on_gpu and on_gpu != devices):
            raise InputError(
                "every run of a sweep on GPUs takes one: the device must be cuda in all, got "
                + ", ".join(sorted(devices))
            )
        return bool(on_gpu)

    def default_folder(self) -> Path:
        """Return ``outputs/<scenario>-sweep/<hash of the runs>``."""
        ids = "".join(m.id for m in self.members) + ("apart" if self.apart else "")
        digest = hashlib.sha256(ids.encode()).hexdigest()
        return Path("outputs") / f"{self.members[0].scenario.name}-sweep" / digest[:8]

    def table(self) -> dict[str, Any]:
        """Return the keys and the ``[sweep]`` table as TOML values, which `make_plan` reads."""
        axes = [a for group in self.groups for a in group]
        flags = ("converge", "modified", "apart")
        table: dict[str, Any] = {name: getattr(self, name) for name in flags}
        table["zip"] = [[a.key for a in group] for group in self.groups if len(group) > 1]
        table["set"] = {a.key: list(a.values) for a in axes}
        return {**self.keys, "sweep": table}


def make_plan(
    source: str | Path,
    sets: Sequence[tuple[str, Any]] = (),
    zips: Sequence[Sequence[str]] = (),
    *,
    seeds: int | None = None,
    converge: bool = False,
    modified: bool = False,
    apart: bool = False,
    allow_code: bool = False,
) -> Plan:
    """Read a scenario and its ``[sweep]`` table, and plan the runs.

    Options that are given take precedence over the table.

    Parameters
    ----------
    source : str or Path
        The name of a scenario, or the path of a ``.toml`` file.
    sets : sequence of (key, specification)
        As in `gflow.sweeping.axes`.
    zips : sequence of sequences of keys
        Axes that vary together, besides those of the table.
    seeds : int, optional
        The number of seeds, counted from the scenario's.
    converge, modified : bool
        Whether every run is a step-size study; with the modified flow.
    apart : bool
        Whether every run is solved individually.
    allow_code : bool
        Whether the file alone may name code to run (a user's model), which ``sets`` may always.

    Returns
    -------
    Plan

    Raises
    ------
    InputError
        If the scenario, the table or an option is invalid.

    Examples
    --------
    >>> plan = make_plan("deep-linear", [("depth", "2,3"), ("samples", "50")], seeds=2)
    >>> [(dict(m.point), m.scenario.samples) for m in plan.members][:2]
    [({'depth': 2, 'seed': 0}, 50), ({'depth': 2, 'seed': 1}, 50)]
    """
    keys = read_scenario(source)
    source = str(source)
    table = _validate_table(keys.pop("sweep", {}), source)
    model = model_of(keys, source)
    options = _specs_by_key(sets)
    specs = {**table.get("set", {}), **options}
    seeds = table.get("seeds") if seeds is None else seeds
    if seeds is not None:
        specs["seed"] = _seed_values(seeds, keys.get("seed", 0), specs)
    keys = with_fewer_samples(keys, specs)
    all_axes = [make_axis(key, spec, model) for key, spec in specs.items()]
    for axis in all_axes:
        if axis.singular and f"{axis.key}s" in specs:
            raise InputError(f"--set: {axis.key} is one of {axis.key}s; set only one of the two")
        if len(axis.values) == 1:
            changes = axis.changes(axis.values[0])
            keys |= {k: list(v) if isinstance(v, tuple) else v for k, v in changes.items()}
    axes = [axis for axis in all_axes if len(axis.values) > 1]
    if "seeds" in set(model.model_fields) - set(specs) and any(a.key == "seed" for a in axes):
        keys["seeds"] = 1  # one start per run, where a run would take several
    groups = group_axes(axes, [*table.get("zip", []), *zips])
    converge, modified, apart = (
        value or table.get(name, False)
        for name, value in (("converge", converge), ("modified", modified), ("apart", apart))
    )
    if modified and not converge:
        raise InputError("--modified measures step-size studies; add --converge")
    members = _make_members(keys, groups, source, (converge, modified))
    if not allow_code:
        for member in members:
            values = member.scenario.model_dump()
            refuse_code(member.scenario, {key: values.get(key) for key in options}, source)
    return Plan(keys, tuple(groups), members, converge, modified, apart)


def _specs_by_key(sets: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return the specifications by key; raise InputError if a key is given twice."""
    specs: dict[str, Any] = {}
    for name, spec in sets:
        key = name.replace("-", "_")
        if key in specs:
            joined = ",".join(dict.fromkeys(f"{specs[key]},{spec}".split(",")))
            example = "VALUE,VALUE" if ":" in joined else joined
            raise InputError(f"--set {key} is given twice; write --set {key}={example:.80}")
        specs[key] = spec
    return specs


def _make_members(
    keys: Mapping[str, Any], groups: Sequence[Sequence[Axis]], source: str, study: tuple[bool, bool]
) -> tuple[SweepRun, ...]:
    shape = [len(group[0].values) for group in groups]
    if math.prod(shape) > _MAX_RUNS:
        raise InputError(
            f"a sweep has at most {_MAX_RUNS} runs, got {math.prod(shape)}; set fewer values"
        )
    members = []
    for index in itertools.product(*map(range, shape)):
        point: dict[str, Any] = {}
        changes: dict[str, Any] = {}
        for group, i in zip(groups, index, strict=True):
            for axis in group:
                point[axis.key] = axis.values[i]
                changes |= axis.changes(axis.values[i])
        scenario = validate({**keys, **changes}, source)
        members.append(SweepRun(_run_id(scenario, study), scenario, point, index))
    return tuple(members)


def _run_id(scenario: Scenario, study: tuple[bool, bool]) -> str:
    inputs = [__version__, *study, scenario.resolved()]
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]


def _seed_values(count: Any, first: Any, specs: Mapping[str, Any]) -> list[int]:
    if "seed" in specs:
        raise InputError("seeds must be given once: use --seeds COUNT or --set seed=...")
    if type(count) is not int or not 1 <= count <= _MAX_RUNS or type(first) is not int:
        raise InputError(f"--seeds must be an integer from 1 to {_MAX_RUNS}, got {count!r:.80}")
    return list(range(first, first + count))


def _validate_table(table: Any, source: str) -> dict[str, Any]:
    """Return the ``[sweep]`` table of a file after checking its keys and types."""
    if not isinstance(table, dict):
        raise InputError(f"{source}: 'sweep' must be a table, got {table!r:.80}")
    for key, value in table.items():
        if key not in _TABLE_KEYS:
            raise InputError(f"{source}: [sweep]: {unknown('key', key, _TABLE_KEYS)}")
        valid = {
            "set": isinstance(value, dict),
            "zip": isinstance(value, list)
            and all(isinstance(g, list) and all(isinstance(k, str) for k in g) for g in value),
        }.get(key, isinstance(value, int))
        if not valid:
            raise InputError(
                f"{source}: [sweep]: '{key}' cannot be {value!r:.80}; see docs/sweeps.md"
            )
    return table
