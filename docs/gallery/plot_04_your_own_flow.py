"""
Your own flow in five lines
===========================

A loss is enough for a flow: its gradient comes from automatic differentiation. Quantities that
you expect to be conserved become part of the certificate. Here is the smallest network that has a
valley of minima, with two weights in a row: the loss is ¼(ab − 1)², and a² − b² is conserved.
"""

import matplotlib.pyplot as plt
import torch

import gflow


def loss(w):
    return 0.25 * (w[0] * w[1] - 1) ** 2


flow = gflow.flow_from_loss(loss, {"a² − b²": lambda w: w[0] ** 2 - w[1] ** 2})
path = gflow.integrate(flow, torch.tensor([2.0, 0.1], dtype=torch.float64), [0.0, 1.0, 10.0])

print(path.certificate)

# %%
# Flow and descent from several starts. With a large step descent does not conserve a² − b²: it
# drifts towards balanced minima (a = b), where the valley is least sharp.

starts = torch.tensor(
    [[2.0, 0.1], [1.5, -0.4], [0.3, 1.9], [-0.6, 1.8], [-0.2, 0.9], [1.0, -0.7]],
    dtype=torch.float64,
)
flows = gflow.flow_from_loss(loss, shape=(2,))  # of an ensemble: all starts in one call
paths = gflow.integrate(flows, starts, torch.linspace(0, 60, 101))
descents = gflow.descend(flows, starts, step_size=0.9, steps=60)

figure, axes = plt.subplots(figsize=(5.6, 5.0))
a, b = torch.meshgrid(torch.linspace(-1, 2.6, 200), torch.linspace(-1, 2.6, 200), indexing="xy")
height = torch.log10(loss((a, b)) + 1e-3)
axes.imshow(height, extent=(-1, 2.6, -1, 2.6), origin="lower", cmap="Greys", vmax=3.5)
for i, start in enumerate(starts):
    axes.plot(*paths.ys[:, i].T, color="C0", lw=2.5)
    axes.plot(*descents.ys[:, i].T, "o-", color="C1", ms=3, lw=0.6)
    axes.plot(*start, "ko", ms=5)
axes.plot([], [], color="C0", label="gradient flow")
axes.plot([], [], "o-", color="C1", ms=3, lw=0.6, label="descent, step size 0.9")
axes.set(xlabel="a", ylabel="b", xlim=(-1, 2.6), ylim=(-1, 2.6), aspect="equal")
axes.legend(loc="upper right", frameon=True)
axes.grid(False)
plt.show()
