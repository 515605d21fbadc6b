"""
A step-size study: the order of the gap
=======================================

Gradient descent is Euler's method for the flow: the gap between the two is proportional to the
step size. Against the *modified flow*, that of L + (η/4)‖∇L‖², it shrinks with the square
(Barrett and Dherin 2021, `arXiv:2009.11162 <https://arxiv.org/abs/2009.11162>`__). A study fits
both orders, where the data allow a fit.
"""

import matplotlib.pyplot as plt
import torch

import gflow
from gflow.preparation import standardise

data = gflow.data.load("diabetes")
X, Y = torch.as_tensor(standardise(data.inputs)), torch.as_tensor(standardise(data.targets))
flow = gflow.EndToEndFlow(gflow.losses.LinearRegression(X, Y), depth=3)
W0 = torch.full((1, 10), 0.03, dtype=torch.float64)

sizes = [0.8, 0.4, 0.2, 0.1, 0.05, 0.025]
study = gflow.step_size_study(flow, W0, t_end=20.0, step_sizes=sizes, modified=True)

print(f"order to the flow          {study.order:.3f}")
print(f"order to the modified flow {study.modified_order:.3f}")
print(f"stable below               {study.stability_limit:.3f}")

# %%
# Beyond the stability limit 2/λ_max descent is another algorithm: these step sizes are left out
# of the fit. The solver's error is below every gap, so the gaps are those of descent.

study.plot(observable="step_size")
plt.show()

# %%
# The gap over time, for every step size:

figure, axes = plt.subplots()
for i, (times, gaps) in enumerate(study.gap_curves[1:]):
    colour = plt.get_cmap("viridis")(i / 5)
    axes.semilogy(times[1:], gaps[1:], color=colour, label=f"η = {study.step_sizes[i + 1]:g}")
axes.set(xlabel="time t = step size × steps", ylabel="gap of descent to the flow")
axes.legend(ncols=2)
plt.show()
