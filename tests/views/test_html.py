"""Short texts and notebook forms."""

import dataclasses
import re

import pytest

import gflow
from gflow.display import Display
from tests.views.examples import FLOW, KINDS, value


@pytest.mark.parametrize("kind", KINDS)
def test_a_value_is_one_short_line(kind):
    text = repr(value(kind))
    assert text.startswith(f"{type(value(kind)).__name__}(")
    assert "\n" not in text
    assert len(text) < 350
    assert "0x" not in text


def test_a_flow_says_what_it_is_of():
    assert repr(FLOW) == "EndToEndFlow(SquaredDistance(2 × 2), depth 2, state 2 × 2)"
    assert repr(gflow.ModifiedFlow(FLOW.parameter_flow, 0.1)) == (
        "ModifiedFlow(of LayerwiseFlow(SquaredDistance(2 × 2), widths 2, 2, 2, state 8), state 8)"
    )

    class Half(gflow.flows.ParameterFlow):
        def loss(self, y):
            return y.sum()

        def __call__(self, t, y):
            return y

    assert repr(Half()) == "Half()"  # it has no state_shape


def test_notebook_form_has_verdict_cost_and_picture():
    html = value("trajectory")._repr_html_()
    assert "certificate holds" in html
    assert "evaluations" in html
    assert "data:image/png;base64," in html
    assert "http" not in html


def test_a_certificate_that_does_not_hold_is_said_and_texts_are_escaped():
    path = value("trajectory")
    certificate = dataclasses.replace(path.certificate, underflow="<b> & below")
    html = dataclasses.replace(path, certificate=certificate)._repr_html_()
    assert "certificate DOES NOT HOLD" in html
    assert "&lt;b&gt; &amp; below" in html
    assert re.search(r"<b> &", html) is None


def test_every_study_can_be_drawn():
    studies = {name for name in gflow.studies.__all__ if name[0].isupper()}
    # Parts of a study, and what is one point.
    parts = {"Completed", "Edge", "OrderFit", "PowerLaw", "CriticalPoint"}
    for name in studies - parts:
        assert issubclass(getattr(gflow.studies, name), Display)
