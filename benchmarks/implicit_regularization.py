"""Measure what docs/implicit-regularization.md states.

python benchmarks/implicit_regularization.py
    commuting|limit|saddles|margin|relu|ratings|nuclear|narrow|trends
"""

import math
import resource
import sys
import tempfile
import time
from pathlib import Path

import torch

import gflow
from gflow.baselines import (
    commuting_limit,
    commuting_rate,
    diagonal_limit,
    max_margin,
    minimum_nuclear_norm,
    saddle_sequence,
)
from gflow.losses import MatrixCompletion, MatrixSensing


def sparse_regression(
    samples: int = 20, inputs: int = 40, nonzero: int = 4
) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(samples, inputs, generator=generator, dtype=torch.float64)
    w = torch.zeros(inputs, dtype=torch.float64)
    w[:nonzero] = torch.tensor([1.0, -0.7, 0.5, 0.3])
    return X, X @ w + 0.05 * torch.randn(samples, generator=generator, dtype=torch.float64)


def limit() -> None:
    """The end of diagonal networks against the potential's minimiser."""
    X, y = sparse_regression()
    flow = gflow.DiagonalFlow(X, y)
    for alpha in (10.0, 1.0, 1e-1, 1e-2, 1e-4, 1e-8):
        end = 1e4 * max(1.0, math.log(1 / alpha))
        event = gflow.events.loss_reaches(flow, 1e-20)
        began = time.process_time()
        start = flow.start(log_scale=math.log(alpha))
        path = gflow.integrate(flow, start, [0.0, end], until=event)
        seconds = time.process_time() - began
        w, truth = path.flow.end_to_end(path.ys[-1]), diagonal_limit(X, y, alpha)
        error = float((w - truth).norm() / truth.norm())
        print(
            f"alpha {alpha:g}: relative error {error:.1e}, l1 norm {float(w.abs().sum()):.4f}, "
            f"loss {float(path.losses[-1]):.0e}, {path.stats.rhs_evals} evaluations, "
            f"{seconds:.2f} CPU s, certified {path.certificate.holds}"
        )


def saddles() -> None:
    """Jump times at three scales against the algorithm for an infinitesimal start."""
    generator = torch.Generator().manual_seed(1)
    X = torch.randn(6, 10, generator=generator, dtype=torch.float64)
    flow = gflow.DiagonalFlow(X, torch.randn(6, generator=generator, dtype=torch.float64))
    truth = saddle_sequence(X, flow.targets)
    jumps = truth.times[truth.times < 12]
    print("algorithm:", [round(t, 4) for t in jumps.tolist()])
    print("  active:", [tuple(torch.nonzero(w)[:, 0].tolist()) for w in truth.weights])
    for power in (20, 80, 1000):
        log_alpha = -power * math.log(10)
        unit = -log_alpha / 2
        ts = torch.linspace(0, 12 * unit, 2401, dtype=torch.float64)
        began = time.process_time()
        path = gflow.integrate(flow, flow.start(log_scale=log_alpha), ts, rtol=1e-7, atol=1e-9)
        seconds = time.process_time() - began
        found = gflow.studies.plateaus(path, unit=unit, flat=0.01, shortest=1e-3)
        print(
            f"alpha 1e-{power}: jumps {[round(t, 4) for t in found.times]}, "
            f"{path.stats.rhs_evals} evaluations, {seconds:.1f} CPU s, certified "
            f"{path.certificate.holds} {'; '.join(path.certificate.failures())}"
        )
        # Of each jump: when the loss passes half-way between two saddles, whatever else is near.
        half = 0.5 * (truth.losses[:-1] + truth.losses[1:])[: len(jumps)]
        late = [float(path.ts[int((path.losses <= x).nonzero()[0, 0])]) / unit for x in half]
        distances = [abs(a - b) for a, b in zip(late, jumps.tolist(), strict=True)]
        print(
            f"  half-way at {[round(t, 4) for t in late]}: largest distance {max(distances):.1e}, "
            f"times log(1/alpha) {max(distances) * -log_alpha:.2f}"
        )
        print("  active:", found.active)


