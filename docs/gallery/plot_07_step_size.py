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

figure, axes = plt.subplots()
axes.loglog(study.step_sizes, study.gaps, "o-", label=f"gap to the flow, order {study.order:.2f}")
axes.loglog(
    study.step_sizes,
    study.modified_gaps,
    "s-",
    label=f"gap to the modified flow, order {study.modified_order:.2f}",
)
axes.axvline(study.stability_limit, color="k", ls=":")
axes.annotate(
    "2/λ_max",
    (study.stability_limit, study.gaps[-1] / 50),
    (-4, 0),
    textcoords="offset points",
    ha="right",
)
axes.set(xlabel="step size η", ylabel="largest gap")
axes.set_xticks(sizes, labels=[f"{size:g}" for size in sizes], minor=False)
axes.minorticks_off()
axes.legend(loc="upper left")
plt.show()
