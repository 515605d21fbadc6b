"""
Your own network: a convolutional network on digits
===================================================

Any ``torch.nn.Module`` has a gradient flow. Give it with a criterion and a batch: flow, descent,
gap and sharpness follow. Nothing of the module needs to be changed.
"""

import matplotlib.pyplot as plt
import torch
from torch import nn

import gflow

torch.manual_seed(0)
module = nn.Sequential(
    nn.Unflatten(1, (1, 8, 8)),
    nn.Conv2d(1, 6, 3, stride=2),
    nn.Tanh(),
    nn.Conv2d(6, 12, 2),
    nn.Tanh(),
    nn.Flatten(),
    nn.Linear(48, 10),
).double()

data = gflow.data.load("digits")
X = torch.as_tensor(data.inputs[:200])
X = (X - X.mean()) / X.std()
labels = torch.as_tensor(data.targets[:200, 0]).long()
flow = gflow.NetworkFlow(module, nn.functional.cross_entropy, X, labels)

# %%
# The flow with its sharpness (the largest eigenvalue of the Hessian) at every time, and descent
# with two step sizes.

theta = flow.pack()
trajectory = gflow.integrate(flow, theta, torch.linspace(0, 30, 51), rtol=1e-5, sharpness=1)
descents = [gflow.descend(flow, theta, size, steps=round(30 / size)) for size in (0.3, 0.15)]
gaps = [gflow.compare(trajectory, descent) for descent in descents]

print(len(theta), "parameters;", trajectory.stats.method, trajectory.stats.rhs_evals, "evaluations")
print("certificate holds:", trajectory.certificate.holds)

# %%
# Losses of the three coincide; the gap of the parameters shows the difference. Half the step
# size, half the gap.

figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.6))
left.plot(trajectory.ts, trajectory.losses, "k", lw=2.5, label="flow")
for descent, colour in zip(descents, ("C1", "C0"), strict=True):
    left.plot(
        descent.ts, descent.losses, color=colour, ls="--", label=f"step size {descent.step_size}"
    )
left.set(xlabel="time t = step size × steps", ylabel="cross-entropy", ylim=(0, None))
left.legend()
for gap, descent, colour in zip(gaps, descents, ("C1", "C0"), strict=True):
    right.plot(gap.ts, gap.parameters, color=colour, label=f"step size {descent.step_size}")
right.set(xlabel="time", ylabel="gap of the parameters to the flow", yscale="log")
right.legend()
plt.show()

# %%
# Descent is stable while the sharpness is below 2/step size, as it is here throughout.

figure, axes = plt.subplots()
axes.plot(trajectory.ts, trajectory.sharpness[:, 0], "k")
for descent, colour in zip(descents, ("C1", "C0"), strict=True):
    axes.axhline(2 / descent.step_size, color=colour, ls=":")
    axes.annotate(
        f"2/η for η = {descent.step_size}",
        (0, 2 / descent.step_size),
        (4, 3),
        textcoords="offset points",
        color=colour,
    )
axes.set(xlabel="time", ylabel="sharpness of the flow", ylim=(0, None))
plt.show()
