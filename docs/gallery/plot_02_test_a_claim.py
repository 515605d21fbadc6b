"""
Test a claim: balanced layers move as their product does
========================================================

Arora, Cohen and Hazan (`arXiv:1802.06509 <https://arxiv.org/abs/1802.06509>`__) show that the
product W of the layers of a linear network follows an equation of its own, if the start is
*balanced*: V₂ᵀV₂ = V₁V₁ᵀ for each layer V₂ and the layer V₁ below it. How wrong is the equation
where the start is only almost balanced? Theory says that the defect is conserved; the rest is
measured.
"""

import matplotlib.pyplot as plt
import torch

import gflow
from gflow.preparation import standardise

data = gflow.data.load("diabetes")
X, Y = torch.as_tensor(standardise(data.inputs)), torch.as_tensor(standardise(data.targets))
loss = gflow.losses.LinearRegression(X, Y)
product = gflow.EndToEndFlow(loss, depth=3)
layers = gflow.LayerwiseFlow(loss, dims=[10, 4, 4, 1])

# %%
# Layers that are balanced and whose product is ``W0``, plus a random perturbation of size δ.

W0 = torch.full((1, 10), 0.03, dtype=torch.float64)
balanced = layers.balanced_start(W0)
generator = torch.Generator().manual_seed(0)
direction = torch.randn(balanced.shape, generator=generator, dtype=torch.float64)
direction /= direction.norm()
sizes = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1]

# %%
# For each δ: the layers' flow, the product's flow from the same product, and the largest distance
# between the two. All five starts are one ensemble, solved in one call.

times = torch.linspace(0, 20, 81)
starts = torch.stack([balanced + size * direction for size in sizes])
of_layers = gflow.integrate(layers, starts, times, rtol=1e-9, atol=1e-12)
of_product = gflow.integrate(product, layers.end_to_end(starts), times, rtol=1e-9, atol=1e-12)
distance = (layers.end_to_end(of_layers.ys) - of_product.ys).flatten(-2).norm(dim=-1)
largest = distance.max(0).values

for size, value in zip(sizes, largest.tolist(), strict=True):
    print(f"δ = {size:.0e}: the product is off by {value:.1e}")
print(
    "drift of the conserved balance:", f"{max(of_layers.certificate.invariant_drift.values()):.1e}"
)

# %%
# The error is proportional to the perturbation: the equation is exact for balanced starts only,
# and degrades gracefully. The solver's error is far below.

figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.6))
for i, size in enumerate(sizes):
    colour = plt.get_cmap("viridis")(i / len(sizes))
    left.semilogy(times[1:], distance[1:, i], color=colour)
    left.annotate(
        f"δ = {size:g}",
        (20, distance[-1, i]),
        (-2, 3),
        textcoords="offset points",
        ha="right",
        color=colour,
    )
left.set(xlabel="time", ylabel="distance of the two products")
right.loglog(sizes, largest, "o-", label="measured")
right.loglog(
    sizes, [largest[2] * size / sizes[2] for size in sizes], "k:", label="proportional to δ"
)
right.set(xlabel="perturbation δ of a balanced start", ylabel="largest distance")
right.legend()
plt.show()