def margin() -> None:
    """Logistic regression on separable data, to a loss of 1e-300."""
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(5, generator=generator, dtype=torch.float64)
    X = torch.randn(60, 5, generator=generator, dtype=torch.float64)
    X = X[(X @ w).abs() > 0.5]
    labels = (X @ w > 0).long()
    best = max_margin(X, labels)
    inner = gflow.NetworkFlow(torch.nn.Linear(5, 1, bias=False).double(), "logistic", X, labels)
    flow = gflow.NormalisedFlow(inner, best.solution)
    end = 720 / best.margin**2
    ts = torch.cat([torch.zeros(1), torch.logspace(-2, math.log10(end), 61)]).double()
    began = time.process_time()
    path = gflow.integrate(flow, 0 * flow.pack(), ts, rtol=1e-8, atol=1e-10)
    seconds = time.process_time() - began
    seen, log_t = path.observables(), flow.log_time(path.ts, path.ys)
    late = seen["log_loss"] < -100
    x, angle = log_t[late].log(), seen["angle"][late].log()
    slope = float(((x - x.mean()) * (angle - angle.mean())).sum() / (x - x.mean()).square().sum())
    print(
        f"loss 1e{seen['log_loss'][-1] / math.log(10):.0f}, angle {seen['angle'][-1]:.3e}, "
        f"exponent of log t {slope:.4f}, |w|/log t times gamma "
        f"{float(seen['norm'][-1] * best.margin / log_t[-1]):.4f}, margin over gamma "
        f"{float(seen['margin'][-1]) / best.margin:.5f}, {path.stats.rhs_evals} evaluations, "
        f"{seconds:.1f} CPU s, certified {path.certificate.holds}"
    )


def relu() -> None:
    """Two-layer ReLU networks to a loss of 1e-100, on data of two kinds, from ten seeds each."""
    for kind in ("orthogonally separable", "standard normal"):
        for seed in range(10):
            print(f"{kind}, seed {seed}: {relu_network(kind, seed)}")


def relu_network(kind: str, seed: int) -> str:
    torch.manual_seed(seed)
    if kind == "standard normal":
        w, X = torch.randn(6, dtype=torch.float64), torch.randn(20, 6, dtype=torch.float64)
        y = (X @ w).sign()
    else:
        y = torch.cat([torch.ones(10), -torch.ones(10)]).double()
        axis = torch.tensor([1.0, 0, 0, 0, 0, 0], dtype=torch.float64)
        X = y[:, None] * (axis + 0.15 * torch.randn(20, 6, dtype=torch.float64))
    layers = torch.nn.Linear(6, 10, bias=False), torch.nn.ReLU(), torch.nn.Linear(10, 1, bias=False)
    module = torch.nn.Sequential(*layers).double()
    flow = gflow.NormalisedFlow(gflow.NetworkFlow(module, "logistic", X, (y > 0).long()))
    until = gflow.events.loss_reaches(flow, -100 * math.log(10))
    ts = torch.linspace(0, 60, 121).double()
    began, stopped = time.process_time(), ""
    try:
        path = gflow.integrate(flow, flow.pack(), ts, rtol=1e-5, atol=1e-9, until=until)
    except gflow.IntegrationError as error:
        path, stopped = error.trajectory, f"; {error}"
    seconds = time.process_time() - began
    seen = path.observables()
    late = seen["log_loss"] < -math.log(20)
    text = f"loss 1e{seen['log_loss'][-1] / math.log(10):.1f}, "
    if int(late.sum()) > 1:
        text += (
            f"{int(late.sum())} states below 1/n, least rise of the margin "
            f"{float(seen['margin'][late].diff().min()):.1e}, of the smoothed margin "
            f"{float(seen['smoothed_margin'][late].diff().min()):.1e}, "
        )
    failures = "; ".join(path.certificate.failures())
    return (
        f"{text}{path.stats.rhs_evals} evaluations, {seconds:.1f} CPU s, certified "
        f"{path.certificate.holds} {failures}{stopped}"
    )


