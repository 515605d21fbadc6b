"""
The edge of stability
=====================

Along gradient flow the sharpness of a network keeps growing. Descent with step size η follows
until the sharpness is 2/η; then it oscillates and stays there (Cohen et al. 2021,
`arXiv:2103.00065 <https://arxiv.org/abs/2103.00065>`__). Its time average follows the *central
flow* (Cohen et al. 2024, `arXiv:2410.24206 <https://arxiv.org/abs/2410.24206>`__), which gflow
integrates, too.
"""

import matplotlib.pyplot as plt
import torch
from torch import nn

import gflow
from gflow.preparation import one_hot
from gflow.studies import edge_of_stability

torch.manual_seed(0)
module = nn.Sequential(
    nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 10)
).double()


def criterion(outputs, targets):
    return 0.5 * (outputs - targets).square().sum(1).mean()


data = gflow.data.load("digits")
X = torch.as_tensor(data.inputs[:100]) / 5
Y = torch.as_tensor(one_hot(data)[:100])
flow = gflow.NetworkFlow(module, criterion, X - X.mean(0), Y)

# %%
# One call: the flow with its sharpness, descent, and the central flow from where the sharpness
# reaches 2/η.

study = edge_of_stability(flow, flow.pack(), 120.0, [0.4], points=60, rtol=1e-5, atol=1e-8)
edge = study.edges[0]
print(f"the flow reaches 2/η = {2 / edge.step_size:g} at t = {edge.crossing:.1f}")
print(f"central flow: averaged loss within {100 * edge.central_error:.1f} % of descent's")

# %%
# The flow becomes sharper and sharper. Descent is unstable beyond 2/η: its oscillation first has
# to grow, then its sharpness returns to 2/η and stays there. The central flow, which has no
# delay, predicts the averaged loss.

study.plot(observable="edge_of_stability")
plt.show()

# %%
# All of it can be drawn by hand as well. The loss of descent at every step shows the oscillation
# that its average hides.

steps = torch.arange(len(edge.descent.losses)) * edge.step_size
figure, axes = plt.subplots()
axes.semilogy(study.trajectory.ts, study.trajectory.losses, "k", label="flow")
axes.semilogy(steps, edge.descent.losses, color="C1", lw=0.6, label="descent, every step")
axes.semilogy(steps, edge.smooth_losses, color="C1", lw=2.5, label="descent, averaged")
axes.set(xlabel="time t = step size × steps", ylabel="loss")
axes.legend()
plt.show()
