import numpy as np
import pytest
import torch

from flaggeo.checkpoint.dtypes import as_tensor, numpy_spelling, spelling


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_torch_and_numpy_are_spelt_alike(dtype):
    array = torch.ones(1, dtype=dtype).numpy()
    assert spelling(dtype) == numpy_spelling(array.dtype) == numpy_spelling(array.dtype.newbyteorder(">"))


@pytest.mark.parametrize("dtype", [np.longdouble, np.complex64, np.int32, "V2", "O"])
def test_what_torch_has_no_floating_dtype_for_keeps_its_name(dtype):
    assert numpy_spelling(np.dtype(dtype)) == str(np.dtype(dtype))


def test_an_array_of_another_byte_order_that_is_read_only_becomes_a_tensor():
    array = np.arange(3, dtype=">f4")
    array.flags.writeable = False
    assert torch.equal(as_tensor(array), torch.arange(3.0))
