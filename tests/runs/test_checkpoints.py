"""The checkpoint store in a folder: bit for bit, and safe against damaged files."""

import json

import numpy as np
import pytest
import torch

from gflow.errors import OutputError
from gflow.execution.checkpointing import Checkpoint
from gflow.runs import checkpoints
from gflow.runs.checkpoints import FolderCheckpointStore
from gflow.runs.folder import RunFolder
from tests.helpers import times


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "run")


STATE = {
    "a": times(1.0, float("nan")),
    "scalar": torch.tensor(2.5),
    "whole": torch.arange(6).reshape(2, 3).T,
    "flag": torch.tensor([True, False]),
    "none": torch.zeros(0, 3),
}


def require_same(tensors, expected):
    assert set(tensors) == set(expected)
    for name, value in expected.items():
        assert tensors[name].dtype == value.dtype
        assert tensors[name].shape == value.shape
        assert tensors[name].stride() == value.stride() or value.numel() == 0
        assert tensors[name].numpy().tobytes() == value.numpy().tobytes()


def test_the_store_returns_the_checkpoints_it_was_given(folder):
    store = FolderCheckpointStore(folder)
    meta = {"x": 0.1 + 0.2, "inf": float("inf"), "text": "é", "list": [1, [2]]}
    store.put_pieces(0, [Checkpoint(STATE, meta), Checkpoint({}, {})])
    store.put_pieces(2, [Checkpoint({"b": times(3.0)}, {"i": 2})])
    store.put_checkpoint(3, Checkpoint(STATE, meta))
    first, second, third = store.pieces()
    require_same(first.tensors, STATE)
    assert first.meta == meta
    assert (second.tensors, second.meta, third.meta) == ({}, {}, {"i": 2})
    index, state = store.checkpoint()
    assert (index, state.meta) == (3, meta)
    require_same(state.tensors, STATE)
    store.clear()
    assert store.checkpoint() is None
    assert list(store.pieces()) == []


def damage(file, how):
    data = file.read_bytes()
    if how == "cut":
        file.write_bytes(data[: len(data) // 2])
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "bit":
        at = data.index(times(7.0).numpy().tobytes())
        file.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    else:
        other = file.with_name("elsewhere")
        file.rename(other)
        file.symlink_to(other)


@pytest.mark.parametrize("how", ["cut", "empty", "bit", "link"])
def test_a_damaged_checkpoint_is_replaced_by_the_previous_one(how, folder):
    store = FolderCheckpointStore(folder)
    store.put_checkpoint(0, Checkpoint({"a": times(5.0)}))
    store.put_checkpoint(1, Checkpoint({"a": times(7.0)}))
    damage(folder.path / "checkpoint.safetensors", how)
    with pytest.warns(UserWarning, match=r"checkpoint.safetensors is damaged .*the one before"):
        index, state = store.checkpoint()
    assert (index, float(state.tensors["a"])) == (0, 5.0)
    (folder.path / "checkpoint.previous.safetensors").unlink()
    with pytest.warns(UserWarning, match="is damaged"):
        assert store.checkpoint() is None


@pytest.mark.parametrize("how", ["cut", "empty", "bit", "link"])
def test_damaged_parts_are_computed_again(how, folder):
    store = FolderCheckpointStore(folder)
    for i in range(3):
        store.put_pieces(i, [Checkpoint({"a": times(6.0 + i)}, {"i": i})])
    damage(folder.path / "parts" / "000001.npz", how)
    with pytest.warns(UserWarning, match=r"000001.npz is damaged .*computed again"):
        assert [piece.meta["i"] for piece in store.pieces()] == [0]
    assert [f.name for f in sorted((folder.path / "parts").glob("0*"))] == ["000000.npz"]


def test_a_compressed_part_is_refused(folder):
    FolderCheckpointStore(folder).put_pieces(0, [Checkpoint({"a": times(1.0)}, {})])
    file = folder.path / "parts" / "000000.npz"
    meta = np.frombuffer(json.dumps({}).encode(), np.uint8)
    np.savez_compressed(file, **{"0": meta, "0/a": np.zeros(10_000_000)})
    with pytest.warns(UserWarning, match="compressed"):
        assert list(FolderCheckpointStore(folder).pieces()) == []


def test_a_kill_between_two_renames_preserves_the_previous_checkpoint(folder, monkeypatch):
    store = FolderCheckpointStore(folder)
    store.put_checkpoint(0, Checkpoint({"a": times(5.0)}))

    def write(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "_arrays", lambda tensors: {})
    with pytest.raises(KeyboardInterrupt):
        folder.write("checkpoint.safetensors", write, before="checkpoint.previous.safetensors")
    (folder.path / "checkpoint.safetensors").rename(folder.path / "checkpoint.previous.safetensors")
    index, state = store.checkpoint()
    assert (index, float(state.tensors["a"])) == (0, 5.0)


def test_a_full_disk_is_one_error(tmp_path, monkeypatch):
    import safetensors.numpy

    folder = RunFolder(tmp_path / "run")

    def fails(*args, **kwargs):
        raise safetensors.SafetensorError("Error while serializing: I/O error: disk is full")

    monkeypatch.setattr(safetensors.numpy, "save_file", fails)
    with pytest.raises(OutputError, match=r"checkpoint.safetensors: disk is full$"):
        FolderCheckpointStore(folder).put_checkpoint(0, Checkpoint())
