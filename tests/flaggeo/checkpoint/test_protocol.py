import pytest
import torch

from flaggeo.checkpoint import CheckpointError, open_checkpoint


def test_missing_tensor_names_the_checkpoint_and_the_tensor():
    with pytest.raises(CheckpointError, match="state dict: expected a tensor 'nope', found 1 others"):
        open_checkpoint({"a": torch.ones(2, 2)}).read("nope")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_refused_and_counted(bad):
    tensor = torch.ones(3, 4)
    tensor[1, 2] = tensor[2, 3] = bad
    with pytest.raises(CheckpointError, match=r"tensor 'a' of shape \(3, 4\): expected finite numbers, found 2 NaN or"):
        open_checkpoint({"a": tensor}).read("a")


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn, torch.int64])
def test_quantised_dtypes_are_refused_from_the_header(dtype):
    checkpoint = open_checkpoint({"a": torch.ones(2, 2).to(dtype)})
    with pytest.raises(CheckpointError, match=r"state dict: tensor 'a': expected one of the dtypes .*BF16.*, found"):
        checkpoint.require_readable("a")
    with pytest.raises(CheckpointError, match="de-quantise"):
        checkpoint.read("a")


def test_rows_and_device():
    tensor = torch.arange(12.0).reshape(4, 3)
    checkpoint = open_checkpoint({"a": tensor})
    torch.testing.assert_close(checkpoint.read("a", rows=slice(1, 3)), tensor[1:3])
    assert checkpoint.read("a", device=torch.device("cpu")).device.type == "cpu"
