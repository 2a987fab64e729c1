import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flaggeo.checkpoint import AdaptedCheckpoint, CheckpointError, open_checkpoint
from tests.builders import save_folder, tiny_llama
from tests.flaggeo.checkpoint.foreign.test_keras_file import hdf5
from tests.flaggeo.checkpoint.foreign.test_onnx_file import initializer, linear_graph, written
from tests.flaggeo.checkpoint.pytorch.test_distributed_folder import in_pieces
from tests.flaggeo.checkpoint.pytorch.test_pickle_files import save_shards
from tests.flaggeo.checkpoint.pytorch.test_pickles import saved
from tests.flaggeo.checkpoint.test_adapter import Q, V, factors_of, save_adapter
from tests.flaggeo.checkpoint.test_gguf_file import QUANTISATION
from tests.flaggeo.checkpoint.test_gguf_file import write as write_gguf


def test_missing_tensor_names_the_checkpoint_and_the_tensor():
    with pytest.raises(CheckpointError, match="state dict: expected a tensor 'nope', found 1 others"):
        open_checkpoint({"a": torch.ones(2, 2)}).read("nope")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_refused_and_counted(bad):
    tensor = torch.ones(3, 4)
    tensor[1, 2] = tensor[2, 3] = bad
    with pytest.raises(CheckpointError, match=r"tensor 'a' of shape \(3, 4\): expected finite numbers, found 2 NaN or"):
        open_checkpoint({"a": tensor}).read("a")


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int64])
def test_quantised_dtypes_are_refused_from_the_header(dtype):
    checkpoint = open_checkpoint({"a": torch.ones(2, 2).to(dtype)})
    with pytest.raises(CheckpointError, match=r"state dict: tensor 'a': expected one of the dtypes .*BF16.*, found"):
        checkpoint.require_readable("a")
    with pytest.raises(CheckpointError, match="de-quantise"):
        checkpoint.read("a")


def in_memory(_):
    return open_checkpoint(tiny_llama())


def sharded(folder):
    return open_checkpoint(save_folder(folder / "model", tiny_llama(), shards=2))


def gguf(folder):
    array = torch.randn(32, 32, generator=torch.Generator().manual_seed(0)).numpy()
    return open_checkpoint(write_gguf(folder / "tiny.gguf", {"a": (array, QUANTISATION.Q8_0)}))


def adapted(folder):
    adapter = save_adapter(folder / "adapter", factors_of(tiny_llama(), (Q, V)))
    return AdaptedCheckpoint(sharded(folder), adapter)


def numbers():
    return {name: torch.randn(40, 30, generator=torch.Generator().manual_seed(seed)) for seed, name in enumerate("ab")}


def pickled(folder):
    return open_checkpoint(save_shards(folder, tiny_llama(), 2))


def old_pickle(folder):
    return open_checkpoint(saved(folder / "x.pt", numbers(), zipped=False))


def numpy(folder):
    np.savez(folder / "x.npz", **{name: tensor.numpy() for name, tensor in numbers().items()})
    return open_checkpoint(folder / "x.npz")


def keras(folder):
    return open_checkpoint(hdf5(folder / "x.h5", {name: tensor.numpy() for name, tensor in numbers().items()}))


def graph(folder):
    tensors, nodes = linear_graph()
    tensors |= numbers()
    return open_checkpoint(written(folder / "x.onnx", [initializer(*item) for item in tensors.items()], nodes))


def distributed(folder):
    return open_checkpoint(in_pieces(folder / "run", numbers(), cuts=([4, 20], [])))


FILES = [sharded, gguf, adapted, pickled, old_pickle, numpy, keras, graph, distributed]


@pytest.mark.parametrize("make", [in_memory, *FILES])
def test_a_checkpoint_can_be_sent_to_another_process(make, tmp_path):
    checkpoint = make(tmp_path)
    sent = pickle.dumps(checkpoint)
    copy = pickle.loads(sent)
    for field in ("location", "config", "metadata", "aliases", "headers", "naming", "readable_dtypes"):
        assert getattr(copy, field) == getattr(checkpoint, field)
    for name in checkpoint.headers:
        assert torch.equal(copy.read(name), checkpoint.read(name))
    numbers = sum(checkpoint.read(name).nbytes for name in checkpoint.headers)
    assert (len(sent) < numbers) == (make is not in_memory), "files travel by their paths"


@pytest.mark.parametrize("make", [numpy, graph, distributed, gguf, sharded])
@settings(max_examples=60)
@given(data=st.data())
def test_a_damaged_file_is_refused_in_one_line_or_read(make, tmp_path_factory, data):
    """Whatever byte is changed: `CheckpointError`, or numbers of the shapes that the headers say."""
    folder = tmp_path_factory.mktemp("damaged")
    make(folder)
    file = data.draw(st.sampled_from(sorted(file for file in folder.rglob("*") if file.is_file())))
    contents = bytearray(file.read_bytes())
    contents[data.draw(st.integers(0, len(contents) - 1))] = data.draw(st.integers(0, 255))
    file.write_bytes(contents)
    message = "read"
    try:
        checkpoint = open_checkpoint(next(folder.iterdir()))
        for name, header in checkpoint.headers.items():
            assert checkpoint.read(name).shape == header.shape
    except CheckpointError as error:
        message = str(error)
    assert len(message.splitlines()) == 1


def test_rows_and_device():
    tensor = torch.arange(12.0).reshape(4, 3)
    checkpoint = open_checkpoint({"a": tensor})
    torch.testing.assert_close(checkpoint.read("a", rows=slice(1, 3)), tensor[1:3])
    assert checkpoint.read("a", device=torch.device("cpu")).device.type == "cpu"


@pytest.mark.parametrize("large", [3e38, -3e38, 2e15])
def test_numbers_whose_squares_overflow_are_named(large):
    tensor = torch.ones(3, 4)
    tensor[1, 2] = large
    checkpoint = open_checkpoint({"a": tensor})
    with pytest.raises(CheckpointError, match=r"'a' of shape \(3, 4\): expected numbers of at most 1e\+15, found"):
        checkpoint.read("a")
