r"""Sums over samples and rows of a matrix, split across processes with torch.distributed.

The first process leads: it alone runs the solver, prints and writes. The others hold their rows
of the data and answer. For an evaluation of a split flow the first sends the state to all,

    L(θ) = Σ_r L_r(θ),   ∇L(θ) = Σ_r ∇L_r(θ),   H v = [H_1 v; …; H_R v],

each process r computes its part from its rows, and the parts are added up, or put one below
the other, on the first. So every decision of a solver is taken once, from the same numbers: it does
not matter whether the processes' machines round alike. What is sent, and what it costs, is in
``docs/distributed.md``.

``torchrun`` starts the processes and tells them of one another; gloo carries what is on the CPU
and nccl what is on GPUs.
"""

from __future__ import annotations

import contextlib
import functools
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from gflow import execution
from gflow.distributed.torchrun import RankInfo, rank_info
from gflow.errors import InputError, PeerError

#: Tensors → tensors of this process's rows.
Function = Callable[..., Sequence[Tensor]]

_PATIENCE = 1800.0  # seconds
_FOREVER = timedelta(days=1000)  # the others wait while the first plots or decomposes
_HEAD = 32  # numbers that say which operation, on tensors of which shapes
_END = -1
_ROUNDING = 1e-6  # by which machines may differ that compute the same data
_FAILURE = "gflow/failure"
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(eq=False)
class Team:
    """The processes of a run; `processes` makes it.

    Attributes
    ----------
    rank, size : int
        This process's number, from 0, and how many there are.
    broken : bool
        Whether one of them failed: the others are of no use any more.
    """

    rank: int = 0
    size: int = 1
    broken: bool = False
    _store: dist.Store | None = None
    _commands: dist.ProcessGroup | None = None
    _gpu: int | None = None
    _operations: list[tuple[Function, Tensor]] = field(default_factory=list)
    _alike: bool = False  # every process is at the same place of its program
    _led: bool = False  # the others answer by now

    def rows(self, n: int) -> slice:
        """This process's share of n rows.

        Examples
        --------
        >>> [Team(rank, 3).rows(10) for rank in range(3)]
        [slice(0, 3, None), slice(3, 6, None), slice(6, 10, None)]
        """
        if n < self.size:
            raise InputError(f"{n} rows cannot be split across {self.size} processes; start fewer")
        return slice(*(n * rank // self.size for rank in (self.rank, self.rank + 1)))

    def leads(self) -> bool:
        """True in the first process. The others answer here until it leaves the ``with``, and
        then get False; their split flows must have been made by now, as in the first. They take
        no notice of SIGINT and SIGTERM meanwhile: the first does, and may need them to end well.
        """
        self._led = True
        if self.rank > 0:
            self._serve()
        return self.rank == 0

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """What every process does in the same order, such as making a split flow.

        Operations inside are not announced, and every process gets their results.

        Raises
        ------
        InputError
            If the others answer by now.
        """
        if self._led:
            raise InputError("make every split flow in all processes, before team.leads()")
        self._alike = True
        try:
            yield
        finally:
            self._alike = False

    # -- operations that all do when the first asks for them ------------------------------

    def total(self, function: Function, like: Tensor) -> Callable[..., list[Tensor]]:
        """``function(*tensors)``, tensors of each process's rows, summed over the processes.

        Parameters
        ----------
        function : callable
            Tensors → a sequence of tensors, their shapes the same in every process.
        like : Tensor
            Says dtype and device of all.

        Returns
        -------
        callable
            To be called by the first process.
        """

        def summed(*tensors: Tensor) -> list[Tensor]:
            parts = function(*tensors)
            flat = torch.cat([part.reshape(-1) for part in parts])
            self._exchange(dist.reduce, flat, dst=0)
            sizes = [part.numel() for part in parts]
            pairs = zip(self._known(flat).split(sizes), parts, strict=True)
            return [whole.reshape(part.shape) for whole, part in pairs]

        return self._operation(summed, like)

    def concatenation(
        self, function: Callable[..., Tensor], n: int, like: Tensor
    ) -> Callable[..., Tensor]:
        """``function(*tensors)``, (rows, …) for each process's `rows` of n, as one (n, …)."""
        counts = [Team(rank, self.size).rows(n) for rank in range(self.size)]
        sizes = [rows.stop - rows.start for rows in counts]

        def gathered(*tensors: Tensor) -> list[Tensor]:
            part = function(*tensors)
            # All of one size, as every backend can gather.
            padded = part.new_zeros(max(sizes), *part.shape[1:])
            padded[: len(part)] = part
            parts = [torch.empty_like(padded) for _ in sizes] if self.rank == 0 else None
            self._exchange(dist.gather, padded, parts, dst=0)
            if parts is None:
                whole = part.new_empty(n, *part.shape[1:])
            else:
                pairs = zip(parts, sizes, strict=True)
                whole = torch.cat([rows[:size] for rows, size in pairs])
            return [self._known(whole)]

        operation = self._operation(gathered, like)
        return lambda *tensors: operation(*tensors)[0]

    def least(self, values: Tensor) -> Tensor:
        """The smallest of each value among the processes; all of them call this."""
        smallest = values.clone()
        self._exchange(dist.all_reduce, smallest, op=dist.ReduceOp.MIN)
        return smallest

    def require_alike(self, what: str, tensors: Iterable[Tensor]) -> None:
        """Raise InputError unless the processes hold the same; all of them call this."""
        marks = _marks(tensors)
        both = self.least(torch.cat([marks, -marks]))
        spread = -both[len(marks) :] - both[: len(marks)]
        if bool(spread[0] > 0) or bool((spread[1:] > _ROUNDING * marks[1]).any()):
            raise InputError(
                f"{what} must be the same in every process, and they differ; load them in the same "
                "order and seed torch alike"
            )

    def _operation(self, function: Function, like: Tensor) -> Callable[..., list[Tensor]]:
        if like.is_cuda and like.device.index != self._gpu:
            took = "no GPU" if self._gpu is None else f"cuda:{self._gpu}"
            raise InputError(
                "processes on GPUs need nccl and a GPU each, and take the one of their number on "
                f"the machine (device 'cuda'); here that is {took}, got {like.device}"
            )
        self._operations.append((function, like))
        return functools.partial(self._call, len(self._operations) - 1)

    def _call(self, number: int, *tensors: Tensor) -> list[Tensor]:
        function, like = self._operations[number]
        tensors = tuple(x.detach() for x in tensors)
        if not self._alike:
            self._announce(number, tensors, like)
        with torch.no_grad():
            return list(function(*tensors))

    # -- what is said between the processes -----------------------------------------------

    def _announce(self, number: int, tensors: Sequence[Tensor], like: Tensor) -> None:
        """Tell the others what is to be done, and send them what they need for it."""
        if self.rank > 0:
            raise InputError("only the first process may ask a split flow: see team.leads()")
        self._led = True
        for x in tensors:
            if (x.dtype, x.device) != (like.dtype, like.device):
                raise InputError(
                    f"a split flow of {like.dtype} on {like.device} got {x.dtype} on {x.device}; "
                    "convert one with .to(...)"
                )
        head = [number, *(size for x in tensors for size in (x.ndim, *x.shape))]
        if len(head) > _HEAD:
            raise InputError(f"too many dimensions for a split flow: {_HEAD} numbers say them all")
        filled = torch.tensor(head + [_END] * (_HEAD - len(head)))
        self._exchange(dist.broadcast, filled, src=0, group=self._commands)
        if tensors:
            self._exchange(dist.broadcast, torch.cat([x.reshape(-1) for x in tensors]), src=0)

    def _serve(self) -> None:
        """Answer until the first process says that this is the end, or has ended."""
        with _undisturbed(), contextlib.suppress(PeerError):  # the first says why, if it can
            while True:
                head = torch.zeros(_HEAD, dtype=torch.int64)
                self._exchange(dist.broadcast, head, src=0, group=self._commands)
                number, *sizes = head.tolist()
                if number == _END:
                    return
                function, like = self._operations[number]
                shapes = _shapes(sizes)
                counts = [shape.numel() for shape in shapes]
                flat = like.new_empty(sum(counts))
                if counts:
                    self._exchange(dist.broadcast, flat, src=0)
                pairs = zip(flat.split(counts), shapes, strict=True) if counts else ()
                with torch.no_grad():
                    function(*(part.reshape(shape) for part, shape in pairs))

    def _known(self, result: Tensor) -> Tensor:
        """A result of the first process, which all get where all are at the same place."""
        if self._alike:
            self._exchange(dist.broadcast, result, src=0)
        return result

    def _exchange(self, collective: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        try:
            collective(*args, **kwargs)
        except RuntimeError as error:
            self.broken = True
            raise PeerError(self._reason(error)) from None

    def _reason(self, error: RuntimeError) -> str:
        with contextlib.suppress(RuntimeError):
            if self._store is not None and self._store.check([_FAILURE]):
                return self._store.get(_FAILURE).decode()
        what = "did not answer in time" if "imed out" in str(error) else "ended before its time"
        return f"another of the {self.size} processes {what}; so does the run"

    def _fail(self, error: BaseException) -> None:
        """Leave word for the first process of why this one ends."""
        self.broken = True
        text = " ".join(str(error).split()) or type(error).__name__
        with contextlib.suppress(RuntimeError):  # nobody may be left to read it
            if self._store is not None:
                self._store.set(_FAILURE, f"process {self.rank} of {self.size} failed: {text}")

    def _close(self) -> None:
        """Let the others go."""
        if self.rank == 0 and not self.broken:
            with contextlib.suppress(PeerError):
                self._announce(_END, (), torch.empty(0))
        self._operations.clear()
        self._commands = None
        if not self.broken:  # what hangs in a broken group would be waited for
            dist.destroy_process_group()


def current() -> Team | None:
    """Return the team of the surrounding ``with processes()``; None in a single process."""
    team = execution.current().team
    return team if isinstance(team, Team) else None


@contextlib.contextmanager
def processes(timeout: float = _PATIENCE) -> Iterator[Team]:
    """The processes that torchrun started, or this one alone.

    Parameters
    ----------
    timeout : float
        Seconds that one process waits for another within an evaluation, before it gives up.

    Raises
    ------
    InputError
        If torchrun's environment is half set, or this torch has no gloo.
    PeerError
        Inside the ``with``, in the first process, where another failed, ended or did not answer.

    Examples
    --------
    >>> with processes() as team:   # started without torchrun: one process
    ...     team.size, team.rows(10), team.leads()
    (1, slice(0, 10, None), True)
    """
    here = rank_info()
    if here is None or here.size == 1:
        yield Team()
        return
    team = _start(here, timedelta(seconds=timeout))
    try:
        with execution.using(team=team):
            yield team
    except BaseException as error:
        team._fail(error)
        raise
    finally:
        team._close()


def _start(here: RankInfo, timeout: timedelta) -> Team:
    if not (dist.is_available() and dist.is_gloo_available()):
        raise InputError("this torch has no gloo to join processes; run without torchrun")
    if dist.is_initialized():
        raise InputError("a process group has been started already; gflow starts its own")
    gpus = dist.is_nccl_available() and torch.cuda.device_count() >= here.local_size
    try:
        store, rank, size = next(dist.rendezvous("env://", timeout=timeout))
        backend = "cpu:gloo,cuda:nccl" if gpus else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)
        commands = dist.new_group(backend="gloo", timeout=_FOREVER)
    except (RuntimeError, OSError) as error:
        why = str(error).splitlines()[0]
        raise InputError(f"the {here.size} processes did not find one another ({why})") from None
    if gpus:
        torch.cuda.set_device(here.local_rank)
    gpu = here.local_rank if gpus else None
    return Team(here.rank, here.size, _store=store, _commands=commands, _gpu=gpu)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Without SIGINT and SIGTERM, which torchrun and a terminal send to every process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _shapes(sizes: Sequence[int]) -> list[torch.Size]:
    """Shapes out of (dimensions, size, size, …) one after the other, up to a negative number."""
    found, i = [], 0
    while i < len(sizes) and sizes[i] != _END:
        found.append(torch.Size(sizes[i + 1 : i + 1 + sizes[i]]))
        i += 1 + sizes[i]
    return found


def _marks(tensors: Iterable[Tensor]) -> Tensor:
    """How many numbers, the sum of their sizes, and a sum that knows their order, (3,)."""
    marks = torch.zeros(3, dtype=torch.float64)
    for k, x in enumerate(tensors):
        flat = x.detach().reshape(-1).double().nan_to_num()
        weights = torch.cos(torch.arange(len(flat), dtype=torch.float64, device=flat.device))
        sizes = torch.stack([flat.abs().sum(), (weights * flat).sum()]).cpu()
        marks += (1 + k) * torch.cat([torch.tensor([float(len(flat))]), sizes])
    return marks
