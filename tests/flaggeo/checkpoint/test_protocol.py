import pickle

import pytest
import torch

from flaggeo.checkpoint import AdaptedCheckpoint, CheckpointError, open_checkpoint
from tests.builders import save_folder, tiny_llama
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


@pytest.mark.parametrize("make", [in_memory, sharded, gguf, adapted])
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


def test_rows_and_device():
    tensor = torch.arange(12.0).reshape(4, 3)
    checkpoint = open_checkpoint({"a": tensor})
    torch.testing.assert_close(checkpoint.read("a", rows=slice(1, 3)), tensor[1:3])
    assert checkpoint.read("a", device=torch.device("cpu")).device.type == "cpu"