def ratings() -> None:
    """100,000 ratings of 20,000 users and 50,000 items: from the file to a loss of 1e-6."""
    generator = torch.Generator().manual_seed(0)
    users, items = (int(x) for x in sys.argv[2:4]) if len(sys.argv) > 3 else (20_000, 50_000)
    i = torch.randint(users, (100_000,), generator=generator)
    j = torch.randint(items, (100_000,), generator=generator)
    A = torch.randn(users, 5, generator=generator, dtype=torch.float64)
    B = torch.randn(items, 5, generator=generator, dtype=torch.float64)
    v = (A[i] * B[j]).sum(-1) / 5**0.5
    file = Path(tempfile.mkdtemp(), "ratings.csv")
    rows = (f"u{a},i{b},{c!r}" for a, b, c in zip(i.tolist(), j.tolist(), v.tolist(), strict=True))
    file.write_text("user,item,rating\n" + "\n".join(rows) + "\n")
    del A, B, i, j, v
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    data = gflow.data.load_ratings(file)
    read = time.process_time() - began
    i, j, v = (torch.from_numpy(x) for x in (data.rows, data.columns, data.values))
    loss = MatrixCompletion.from_entries(i, j, v, data.shape)
    flow = gflow.LayerwiseFlow(loss, [data.shape[1], 10, data.shape[0]])
    factors = (
        0.1 * torch.randn(data.shape[0], 10, generator=generator, dtype=torch.float64),
        0.1 * torch.randn(10, data.shape[1], generator=generator, dtype=torch.float64),
    )
    y0 = flow.balanced_start(factors)
    until = gflow.events.loss_reaches(flow, 1e-6)
    path = gflow.integrate(flow, y0, [0.0, 1e8], method="rock4", rtol=1e-2, until=until)
    seconds = time.process_time() - began
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    dense = 8 * data.shape[0] * data.shape[1] / 2**20
    print(
        f"{data.shape[0]} x {data.shape[1]}: read in {read:.2f} CPU s, loss "
        f"{float(path.losses[-1]):.1e} after {seconds:.1f} CPU s, {path.stats.rhs_evals} "
        f"evaluations in {path.stats.wall_seconds:.1f} s, and {path.stats.certificate_evals} of "
        f"the certificate, peak memory {peak:.0f} MiB above that before, the dense matrix "
        f"{dense:.0f} MiB, certified {path.certificate.holds}"
    )


