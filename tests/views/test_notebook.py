"""A notebook, run headless: progress, short forms, figures, and a run that is resumed."""

import os
import re

import pytest

nbformat = pytest.importorskip("nbformat")

CELLS = [
    """
import torch, gflow
loss = gflow.losses.SquaredDistance(torch.diag(torch.tensor([3.0, 1.0])).double())
flow, start = gflow.EndToEndFlow(loss, depth=2), 0.01 * torch.eye(2).double()
path = gflow.integrate(flow, start, torch.linspace(0, 5, 51), method="tsit5", progress=True)
""",
    "path",
    """
%matplotlib inline
axes = gflow.plot(path, gflow.descend(flow, start, 0.05, 100), exact=True)
""",
    "gflow.step_size_study(flow, start, 2.0, [0.1, 0.05, 0.025], progress=True)",
    """
from gflow.errors import Interrupted
from gflow.runs import Job, RunOptions, resume, run
from gflow.scenario import load_scenario
keys = {"data": "synthetic", "samples": 12, "inputs": 3, "points": 3, "t_end": 1.0}
job = Job(load_scenario("deep-matrix", keys))
try:
    run(job, "interrupted", RunOptions(draw=False, max_walltime=1e-9))
except Interrupted as stop:
    resume(stop.folder, RunOptions(draw=False))
run(job, "whole", RunOptions(draw=False))
bool(gflow.load_run("interrupted").result.equals(gflow.load_run("whole").result))
""",
    "gflow.load_run('interrupted')",
]


def outputs(cell, kind):
    return [output.data[kind] for output in cell.outputs if kind in output.get("data", {})]


@pytest.mark.slow  # it starts a kernel; tests/test_callbacks.py has the bar, test_html.py the forms
def test_a_notebook_shows_progress_forms_figures_and_a_resumed_run(tmp_path):
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    os.environ.pop("MPLBACKEND", None)
    resources = {"metadata": {"path": str(tmp_path)}}
    client = nbclient.NotebookClient(book, timeout=600, kernel_name="python3", resources=resources)
    client.execute()
    solve, shown, drawn, study, resumed, loaded = book.cells
    (bar,) = outputs(solve, "text/html")
    assert re.search(r"<progress max='1' value='1.0000'></progress> 100 %  t = 5 of 5", bar)
    (form,) = outputs(shown, "text/html")
    assert "certificate holds" in form
    assert "data:image/png;base64," in form
    assert outputs(drawn, "image/png")
    *bars, form = outputs(study, "text/html")
    assert len(bars) == 4  # the flow and three descents
    assert "order" in form
    assert outputs(resumed, "text/plain") == ["True"]
    assert "certificate holds" in outputs(loaded, "text/html")[0]
