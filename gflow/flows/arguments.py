"""What is passed as a flow or as a loss: an error says what to write instead."""

from __future__ import annotations

from torch import nn

from gflow.checks import shown
from gflow.errors import InputError
from gflow.flows.base import Flow
from gflow.losses import Loss


def require_flow(flow: object, usage: str) -> None:
    """Raise InputError, which says what to write, unless a value is a flow.

    Parameters
    ----------
    flow : object
        What was passed as a flow.
    usage : str
        The call as it should be written.

    Raises
    ------
    InputError
        If it is a function, a module, a loss, a class, a tensor, or anything else.

    Examples
    --------
    >>> require_flow(lambda t, y: -y, "gflow.integrate(flow, y0, ts)")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    gflow.errors.InputError: flow must be a flow of gflow, got function; ...
    """
    if isinstance(flow, Flow):
        return
    if isinstance(flow, type):
        mend = f"make one, such as {flow.__name__}(...)"
    elif isinstance(flow, nn.Module):
        mend = "write gflow.NetworkFlow(module, criterion, inputs, targets)"
    elif isinstance(flow, Loss):
        mend = "write gflow.EndToEndFlow(loss, depth) or gflow.FactorFlow(loss)"
    elif callable(flow):
        mend = (
            "of a loss φ(y) write gflow.flow_from_loss(loss); a right-hand side alone has no loss "
            "to certify"
        )
    else:
        mend = f"write {usage}"
    raise InputError(f"flow must be a flow of gflow, got {shown(flow)}; {mend}")


def require_loss(loss: object) -> None:
    """Raise InputError, which says what to write, unless a value is a loss of a matrix.

    Parameters
    ----------
    loss : object
        What was passed as a loss.

    Raises
    ------
    InputError
        If it is no `Loss`.

    Examples
    --------
    >>> require_loss(lambda W: (W**2).sum())  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    gflow.errors.InputError: loss must be one of gflow.losses, got function; ...
    """
    if isinstance(loss, Loss):
        return
    mend = "for a loss of your own write gflow.flow_from_loss(loss), or derive from Loss"
    if isinstance(loss, type):
        mend = f"make one, such as {loss.__name__}(...)"
    elif not callable(loss):
        mend = "such as SquaredDistance(target) or LinearRegression(inputs, targets)"
    raise InputError(f"loss must be one of gflow.losses, got {shown(loss)}; {mend}")


def require_team(team: object) -> None:
    """Raise InputError unless a value is a team of processes, or None.

    Examples
    --------
    >>> require_team(3)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    gflow.errors.InputError: team must be a Team, got 3; take that of gflow.distributed.processes...
    """
    if team is None:
        return
    from gflow.distributed import Team  # torch.distributed takes long to import

    if not isinstance(team, Team):
        raise InputError(
            f"team must be a Team, got {shown(team)}; take that of gflow.distributed.processes(), "
            "as in: with gflow.distributed.processes() as team"
        )