def nuclear() -> None:
    """The convex solution of Arora et al.'s matrix completion."""
    generator = torch.Generator().manual_seed(0)
    A, B = (torch.randn(100, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    W = A @ B.T
    W *= 100 / W.norm()
    mask = torch.zeros(10_000, dtype=torch.bool)
    mask[torch.randperm(10_000, generator=generator)[:2000]] = True
    began = time.process_time()
    found = minimum_nuclear_norm(W, mask.reshape(100, 100))
    seconds = time.process_time() - began
    ratio = found.value / float(torch.linalg.svdvals(W).sum())
    print(
        f"nuclear norm over the true one {ratio:.4f}, gap {found.gap:.1e}, {found.iterations} "
        f"iterations, {seconds:.1f} CPU s"
    )


def narrow() -> None:
    """Complete large matrices at depth 3 from starts of rank 10: exact with hidden width 10."""
    for size, count in ((500, 20_000), (2000, 100_000)):
        generator = torch.Generator().manual_seed(0)
        left, right = (torch.randn(size, 5, generator=generator).double() for _ in range(2))
        W = left @ right.mT
        W *= size / W.norm()
        places = torch.randperm(size * size, generator=generator)[:count]
        i, j = places // size, places % size
        loss = MatrixCompletion.from_entries(i, j, W[i, j], (size, size))
        flow = gflow.LayerwiseFlow(loss, [size, 10, 10, size])
        scale = (1e-3 / 10**0.5) ** 0.5 * size**-0.25
        factors = (
            scale * torch.randn(size, 10, generator=generator, dtype=torch.float64),
            scale * torch.randn(10, size, generator=generator, dtype=torch.float64),
        )
        began = time.process_time()
        y0 = flow.balanced_start(factors)
        until = gflow.events.loss_reaches(flow, 1e-6)
        path = gflow.integrate(flow, y0, [0.0, 1e15], rtol=1e-3, atol=1e-6, until=until)
        seconds = time.process_time() - began
        hidden = (flow.end_to_end(path.ys[-1]) - W).square()
        hidden[i, j] = 0
        error = float(hidden.sum()) / (size * size - count)
        print(
            f"{size} x {size}, {count} entries: loss {float(path.losses[-1]):.1e}, error "
            f"{error:.2e}, {path.stats.rhs_evals} evaluations, {seconds:.1f} CPU s, certified "
            f"{path.certificate.holds} {'; '.join(path.certificate.failures())}"
        )


def trends() -> None:
    """Draw matrix completion against depth, scale and samples: 30 x 30, rank 2, five seeds."""
    generator = torch.Generator().manual_seed(0)
    A, B = (torch.randn(30, 2, generator=generator, dtype=torch.float64) for _ in range(2))
    W = A @ B.T
    W *= 30 / W.norm()
    mask = torch.zeros(900, dtype=torch.bool)
    mask[torch.randperm(900, generator=generator)[:270]] = True
    mask = mask.reshape(30, 30)
    studies = {
        "depth-study": lambda: gflow.studies.depth_study(W, mask, [1, 2, 3, 4]),
        "init-scale-study": lambda: gflow.studies.init_scale_study(
            W, mask, [1e-1, 1e-2, 1e-3, 1e-4], depth=2
        ),
        "samples-study": lambda: gflow.studies.samples_study(
            W, [150, 200, 270, 360, 480], convex=True
        ),
    }
    for name, run in studies.items():
        began = time.process_time()
        study = run()
        print(f"{study}: {time.process_time() - began:.1f} CPU s; {study.laws['errors']}")
        images = Path(__file__).parent.parent / "docs" / "images"
        study.plot()[0].figure.savefig(images / f"{name}.png")


def commuting() -> None:
    """Follow commuting measurements to their end, and fit how it nears the least nuclear norm."""
    import matplotlib.pyplot as plt

    generator = torch.Generator().manual_seed(11)
    Q = torch.linalg.qr(torch.randn(5, 5, generator=generator, dtype=torch.float64))[0]
    eigenvalues = torch.randn(2, 5, generator=generator, dtype=torch.float64)
    A = (Q * eigenvalues[:, None, :]) @ Q.T
    b = eigenvalues[:, 0] * 2 + eigenvalues[:, 1]
    rate = commuting_rate(A, b)
    print(f"slacks {sorted(round(s, 4) for s in rate.slacks.tolist())}, least {rate.exponent:.5f}")
    flow = gflow.SpectralFlow(MatrixSensing(A, b), symmetric=True)
    until = gflow.events.loss_reaches(flow, 1e-26)
    scales, excesses = [1e-4, 1e-6, 1e-8, 1e-10], []
    for scale in scales:
        start, began = flow.start(log_scale=math.log(scale)), time.process_time()
        path = gflow.integrate(flow, start, [0.0, 1e9], method="bdf", rtol=1e-10, until=until)
        seconds = time.process_time() - began
        W, truth = path.flow.end_to_end(path.ys[-1]), commuting_limit(A, b, scale)
        excesses.append(float(rate.excess(W)))
        print(
            f"scale {scale:g}: {float((W - truth).norm() / truth.norm()):.1e} from the limit, "
            f"nuclear norm above the least {excesses[-1]:.4e}, {path.stats.rhs_evals} evaluations, "
            f"{seconds:.1f} CPU s, certified {path.certificate.holds}"
        )
    x, y = torch.tensor(scales).log().double(), torch.tensor(excesses).log().double()
    slope = float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())
    print(f"fitted power {slope:.5f}, {abs(slope / rate.exponent - 1):.1e} from the program's")
    figure, axes = plt.subplots(figsize=(6.4, 4.4), layout="constrained")
    line = [excesses[-1] * (scale / scales[-1]) ** rate.exponent for scale in scales]
    axes.loglog(scales, line, "k--", lw=1, label=f"power {rate.exponent:.4f} of the program")
    axes.loglog(scales, excesses, "o", label="flow")
    axes.set(xlabel="scale c of the start W = c·I", ylabel="nuclear norm − least one")
    axes.set_title(f"The excess falls as c^{slope:.4f}")
    axes.legend()
    figure.savefig(Path(__file__).parent.parent / "docs" / "images" / "commuting.png", dpi=120)


MEASUREMENTS = (commuting, limit, saddles, margin, relu, ratings, nuclear, narrow, trends)

if __name__ == "__main__":
    torch.set_num_threads(1)
    {f.__name__: f for f in MEASUREMENTS}[sys.argv[1]]()
