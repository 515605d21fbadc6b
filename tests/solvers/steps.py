"""Single steps of a method: increments, and problems with a known solution."""

import math

import torch


def increments(rhs, t, h):
    """Return the argument of a stepper: increment(c, Y, out) = h·F(t + c·h, Y)."""

    def increment(c, Y, out=None):
        return torch.mul(rhs(t + c * h, Y), h, out=out)

    return increment


def step(method, rhs, t, z, h, stages=None):
    increment = increments(rhs, t, h)
    stages = method.stages(0.0) if stages is None else stages
    return method.step(increment, z, increment(0.0, z), stages)


def diagonal_step(method, products, stages=None, dtype=torch.float64):
    """One step of size 1 from y = 1 of ẏ = zy, for several z at once."""
    z = torch.as_tensor(products).to(dtype)[None]
    return step(method, lambda t, Y: z * Y, 0.0, torch.ones_like(z), 1.0, stages)


def manufactured(t, Y):
    """Non-linear, coupled, non-autonomous; solved by y = (cos t, 3/2 + sin 2t)."""
    t = torch.tensor(t, dtype=torch.float64)
    a, b, x, y = torch.cos(t), 1.5 + torch.sin(2 * t), Y[:, 0], Y[:, 1]
    return torch.stack([y**2 - b**2 - torch.sin(t), -x * y + a * b + 2 * torch.cos(2 * t)], dim=1)


def solution(t):
    return torch.tensor([[math.cos(t), 1.5 + math.sin(2 * t)]], dtype=torch.float64)


def global_error(method, count, stages=None, end=2.0):
    """Return the error after `count` equal steps on the manufactured problem."""
    z, h = solution(0.0), end / count
    for i in range(count):
        z = step(method, manufactured, i * h, z, h, stages).y
    return float((z - solution(end)).norm())
