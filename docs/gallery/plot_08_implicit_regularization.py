"""
Implicit regularization: descent prefers small gradients
========================================================

Descent with a finite step follows the flow of L + (η/4)‖∇L‖² rather than that of L, so at *equal
loss* its gradient is smaller than the flow's, the more so the larger the step (Barrett and Dherin
2021, `arXiv:2009.11162 <https://arxiv.org/abs/2009.11162>`__). The study measures it and compares
it with what the modified flow predicts, without a fitted constant.
"""

import matplotlib.pyplot as plt
import torch
from torch import nn

import gflow
from gflow.preparation import one_hot
from gflow.studies import implicit_regularization

torch.manual_seed(0)
module = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10)).double()


def criterion(outputs, targets):
    return 0.5 * (outputs - targets).square().sum(1).mean()


data = gflow.data.load("digits")
X = torch.as_tensor(data.inputs[:100]) / 8
flow = gflow.NetworkFlow(module, criterion, X - X.mean(0), torch.as_tensor(one_hot(data)[:100]))

sizes = [0.16, 0.08, 0.04]
result = implicit_regularization(flow, flow.pack(), 8.0, sizes, points=25, rtol=1e-6, atol=1e-9)

# %%
# The squared gradient over time, and relative to that of the flow at equal loss.

result.plot(observable="implicit_regularization")
plt.show()

# %%
# The same ratio over time: circles for descent, lines for the modified flow.

figure, axes = plt.subplots()
for i, size in enumerate(sizes):
    descent = result.study.descents[i]
    colour = plt.get_cmap("viridis")(i / len(sizes))
    modified = result.study.modified_trajectories[i]
    axes.plot(modified.ts, result.modified_ratios[i], color=colour)
    axes.plot(
        descent.ts,
        result.descent_ratios[i],
        "o",
        ms=4,
        mfc="none",
        color=colour,
        label=f"η = {size}",
    )
axes.axhline(1, color="k", lw=0.8)
axes.set(xlabel="time t = step size × steps", ylabel="‖∇L‖² relative to the flow's")
axes.legend(title="descent; lines: modified flow")
plt.show()

for size, ratios in zip(sizes, result.descent_ratios, strict=True):
    print(f"η = {size}: median ratio {float(ratios.nanmedian()):.3f}")
