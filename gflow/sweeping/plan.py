"""The runs of a sweep: every point of its axes as a validated scenario with an id.

A sweep is a scenario and a table that says what varies, on the command line or in TOML::

    [sweep]
    seeds = 20                            # seed, seed + 1, ...: an axis `seed`
    zip = [["width", "init_scale"]]       # these go together
    [sweep.set]
    width = [128, 512, 2048]
    init_scale = [0.1, 0.05, 0.02]
    step_size = "log:1e-3:1:7"

A run's id is the hash of its resolved scenario and gflow's version: the same run has the
same folder in every sweep, and nothing is run twice.
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
from gflow.scenario import read_scenario, refuse_code, setting_model, validate
from gflow.settings.base import Scenario
from gflow.sweeping.axes import Axis, axis, zipped
from gflow.text import unknown

_MAX_RUNS = 100_000
_TABLE = ("set", "zip", "seeds", "converge", "modified", "apart")


@dataclass(frozen=True)
class Member:
    """One run of a sweep: its scenario, its values by axis, and its place along each dimension."""

    id: str
    scenario: Scenario
    at: Mapping[str, Any]
    index: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """A sweep: keys common to all runs, axes in groups (a dimension each), and the runs.

    ``converge`` makes every run a step-size study, ``modified`` with the modified flow. With
    ``apart`` every run is solved on its own (`gflow.sweeping.grouping`).
    """

    keys: Mapping[str, Any]
    groups: tuple[tuple[Axis, ...], ...]
    members: tuple[Member, ...]
    converge: bool = False
    modified: bool = False
    apart: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """How many values each dimension has."""
        return tuple(len(group[0].values) for group in self.groups)

    @property
    def threads(self) -> int:
        """The most threads that a run takes."""
        return max(m.scenario.threads for m in self.members)

    @property
    def gpus(self) -> bool:
        """Whether runs take a GPU each.

        Raises
        ------
        InputError
            If some do and others not, or one by its number: each worker is given one GPU.
        """
        devices = {m.scenario.device for m in self.members}
        on_gpu = {d for d in devices if d.startswith("cuda")}
        if on_gpu - {"cuda", "cuda:0"} or (on_gpu and on_gpu != devices):
            raise InputError(
                "a sweep on GPUs gives every run one: the device must be cuda in all, got "
                + ", ".join(sorted(devices))
            )
        return bool(on_gpu)

    def default_folder(self) -> Path:
        """``outputs/<scenario>-sweep/<hash of the runs>``: the same for the same sweep."""
        ids = "".join(m.id for m in self.members) + ("apart" if self.apart else "")
        digest = hashlib.sha256(ids.encode()).hexdigest()
        return Path("outputs") / f"{self.members[0].scenario.name}-sweep" / digest[:8]

    def table(self) -> dict[str, Any]:
        """The keys with their ``[sweep]`` table, ready for TOML: `make_plan` reads it back."""
        axes = [a for group in self.groups for a in group]
        said = ("converge", "modified", "apart")
        table: dict[str, Any] = {name: getattr(self, name) for name in said}
        table["zip"] = [[a.key for a in group] for group in self.groups if len(group) > 1]
        table["set"] = {a.key: list(a.values) for a in axes}
        return {**self.keys, "sweep": table}


def make_plan(
    source: str,
    sets: Sequence[tuple[str, Any]] = (),
    zips: Sequence[Sequence[str]] = (),
    *,
    seeds: int | None = None,
    converge: bool = False,
    modified: bool = False,
    apart: bool = False,
    code: bool = False,
) -> Plan:
    """Read a scenario and its ``[sweep]`` table, add to the table, and make the runs.

    Parameters
    ----------
    source : str
        The name of a scenario, or the path of a ``.toml`` file.
    sets : sequence of (key, specification)
        As in `gflow.sweeping.axes`; in place of the table's for the same key.
    zips : sequence of sequences of keys
        Axes that go together, besides the table's.
    seeds : int, optional
        So many seeds from the scenario's on.
    converge, modified : bool
        Step-size studies instead of runs; with the modified flow.
    apart : bool
        Whether no runs are solved together.
    code : bool
        Whether the file may name code (a model of one's own) that ``sets`` does not name too.

    Raises
    ------
    InputError
        For anything that does not fit, in one line.

    Examples
    --------
    >>> plan = make_plan("deep-linear", [("depth", "2,3"), ("samples", "50")], seeds=2)
    >>> [(dict(m.at), m.scenario.samples) for m in plan.members][:2]
    [({'depth': 2, 'seed': 0}, 50), ({'depth': 2, 'seed': 1}, 50)]
    """
    keys = read_scenario(source)
    table = _checked(keys.pop("sweep", {}), source)
    model = setting_model(keys.get("setting"), source)
    wanted = {**table.get("set", {}), **{key.replace("-", "_"): spec for key, spec in sets}}
    seeds = table.get("seeds") if seeds is None else seeds
    if seeds is not None:
        wanted["seed"] = _seeds(seeds, keys.get("seed", 0), wanted)
    found = [axis(key, spec, model) for key, spec in wanted.items()]
    twice = [a.key for a in found if a.of_list and f"{a.key}s" in wanted]
    if twice:
        raise InputError(f"--set: {twice[0]} is one of {twice[0]}s; set one of the two")
    for fixed in (a for a in found if len(a.values) == 1):
        keys |= {
            k: list(v) if isinstance(v, tuple) else v
            for k, v in fixed.change(fixed.values[0]).items()
        }
    axes = [a for a in found if len(a.values) > 1]
    if "seeds" in set(model.model_fields) - set(wanted) and any(a.key == "seed" for a in axes):
        keys["seeds"] = 1  # one start a run, where a run would take several of its own
    groups = zipped(axes, [*table.get("zip", []), *zips])
    converge, modified, apart = (
        value or table.get(name, False)
        for name, value in (("converge", converge), ("modified", modified), ("apart", apart))
    )
    if modified and not converge:
        raise InputError("--modified measures step-size studies; say --converge too")
    members = _members(keys, groups, source, (converge, modified))
    if not code:
        said = {key.replace("-", "_") for key, _ in sets}
        for member in members:
            values = member.scenario.model_dump()
            refuse_code(member.scenario, {k: values.get(k) for k in said}, source)
    return Plan(keys, tuple(groups), members, converge, modified, apart)


def _members(
    keys: Mapping[str, Any], groups: Sequence[Sequence[Axis]], source: str, study: tuple[bool, bool]
) -> tuple[Member, ...]:
    shape = [len(group[0].values) for group in groups]
    if math.prod(shape) > _MAX_RUNS:
        raise InputError(f"a sweep is of at most {_MAX_RUNS} runs, got {math.prod(shape)}")
    members = []
    for index in itertools.product(*map(range, shape)):
        at: dict[str, Any] = {}
        changes: dict[str, Any] = {}
        for group, i in zip(groups, index, strict=True):
            for one in group:
                at[one.key] = one.values[i]
                changes |= one.change(one.values[i])
        scenario = validate({**keys, **changes}, source)
        members.append(Member(_identity(scenario, study), scenario, at, index))
    return tuple(members)


def _identity(scenario: Scenario, study: tuple[bool, bool]) -> str:
    what = [__version__, *study, scenario.resolved()]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


def _seeds(count: Any, first: Any, wanted: Mapping[str, Any]) -> list[int]:
    if "seed" in wanted:
        raise InputError("say the seeds once: by --seeds COUNT or by --set seed=...")
    if type(count) is not int or not 1 <= count <= _MAX_RUNS or type(first) is not int:
        raise InputError(f"--seeds must be a whole number from 1 to {_MAX_RUNS}, got {count!r:.80}")
    return list(range(first, first + count))


def _checked(table: Any, source: str) -> dict[str, Any]:
    """The ``[sweep]`` table of a file, its types checked."""
    if not isinstance(table, dict):
        raise InputError(f"{source}: 'sweep' must be a table, got {table!r:.80}")
    for key, value in table.items():
        if key not in _TABLE:
            raise InputError(f"{source}: [sweep]: {unknown('key', key, _TABLE)}")
        good = {
            "set": isinstance(value, dict),
            "zip": isinstance(value, list)
            and all(isinstance(g, list) and all(isinstance(k, str) for k in g) for g in value),
        }.get(key, isinstance(value, int))
        if not good:
            raise InputError(
                f"{source}: [sweep]: '{key}' cannot be {value!r:.80}; see docs/sweeps.md"
            )
    return table
