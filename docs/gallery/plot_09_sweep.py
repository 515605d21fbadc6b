"""
A sweep: how long a small start waits
=====================================

A sweep runs one scenario at many points on all cores, can be interrupted and resumed, and
collects the results in one dataset. Here: the time at which a linear network leaves its small
start, over the size of the start and the depth. Theory: it grows with log(1/scale) at depth 2,
and with a power of 1/scale beyond.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

import gflow

# %%
# On a terminal: ``gflow sweep deep-linear --set init_scale=log:3e-3:0.1:4 --set depth=2,3,4
# --output starts``.

folder = Path(tempfile.mkdtemp()) / "starts"
swept = {"init_scale": "log:3e-3:0.1:4", "depth": "2,3,4"}
same = {"t_end": 50, "points": 100, "step_sizes": 0.5, "estimate_error": "false", "rtol": 1e-6}
options = [f"--set={key}={value}" for key, value in {**swept, **same}.items()]
command = [sys.executable, "-m", "gflow", "sweep", "deep-linear", *options, "--workers=1"]
subprocess.run([*command, f"--output={folder}"], check=True, capture_output=True)

# %%
# One dataset over the swept keys: numbers of every run, and its curves.

sweep = gflow.load_sweep(folder)
print(sweep["loss"].dims, sweep["loss"].shape)

half = 0.5 * (sweep["loss"].isel(time=0) + sweep["loss"].isel(time=-1))
waiting = sweep["time"].where(sweep["loss"] < half).min("time")

figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.6))
deep = sweep["loss"].sel(depth=3)
for i, scale in enumerate(deep["init_scale"].values):
    colour = plt.get_cmap("viridis")(i / 4)
    left.plot(deep["time"], deep.sel(init_scale=scale), color=colour, label=f"start {scale:.2g}")
left.set(xlabel="time", ylabel="loss at depth 3", xlim=(0, 30))
left.legend()
for depth in waiting["depth"].values:
    right.loglog(waiting["init_scale"], waiting.sel(depth=depth), "o-", label=f"depth {depth}")
right.set(xlabel="size of the start", ylabel="time to half of the drop")
right.legend()
plt.show()
