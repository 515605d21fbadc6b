"""The program that the tests start by torchrun: `python -m torch.distributed.run ...`.

Usage: two_processes.py FOLDER. Each process takes requests from the folder, ``0.json``,
``1.json``, ..., and carries each out in a copy of itself, so that imports are made once;
the request that begins with the word here is carried out in the process itself, which it ends.
A request is the arguments of `check` or, after the word gflow, of the command line, and after the
word benchmark, of benchmarks/split_by_rows.py; after "gflow without figures", nothing is drawn.
"""

import ctypes
import functools
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch._dynamo  # loaded by the first gradient of torch.func, in two seconds
import torch.distributed as dist
from torch import nn

import gflow
import gflow.plots.paths
import gflow.settings.kernel
import gflow.settings.network
from benchmarks import split_by_rows
from gflow.cli.main import main as command_line
from gflow.distributed import Team, processes
from gflow.flows import NetworkFlow
from gflow.kernels import ntk
from tests.helpers import randn

SAMPLES = 7  # uneven over two and over three processes
CRITERIA = {
    "mean": nn.functional.mse_loss,
    "sum": lambda u, y: 0.5 * (u - y).square().sum(),
}


def network(team: Team | None, criterion: str, chunk: int | None) -> NetworkFlow:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    X, Y = randn(SAMPLES, 3, seed=1), randn(SAMPLES, 2, seed=2)
    scales = {} if chunk is None else {"weight_decay": {"0": 0.1}, "rates": {"*.bias": 2.0}}
    return NetworkFlow(module, CRITERIA[criterion], X, Y, chunk=chunk, team=team, **scales)


def network_values(flow: NetworkFlow) -> dict[str, torch.Tensor]:
    """Return all that solves, certificates and studies evaluate of a network's flow."""
    theta = flow.pack()
    v, states = randn(len(theta), seed=3), torch.stack([theta, 1.1 * theta, -theta])
    loss, velocity = flow.loss_and_velocity(theta)
    modified = gflow.ModifiedFlow(flow, 0.05, order=3)
    results = {
        "velocity": flow(0.0, theta),
        "loss": flow.loss(theta),
        "loss beside the velocity": loss,
        "velocity beside the loss": velocity,
        "product": flow.jvp(theta, v),
        "linearised": flow.linearised(theta)(v),
        "acceleration": flow.velocity_and_acceleration(theta)[1],
        "reference": flow.reference(theta),
        "outputs": flow.end_to_end(theta),
        "outputs of several": flow.end_to_end(states),
        "losses": flow.loss(states[None]),
        "criteria": flow.criterion_loss(states[None]),
        "velocities": flow(0.0, states[None]),
        "products": flow.jvp(states, torch.stack([v, -v, 2 * v])),
        "modified velocity": modified(0.0, theta),
        "modified reference": modified.reference(theta),
        "modified reference of order 2": gflow.ModifiedFlow(flow, 0.05).reference(states),
    }
    path = gflow.integrate(flow, theta, [0.0, 1.0], "rkc2", rtol=1e-3)
    results |= {"path": path.ys, "descent": gflow.descend(flow, theta, 0.1, 5).ys}
    results["evaluations"] = torch.tensor(path.stats.rhs_evals)
    return results


def kernel(team: Team | None, memory: int, outputs: int) -> gflow.KernelFlow:
    x, y = randn(SAMPLES, 3, seed=1), randn(SAMPLES, outputs, seed=2)
    y = y[:, 0] if outputs == 1 else y
    return gflow.KernelFlow.from_kernel(ntk, x, y, x[:3] + 0.1, max_memory=memory, team=team)


