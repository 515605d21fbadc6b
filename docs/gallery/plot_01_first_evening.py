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

modes = trajectory.observables()["singular_values"]
steps = descent.flow.observables(descent.ys)["singular_values"]
colours = plt.get_cmap("viridis")(torch.linspace(0, 0.9, 9).numpy())

figure, axes = plt.subplots()
for r in range(9):
    axes.plot(trajectory.ts, modes[:, r], color=colours[r])
    axes.plot(descent.ts[::4], steps[::4, r], "o", ms=3.5, mfc="none", color=colours[r])
axes.annotate(
    "first mode",
    (trajectory.ts[-1], modes[-1, 0]),
    (-4, 4),
    **{"textcoords": "offset points", "ha": "right", "va": "bottom", "color": colours[0]},
)
axes.set(xlabel="time t = step size × steps", ylabel="singular values of W")
axes.set_title("Nine modes of the digits, learned one after another", loc="left")
plt.show()
