"""
First evening: modes are learned one after another
==================================================

A three-layer linear network regresses the ten classes of the handwritten digits on their pixels.
From a small start its singular values grow one after another, the largest first. Gradient descent
with a large step does the same, a little behind or ahead: the gap is measured beside the solver's
own error.
"""

import matplotlib.pyplot as plt
import torch

import gflow
from gflow.preparation import one_hot, standardise

# %%
# The data, and the flow of the product W = W₃W₂W₁: the equation that the three layers induce.

data = gflow.data.load("digits")
X = torch.as_tensor(standardise(data.inputs))
Y = torch.as_tensor(one_hot(data) - one_hot(data).mean(0))
flow = gflow.EndToEndFlow(gflow.losses.LinearRegression(X, Y), depth=3)

generator = torch.Generator().manual_seed(0)
W0 = torch.randn(10, X.shape[1], generator=generator, dtype=torch.float64)
W0 *= 0.03 / W0.norm()

# %%
# The flow to time 60, and 120 steps of size 0.5 on the layers. The certificate says how far the
# path can be trusted, and ``compare`` how far descent is from it at the same time.

trajectory = gflow.integrate(flow, W0, torch.linspace(0, 60, 121))
descent = gflow.descend(flow, W0, step_size=0.5, steps=120)
gap = gflow.compare(trajectory, descent)

print("certificate holds:", trajectory.certificate.holds)
print(f"largest gap of descent to the flow: {gap.largest:.2g}")

# %%
# Lines are the flow, circles gradient descent.

gflow.plot(trajectory, descent, observable="singular_values")
plt.show()

# %%
# Each value draws itself, too, in your own axes if you pass them: here the gap, and what is left
# of it relative to the size of W.

figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.4))
gap.plot(ax=left)
norms = trajectory.ys.flatten(1).norm(dim=1)
right.plot(gap.ts, gap.end_to_end / norms[: len(gap.ts)])
right.set(xlabel="time", ylabel="gap relative to ‖W‖", ylim=(0, None))
plt.show()
