"""Messages between processes: headers, fingerprints, and the reason of a failure."""

import pytest
import torch

from gflow.distributed.channel import Channel, decode_header, encode_header, fingerprint
from gflow.errors import InputError, PeerError
from tests.helpers import randn


class Store(dict):
    """torch.distributed's store, as far as a channel uses it."""

    def check(self, keys):
        return all(key in self for key in keys)

    def set(self, key, value):
        self[key] = value.encode()

    def get(self, key):
        return self[key]


@pytest.mark.parametrize("shapes", [[], [()], [(0,)], [(2, 3), (), (7,)], [(1,) * 15, (4,) * 14]])
def test_a_header_is_decoded_as_it_was_encoded(shapes):
    header = encode_header(5, [torch.Size(shape) for shape in shapes])
    assert header.shape == (32,)
    assert decode_header(header) == (5, shapes)


def test_too_many_dimensions_are_refused():
    with pytest.raises(InputError, match="at most 31 dimensions and sizes together, got 33"):
        encode_header(0, [torch.Size([1] * 32)])


def test_fingerprints_differ_by_value_order_and_length():
    x = randn(5)
    marks = fingerprint([x])
    assert torch.equal(fingerprint([x.clone()]), marks)
    for other in ([x + 1e-3], [x.flip(0)], [x[:4]], [x, x[:0], x]):
        assert not torch.allclose(fingerprint(other), marks, rtol=1e-9)
    assert not torch.allclose(fingerprint([x, 2 * x]), fingerprint([2 * x, x]), rtol=1e-9)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ("Connection closed by peer", "ended before its time, which ends the run"),
        ("Timed out waiting 1000ms", "did not answer in time, which ends the run"),
    ],
)
def test_a_failed_exchange_breaks_the_channel_and_reports_the_reason(error, reason):
    def collective():
        raise RuntimeError(error)

    channel = Channel(0, 2, Store(), None)
    with pytest.raises(PeerError, match=f"another of the 2 processes {reason}"):
        channel.exchange(collective)
    assert channel.broken


def test_the_reason_that_a_process_left_is_reported():
    store = Store()
    Channel(1, 2, store, None).report_failure(ValueError("no\nluck"))

    def collective():
        raise RuntimeError("Connection closed by peer")

    with pytest.raises(PeerError, match=r"^process 1 of 2 failed: no luck$"):
        Channel(0, 2, store, None).exchange(collective)
