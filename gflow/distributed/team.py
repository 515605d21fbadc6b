r"""Sums over samples and rows of a matrix, split across processes with torch.distributed.

Rank 0 leads: it alone runs the solver, prints and writes. The other ranks hold their rows of the
data and serve requests. For an evaluation of a split flow rank 0 sends the state to all,

    L(θ) = Σ_r L_r(θ),   ∇L(θ) = Σ_r ∇L_r(θ),   H v = [H_1 v; …; H_R v],

each rank r computes its part from its rows, and the parts are added up, or concatenated, on rank 0.
So every decision of a solver is taken once, from the same numbers: the machines of the processes
need not round alike. ``docs/distributed.md`` says what is sent, and what it costs.

`gflow.distributed.process_group` starts and ends a team, `gflow.distributed.channel` has its
messages.
"""

from __future__ import annotations

import contextlib
import functools
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor

from gflow.distributed.channel import Channel, fingerprint
from gflow.errors import InputError, PeerError

#: Tensors → tensors of this process's rows.
Function = Callable[..., Sequence[Tensor]]

_ROUNDING = 1e-6  # relative difference of the same data computed on different machines
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(eq=False)
class Team:
    """The processes of a run; `processes` makes it.

    Attributes
    ----------
    rank, size : int
        This process's number, from 0, and how many there are.
    channel : Channel
        Between the processes; a team of one sends nothing.
    gpu : int or None
        The number of this process's GPU on its machine.
    """

    rank: int = 0
    size: int = 1
    channel: Channel = field(default_factory=lambda: Channel(0, 1, None, None))
    gpu: int | None = None
    _operations: list[tuple[Function, Tensor]] = field(default_factory=list)
    _in_step: bool = False  # every process is at the same place of its program
    _leading: bool = False  # ranks other than 0 serve requests by now

    @property
    def broken(self) -> bool:
        """Whether one of the processes failed, which makes the others useless."""
        return self.channel.broken

    def rows(self, n: int) -> slice:
        """Return this process's share of n rows.

        Examples
        --------
        >>> [Team(rank, 3).rows(10) for rank in range(3)]
        [slice(0, 3, None), slice(3, 6, None), slice(6, 10, None)]
        """
        if n < self.size:
            raise InputError(f"{n} rows cannot be split across {self.size} processes; start fewer")
        return slice(*(n * rank // self.size for rank in (self.rank, self.rank + 1)))

    def leads(self) -> bool:
        """Serve requests on other ranks until the context ends; return whether this is rank 0.

        The context is that of ``with processes()`` on rank 0. Split flows must have been made by
        now, in every process. While they serve, other ranks ignore SIGINT and SIGTERM: rank 0
        handles them, and may need the others to end in good order.
        """
        self._leading = True
        if self.rank > 0:
            self._serve()
        return self.rank == 0

    @contextlib.contextmanager
    def collective(self) -> Iterator[None]:
        """Run a block that every process runs in the same order, such as making a split flow.

        Operations inside are not announced, and every process gets their results.

        Yields
        ------
        None

        Raises
        ------
        InputError
            If the other processes serve requests by now.
        """
        if self._leading:
            raise InputError("make every split flow in all processes, before team.leads()")
        self._in_step = True
        try:
            yield
        finally:
            self._in_step = False

    # -- operations that all processes do when rank 0 requests them -------------------------

    def total(self, function: Function, like: Tensor) -> Callable[..., list[Tensor]]:
        """Make the operation ``function(*tensors)``, summed over the processes.

        Parameters
        ----------
        function : callable
            Tensors → a sequence of tensors of this process's rows, with the same shapes in every
            process.
        like : Tensor
            Has the dtype and the device of all.

        Returns
        -------
        callable
            Called by rank 0.
        """

        def summed(*tensors: Tensor) -> list[Tensor]:
            parts = function(*tensors)
            flat = torch.cat([part.reshape(-1) for part in parts])
            self.channel.exchange(dist.reduce, flat, dst=0)
            sizes = [part.numel() for part in parts]
            pairs = zip(self._shared(flat).split(sizes), parts, strict=True)
            return [total.reshape(part.shape) for total, part in pairs]

        return self._operation(summed, like)

    def concatenation(
        self, function: Callable[..., Tensor], n: int, like: Tensor
    ) -> Callable[..., Tensor]:
        """Make the operation ``function(*tensors)``, concatenated over the processes.

        Parameters
        ----------
        function : callable
            Tensors → a tensor of this process's `rows` of n, shape (rows, ...).
        n : int
            The number of rows of the result.
        like : Tensor
            Has the dtype and the device of all.

        Returns
        -------
        callable
            Tensors → a tensor of shape (n, ...); called by rank 0.
        """
        slices = [Team(rank, self.size).rows(n) for rank in range(self.size)]
        sizes = [rows.stop - rows.start for rows in slices]

        def gathered(*tensors: Tensor) -> list[Tensor]:
            part = function(*tensors)
            # Padded to one size, which every backend can gather.
            padded = part.new_zeros(max(sizes), *part.shape[1:])
            padded[: len(part)] = part
            parts = [torch.empty_like(padded) for _ in sizes] if self.rank == 0 else None
            self.channel.exchange(dist.gather, padded, parts, dst=0)
            if parts is None:
                result = part.new_empty(n, *part.shape[1:])
            else:
                pairs = zip(parts, sizes, strict=True)
                result = torch.cat([rows[:size] for rows, size in pairs])
            return [self._shared(result)]

        operation = self._operation(gathered, like)
        return lambda *tensors: operation(*tensors)[0]

    def minimum(self, values: Tensor) -> Tensor:
        """Return the minimum of each value over the processes; every process calls this."""
        smallest = values.clone()
        self.channel.exchange(dist.all_reduce, smallest, op=dist.ReduceOp.MIN)
        return smallest

    def require_equal(self, what: str, tensors: Iterable[Tensor]) -> None:
        """Raise InputError unless the processes hold equal tensors; every process calls this.

        Parameters
        ----------
        what : str
            What the message calls the tensors, in the plural.
        tensors : iterable of Tensor

        Raises
        ------
        InputError
            If a process holds others, up to rounding.
        """
        marks = fingerprint(tensors)
        extremes = self.minimum(torch.cat([marks, -marks]))
        spread = -extremes[len(marks) :] - extremes[: len(marks)]
        if bool(spread[0] > 0) or bool((spread[1:] > _ROUNDING * marks[1]).any()):
            raise InputError(
                f"{what} must be the same in every process, and they differ; load them in the same "
                "order and seed torch alike"
            )

    def _operation(self, function: Function, like: Tensor) -> Callable[..., list[Tensor]]:
        if like.is_cuda and like.device.index != self.gpu:
            device = "no GPU" if self.gpu is None else f"cuda:{self.gpu}"
            raise InputError(
                "processes on GPUs need nccl and a GPU each, and take the one of their number on "
                f"the machine (device 'cuda'); here that is {device}, got {like.device}"
            )
        self._operations.append((function, like))
        return functools.partial(self._call, len(self._operations) - 1)

    def _call(self, number: int, *tensors: Tensor) -> list[Tensor]:
        function, like = self._operations[number]
        tensors = tuple(x.detach() for x in tensors)
        if not self._in_step:
            self._request(number, tensors, like)
        with torch.no_grad():
            return list(function(*tensors))

    def _request(self, number: int, tensors: Sequence[Tensor], like: Tensor) -> None:
        """Request an operation from the other ranks, and send them its tensors."""
        if self.rank > 0:
            raise InputError("a split flow may be called on rank 0 only: see team.leads()")
        self._leading = True
        for x in tensors:
            if (x.dtype, x.device) != (like.dtype, like.device):
                raise InputError(
                    f"a split flow of {like.dtype} on {like.device} got {x.dtype} on {x.device}; "
                    "convert one with .to(...)"
                )
        self.channel.send(number, tensors)

    def _serve(self) -> None:
        """Serve requests until rank 0 sends the end, or has ended."""
        with _signals_ignored(), contextlib.suppress(PeerError):  # rank 0 reports why, if it can
            while (request := self.channel.receive()) is not None:
                number, shapes = request
                function, like = self._operations[number]
                tensors = self.channel.receive_tensors(shapes, like)
                with torch.no_grad():
                    function(*tensors)

    def _shared(self, result: Tensor) -> Tensor:
        """Return a result of rank 0; where the processes are in step, all of them get it."""
        if self._in_step:
            self.channel.exchange(dist.broadcast, result, src=0)
        return result

    def close(self) -> None:
        """Release the other processes; no operation can be requested any more."""
        self._operations.clear()
        self.channel.close()


@contextlib.contextmanager
def _signals_ignored() -> Iterator[None]:
    """Ignore SIGINT and SIGTERM, which torchrun and a terminal send to every process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
