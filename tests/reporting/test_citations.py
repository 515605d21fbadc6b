"""Citations: complete, valid, and of what the run used."""

import re

import pytest

from gflow.errors import InputError
from gflow.reporting.citations import METHODS, OWN, citations_of, cite, parse, references, software
from gflow.runs import Job
from gflow.scenario import load_scenario, scenario_names, setting_models
from gflow.solvers.selection import methods
from gflow.solvers.torchdiffeq import TorchdiffeqSolver
from tests.reporting.pages import two_runs


def test_entries_are_whole():
    for reference in (*references().values(), software()):
        assert reference.bibtex.count("{") == reference.bibtex.count("}")
        assert re.match(r"@\w+\{\w+,\n", reference.bibtex)
        assert reference.field("title")
        assert reference.field("author")
        assert reference.text.endswith(".")
        assert not set("{}\\") & set(reference.text)


def test_every_scenario_has_a_paper_and_every_entry_is_used():
    used = {key for model in setting_models().values() for key in model.papers}
    assert all(type(load_scenario(name)).papers for name in scenario_names())
    assert used <= set(references())
    extra = {"barrett2021implicit", "chen2018neural"}  # of modified flows, and of torchdiffeq
    assert used | set(METHODS.values()) | extra == set(references())


def test_every_method_is_cited():
    job = Job(load_scenario("factorization"))
    for name in methods():
        if name in OWN:
            continue
        keys = {reference.key for reference in citations_of(job, name)}
        expected = {METHODS.get(name.partition(":")[0], "chen2018neural")}
        assert expected <= keys, name
    assert {*TorchdiffeqSolver.names} <= {*methods()}


def test_a_step_size_study_with_the_modified_flow_cites_its_theory():
    scenario = load_scenario("deep-linear")
    plain = [r.key for r in citations_of(Job(scenario, True), "tsit5, bdf")]
    modified = [r.key for r in citations_of(Job(scenario, True, True), "tsit5, bdf")]
    assert [key for key in modified if key not in plain] == ["barrett2021implicit"]
    assert plain[-2:] == ["tsitouras2011runge", "hairer1993solving"]


def test_versions_of_others_do_not_end_the_entry():
    (entry,) = parse(software('1.0}\n}\n@evil{x, "').bibtex).values()
    assert entry.field("version") == "1.0evilx"


def test_cite_a_run(tmp_path):
    keys = [reference.key for reference in cite(two_runs()[0])]
    assert keys[:2] == ["gflow", "arora2018optimization"]
    with pytest.raises(InputError, match="no run at"):
        cite(tmp_path)
