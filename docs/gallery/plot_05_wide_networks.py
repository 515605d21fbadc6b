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

distance = study.measured["descent_distance"]  # (width, seed, epoch)
figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.6))
for i, width in enumerate(widths):
    colour = plt.get_cmap("viridis")(i / len(widths))
    left.semilogx(study.epochs[1:], distance[i, :, 1:].T, color=colour, lw=0.7, alpha=0.6)
    left.semilogx(
        study.epochs[1:],
        distance[i, :, 1:].median(0).values,
        color=colour,
        lw=2.5,
        label=f"width {width}",
    )
left.set(xlabel="epoch", ylabel="distance of network and kernel outputs", ylim=(0, None))
left.legend()

peaks = distance.max(-1).values
right.loglog(widths, peaks, "o", color="C0", ms=4)
middle = peaks.median(1).values
right.loglog(widths, middle, "C0-", label="median of 4 seeds")
right.loglog(
    widths, [middle[0] * (widths[0] / w) ** 0.5 for w in widths], "k:", label="width$^{-1/2}$"
)
right.set(xlabel="width", ylabel="largest distance")
right.legend()
plt.show()

print("medians of the largest distance:", [round(float(value), 3) for value in middle])
