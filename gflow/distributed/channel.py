"""The messages between the processes of a team: operations, tensors and failures."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from gflow.errors import InputError, PeerError

_HEADER = 32  # numbers: an operation, then the shapes of its tensors
_FILL = -1
_END = -1  # in the place of an operation: there are no more
_FAILURE = "gflow/failure"


class Channel:
    """The channel between the processes of a team.

    Parameters
    ----------
    rank, size : int
        The number of this process, from 0, and how many there are.
    store : torch.distributed.Store
        For the reason of a failure.
    commands : torch.distributed.ProcessGroup
        On which ranks other than 0 wait for the next operation, for any length of time.

    Attributes
    ----------
    broken : bool
        Whether one of the processes failed.
    """

    def __init__(
        self, rank: int, size: int, store: dist.Store | None, commands: dist.ProcessGroup | None
    ):
        self._rank = rank
        self._size = size
        self._store = store
        self._commands = commands
        self.broken = False

    def exchange(self, collective: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Call a collective operation of ``torch.distributed``.

        Raises
        ------
        PeerError
            If another process failed, ended or did not answer in time.
        """
        try:
            collective(*args, **kwargs)
        except RuntimeError as error:
            self.broken = True
            raise PeerError(self._reason(error)) from None

    def send(self, operation: int, tensors: Sequence[Tensor] = ()) -> None:
        """Send the number of an operation and its tensors, all of one dtype, from rank 0."""
        header = encode_header(operation, [x.shape for x in tensors])
        self.exchange(dist.broadcast, header, src=0, group=self._commands)
        if tensors:
            self.exchange(dist.broadcast, torch.cat([x.reshape(-1) for x in tensors]), src=0)

    def send_end(self) -> None:
        """Tell the other ranks that no operation follows."""
        self.send(_END)

    def receive(self) -> tuple[int, list[torch.Size]] | None:
        """Receive the number of the next operation and the shapes of its tensors; None at the end.

        Ranks other than 0 call this.
        """
        header = torch.zeros(_HEADER, dtype=torch.int64)
        self.exchange(dist.broadcast, header, src=0, group=self._commands)
        return decode_header(header)

    def receive_tensors(self, shapes: Sequence[torch.Size], like: Tensor) -> list[Tensor]:
        """Receive the tensors of an operation, of the dtype and on the device of ``like``."""
        if not shapes:
            return []
        counts = [shape.numel() for shape in shapes]
        flat = like.new_empty(sum(counts))
        self.exchange(dist.broadcast, flat, src=0)
        pairs = zip(flat.split(counts), shapes, strict=True)
        return [part.reshape(shape) for part, shape in pairs]

    def report_failure(self, error: BaseException) -> None:
        """Leave the reason why this process ends, for rank 0."""
        self.broken = True
        text = " ".join(str(error).split()) or type(error).__name__
        with contextlib.suppress(RuntimeError):  # no process may be left to read it
            if self._store is not None:
                self._store.set(_FAILURE, f"process {self._rank} of {self._size} failed: {text}")

    def _reason(self, error: RuntimeError) -> str:
        with contextlib.suppress(RuntimeError):
            if self._store is not None and self._store.check([_FAILURE]):
                return self._store.get(_FAILURE).decode()
        event = "did not answer in time" if "imed out" in str(error) else "ended before its time"
        return f"another of the {self._size} processes {event}, which ends the run"

    def close(self) -> None:
        """Release the other ranks and end the process group."""
        if self._rank == 0 and not self.broken:
            with contextlib.suppress(PeerError):
                self.send_end()
        self._commands = None
        if not self.broken:  # in a broken group this would wait for the processes that hang
            dist.destroy_process_group()


def encode_header(operation: int, shapes: Sequence[torch.Size]) -> Tensor:
    """Encode an operation and the shapes of its tensors as one tensor of fixed length.

    Parameters
    ----------
    operation : int
    shapes : sequence of torch.Size

    Returns
    -------
    Tensor, shape (32,), int64

    Raises
    ------
    InputError
        If the tensors have too many dimensions together.

    Examples
    --------
    >>> header = encode_header(3, [torch.Size([5, 2]), torch.Size([])])
    >>> header[:6].tolist(), decode_header(header)
    ([3, 2, 5, 2, 0, -1], (3, [torch.Size([5, 2]), torch.Size([])]))
    """
    numbers = [operation, *(n for shape in shapes for n in (len(shape), *shape))]
    if len(numbers) > _HEADER:
        raise InputError(
            f"the tensors of a split flow must have at most {_HEADER - 1} dimensions and sizes "
            f"together, got {len(numbers) - 1}"
        )
    return torch.tensor(numbers + [_FILL] * (_HEADER - len(numbers)))


def decode_header(header: Tensor) -> tuple[int, list[torch.Size]] | None:
    """Return the operation and the shapes in a header; None where it is the end."""
    operation, *numbers = header.tolist()
    if operation == _END:
        return None
    shapes, i = [], 0
    while i < len(numbers) and numbers[i] != _FILL:
        shapes.append(torch.Size(numbers[i + 1 : i + 1 + numbers[i]]))
        i += 1 + numbers[i]
    return operation, shapes


def fingerprint(tensors: Iterable[Tensor]) -> Tensor:
    """Return the count of all numbers, the sum of their sizes, and a sum that depends on order.

    Examples
    --------
    >>> fingerprint([torch.tensor([1.0, -2.0])])[:2].tolist()
    [2.0, 3.0]
    """
    marks = torch.zeros(3, dtype=torch.float64)
    for k, x in enumerate(tensors):
        flat = x.detach().reshape(-1).double().nan_to_num()
        weights = torch.cos(torch.arange(len(flat), dtype=torch.float64, device=flat.device))
        sums = torch.stack([flat.abs().sum(), (weights * flat).sum()]).cpu()
        marks += (1 + k) * torch.cat([torch.tensor([float(len(flat))]), sums])
    return marks
