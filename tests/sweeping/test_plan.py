"""Plans: the runs of a sweep, equal from options and from TOML, each with its id."""

import itertools

import pytest
import tomli_w

from gflow.errors import InputError
from gflow.scenario import load_scenario
from gflow.sweeping import plan as plans
from gflow.sweeping.plan import make_plan

SETS = [("depth", "2,3"), ("init_scale", "0.1,0.2"), ("step_size", "0.1,0.2,0.4"), ("samples", "9")]


def test_axes_are_crossed_unless_they_are_zipped():
    plan = make_plan("deep-linear", SETS, [["depth", "init_scale"]])
    assert plan.shape == (2, 3)
    assert [dict(m.point) for m in plan.members] == [
        {"depth": depth, "init_scale": scale, "step_size": step}
        for (depth, scale), step in itertools.product([(2, 0.1), (3, 0.2)], [0.1, 0.2, 0.4])
    ]
    member = plan.members[4]
    assert member.index == (1, 1)
    changes = {"depth": 3, "init_scale": 0.2, "step_sizes": (0.2,), "samples": 9}
    assert member.scenario == load_scenario("deep-linear", changes)


def test_table_in_toml_gives_the_same_plan(tmp_path):
    by_options = make_plan("deep-linear", SETS, [["depth", "init_scale"]], seeds=2, converge=True)
    keys = {**load_scenario("deep-linear").resolved(), "seed": 0}
    table = {"set": dict(SETS), "zip": [["depth", "init_scale"]], "seeds": 2, "converge": True}
    (tmp_path / "mine.toml").write_text(tomli_w.dumps({**keys, "sweep": table}))
    by_file = make_plan(str(tmp_path / "mine.toml"))
    assert [m.id for m in by_file.members] == [m.id for m in by_options.members]
    assert by_file.groups == by_options.groups
    (tmp_path / "again.toml").write_text(tomli_w.dumps(by_options.table()))
    again = make_plan(str(tmp_path / "again.toml"))
    assert (again.members, again.converge, again.apart) == (by_options.members, True, False)
    apart = make_plan("deep-linear", SETS, apart=True)
    (tmp_path / "apart.toml").write_text(tomli_w.dumps(apart.table()))
    assert make_plan(str(tmp_path / "apart.toml")).apart
    assert apart.members == make_plan("deep-linear", SETS).members  # the same runs


def test_options_take_precedence_over_the_table(tmp_path):
    keys = load_scenario("deep-linear").resolved()
    (tmp_path / "a.toml").write_text(tomli_w.dumps({**keys, "sweep": {"set": {"depth": [2, 3]}}}))
    assert make_plan(str(tmp_path / "a.toml"), [("depth", "4,5,6")]).shape == (3,)


def test_file_with_a_sweep_table_is_still_a_scenario(tmp_path):
    keys = load_scenario("deep-linear").resolved()
    (tmp_path / "a.toml").write_text(tomli_w.dumps({**keys, "sweep": {"seeds": 3}}))
    assert load_scenario(str(tmp_path / "a.toml")) == load_scenario("deep-linear")


def test_seeds_count_from_the_scenarios_and_leave_each_run_one_start(tmp_path):
    plan = make_plan("wide-network", [("seed", "5")], seeds=None)
    assert plan.shape == ()
    assert [m.scenario.seeds for m in plan.members] == [2]  # as in the scenario: not swept
    plan = make_plan("wide-network", [("width", "16,32")], seeds=3)
    assert [(m.scenario.widths, m.scenario.seed, m.scenario.seeds) for m in plan.members][2:4] == [
        ((16,), 2, 1),
        ((32,), 0, 1),
    ]
    plan = make_plan("wide-network", [("seeds", "4")], seeds=3)
    assert {m.scenario.seeds for m in plan.members} == {4}