def kernel_values(flow: gflow.KernelFlow, decomposed: bool) -> dict[str, torch.Tensor]:
    """Return all that solves and predictions evaluate of a kernel's flow."""
    u0 = 0.1 * flow.targets
    states, ts = torch.stack([u0, 2 * u0, flow.targets + 1]), torch.tensor([0.0, 0.5, 9.0])
    results = {
        "velocity": flow(0.0, u0),
        "velocities": flow(0.0, states),
        "reference": flow.reference(states),
        "krylov": gflow.integrate(flow, u0, ts, "krylov", rtol=1e-10).ys,
    }
    if decomposed:
        predicted = flow.predict(ts, u0)
        results |= {
            "path": gflow.integrate(flow, u0, ts, "rkc2", rtol=1e-3).ys,
            "krylov at test points": flow.predict(ts, u0, method="krylov", rtol=1e-12).test,
            "bound": torch.tensor(flow.spectral_radius(u0)),
            "exact": gflow.integrate(flow, u0, ts).ys,
            "predicted": predicted.train,
            "predicted at test points": predicted.test,
            "eigenvalues": flow.eigenvalues,
            "observed": flow.observables(u0)["mode_residuals"],
        }
    return results


# Criterion and samples a chunk, memory and outputs: each value is in one flow.
NETWORKS = [("mean", 2), ("sum", None)]
KERNELS = [(2**32, 2), (700, 1)]


def all_values(networks: list, kernels: list) -> dict[str, torch.Tensor]:
    """Return the values of all flows by name."""
    results = {}
    for key, flow in zip(NETWORKS, networks, strict=True):
        results |= {f"{key} {name}": x for name, x in network_values(flow).items()}
    for key, flow in zip(KERNELS, kernels, strict=True):
        values = kernel_values(flow, decomposed=key[0] > 10**6)
        results |= {f"{key} {name}": x for name, x in values.items()}
    return results


def check(case: str, file: str) -> None:
    """Evaluate the flows, or provoke an error; rank 0 writes the values to the file."""
    with processes(timeout=60.0) as team:
        if case == "data that differ":
            X, module = randn(SAMPLES, 3, seed=team.rank), nn.Linear(3, 1).double()
            with torch.no_grad():
                module.weight.zero_(), module.bias.zero_()
            NetworkFlow(module, nn.functional.mse_loss, X, X[:, :1], team=team)
        networks = [network(team, *key) for key in NETWORKS]
        kernels = [kernel(team, *key) for key in KERNELS]
        if case == "an error in one" and team.rank == 1:
            networks[0]._batch.chunks[0].inputs = networks[0]._batch.chunks[0].inputs[:, :2]
        if not team.leads():
            return
        if case == "values":
            torch.save(all_values(networks, kernels), file)
            return
        if case == "too late":
            network(team, "mean", None)
        until = time.monotonic() + 30
        while time.monotonic() < until:
            networks[0].loss(networks[0].pack())


def end_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def rendezvous(original: Callable, prefix: str, *arguments, **options) -> Iterator:
    """Put a prefix to the names in torchrun's store: each group of processes needs new ones."""
    for store, rank, size in original(*arguments, **options):
        yield dist.PrefixStore(prefix, store), rank, size


def carry_out(arguments: list[str], folder: Path, number: int) -> int:
    """Carry out a request in a copy of this process; return its exit status."""
    if arguments[0] == "here":
        arguments = arguments[1:]
    elif pid := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    status = 1
    try:
        end_with_parent()
        dist.rendezvous = functools.partial(rendezvous, dist.rendezvous, str(number))
        for stream, name in enumerate(("out", "err"), start=1):
            path = folder / f"{number}.{os.environ['RANK']}.{name}"
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), stream)
        if arguments[0] == "gflow without figures":
            gflow.plots.figures = lambda dataset, title="": {}
        sys.argv = arguments
        if arguments[0].startswith("gflow"):
            command_line(arguments[1:])
        elif arguments[0] == "benchmark":
            split_by_rows.main()
        else:
            check(*arguments)
        status = 0
    except SystemExit as exit_:
        status = exit_.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    end_with_parent()
    rank, number = os.environ["RANK"], 0
    while True:
        request = folder / f"{number}.json"
        if not request.exists():
            time.sleep(0.02)
            continue
        status = carry_out(json.loads(request.read_text()), folder, number)
        part = folder / f"{number}.{rank}.part"
        part.write_text(str(status))
        part.rename(folder / f"{number}.{rank}.status")
        number += 1


if __name__ == "__main__":
    main(Path(sys.argv[1]))
