"""
Wide networks follow their kernel
=================================

As a two-layer ReLU network becomes wider, its outputs follow the kernel flow u̇ = −H(u − y) of an
infinitely wide one (Du et al. 2019, `arXiv:1810.02054 <https://arxiv.org/abs/1810.02054>`__). The
distance should shrink like 1/√width. A study trains networks of several widths beside the kernel.
"""

import matplotlib.pyplot as plt
import torch

import gflow
from gflow.preparation import signs, subset, unit_rows
from gflow.studies import width_study

# %%
# Forty images of zeros and ones as points on the sphere, labels ±1.

data = subset(gflow.data.load("digits"), samples=40, classes=["0", "1"])
X = torch.as_tensor(unit_rows(data.inputs))
y = torch.as_tensor(signs(data))[:, 0]
widths = [64, 256, 1024]
study = width_study(X, y, widths, seeds=range(4), epochs=400, points=40, rtol=1e-3, atol=1e-6)

# %%
# The distance rises, peaks, and falls as network and kernel both fit the data. Wider networks
# stay closer.

study.plot(observable="distance")
plt.show()

# %%
# The largest distance against the width, with the fitted slopes.

study.plot(observable="peak")
plt.show()

peaks = study.measured["descent_distance"].max(-1).values.median(1).values
print("medians of the largest distance:", [round(float(value), 3) for value in peaks])