def test_ids_depend_on_the_scenario_the_study_and_the_version_only(monkeypatch):
    plan = make_plan("deep-linear", SETS)
    ids = [m.id for m in plan.members]
    assert len(set(ids)) == len(ids) == 12
    assert ids == [m.id for m in make_plan("deep-linear", SETS).members]
    more = make_plan("deep-linear", [*SETS[:2], ("step_size", "0.1,0.2,0.4,0.8"), SETS[3]])
    assert set(ids) < {m.id for m in more.members}  # a sweep that grew keeps its runs
    assert not set(ids) & {m.id for m in make_plan("deep-linear", SETS, converge=True).members}
    monkeypatch.setattr(plans, "__version__", "0.0.0")
    assert not set(ids) & {m.id for m in make_plan("deep-linear", SETS).members}


@pytest.mark.parametrize(
    ("sets", "options", "message"),
    [
        ([("depth", "0,1")], {}, "depth: .* got 0"),
        ([("step_size", "0.1,0.2"), ("step_sizes", "0.1")], {}, "set only one of the two"),
        ([("depth", "2"), ("depth", "3")], {}, "--set depth is given twice; .* --set depth=2,3$"),
        ([("t-end", "1,2"), ("t_end", "2,3")], {}, "t_end is given twice; .* --set t_end=1,2,3$"),
        ([("depth", "2:4"), ("depth", "9")], {}, "depth is given twice; .* depth=VALUE,VALUE$"),
        ([("seed", "0,1")], {"seeds": 2}, "seeds must be given once"),
        ([], {"seeds": 0}, "from 1 to"),
        ([], {"modified": True}, "--converge"),
        ([("seed", "1:1000"), ("depth", "1:100"), ("points", "2,3")], {}, "at most 100000 runs"),
    ],
)
def test_invalid_options_are_refused_in_one_line(sets, options, message):
    with pytest.raises(InputError, match=message) as caught:
        make_plan("deep-linear", sets, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (3, "must be a table"),
        ({"sets": {}}, "did you mean 'set'"),
        ({"set": 3}, "'set' cannot be 3"),
        ({"zip": ["depth"]}, "'zip' cannot be"),
        ({"seeds": "many"}, "'seeds' cannot be"),
        ({"set": {"depth": {"a": 1}}}, "must be a value or a list"),
    ],
)
def test_invalid_tables_are_refused_in_one_line(table, message, tmp_path):
    keys = load_scenario("deep-linear").resolved()
    (tmp_path / "a.toml").write_text(tomli_w.dumps({**keys, "sweep": table}))
    with pytest.raises(InputError, match=message) as caught:
        make_plan(str(tmp_path / "a.toml"))
    assert "\n" not in str(caught.value)


def test_all_runs_or_none_use_a_gpu():
    assert not make_plan("deep-linear", [("depth", "2,3")]).gpus
    assert make_plan("deep-linear", [("depth", "2,3"), ("device", "cuda")]).gpus
    for devices in ("cpu,cuda", "cuda:1"):
        with pytest.raises(InputError, match="the device must be cuda in all"):
            _ = make_plan("deep-linear", [("device", devices)]).gpus


def test_code_named_by_a_file_is_refused(tmp_path):
    keys = {**load_scenario("network").resolved(), "model": "package.module:make"}
    (tmp_path / "a.toml").write_text(tomli_w.dumps({**keys, "sweep": {"seeds": 2}}))
    with pytest.raises(InputError, match="names code to run"):
        make_plan(str(tmp_path / "a.toml"))
    plan = make_plan(str(tmp_path / "a.toml"), [("model", "package.module:make")])
    assert plan.shape == (2,)
    both = [("model", "package.module:make,other.module:make")]
    assert make_plan(str(tmp_path / "a.toml"), both).shape == (2, 2)


def test_only_swept_numbers_of_samples_refuse_smaller_data():
    def flags(*sets):
        return {m.scenario.fewer_samples for m in make_plan("network", list(sets)).members}

    assert flags(("data", "iris,wine")) == {True}
    assert flags(("samples", "20,30")) == flags(("samples", "20")) == {False}
