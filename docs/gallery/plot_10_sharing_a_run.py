"""
Sharing a run
=============

A run is a folder with all that somebody else needs: the scenario, labelled arrays, the numbers of
the table, versions and seed, figures. Opening one runs no code, so a folder from anybody is safe
to look at.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

import gflow
from gflow.runs import Job, run
from gflow.scenario import load_scenario

# %%
# On a terminal: ``gflow factorization --t-end 600 --output completion``.

scenario = load_scenario(
    "factorization", {"t_end": 600.0, "rtol": 1e-6, "atol": 1e-10, "samples": 200}
)
folder = run(Job(scenario), Path(tempfile.mkdtemp()) / "completion").path
for file in sorted(folder.rglob("*")):
    if file.is_file():
        print(f"{file.relative_to(folder).as_posix():32} {file.stat().st_size / 1024:8.1f} kB")

# %%
# Send the folder, or what ``gflow report completion`` writes: one HTML file with the verdict in
# words, figures, and how to repeat the run. What the other person does with the folder:

shared = gflow.load_run(folder)
print(
    "state:",
    shared.manifest["state"],
    "· certificate holds:",
    shared.summary["certificate"]["holds"],
)
print("seed:", shared.manifest.get("seed", scenario.seed))
print(shared.result["loss"].attrs)

# %%
# Completion of a correlation matrix as W = UUᵀ: from a small start the eigenvalues appear one
# after another.

shared.plot(observable="eigenvalues")
plt.show()

# %%
# The arrays are an ``xarray.Dataset``, with names and units, for figures of your own.

shared.result["held_out_error"].plot()
plt.show()
