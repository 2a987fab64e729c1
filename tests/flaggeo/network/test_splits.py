import torch

from flaggeo.network.splits import Split


def test_transposition_rows_and_columns_compose():
    stored = torch.arange(12.0).reshape(3, 4)
    assert torch.equal(Split(transposed=True, rows=(1, 3), columns=(0, 2))(stored), stored.T[1:3, :2])
    assert torch.equal(Split()(stored), stored)


def test_rotary_rows_are_put_back_to_the_order_of_training():
    """The kernels want the two halves of a head interleaved: 0, 4, 1, 5, 2, 6, 3, 7 for a head of 8."""
    heads, half, width = 3, 4, 5
    trained = torch.arange(float(heads * 2 * half * width)).reshape(heads * 2 * half, width)
    order = [head * 2 * half + part * half + plane for head in range(heads) for plane in range(half) for part in (0, 1)]
    assert torch.equal(Split(rotary_heads=heads)(trained[order]), trained)
    assert torch.equal(Split(rotary_heads=heads, rows=(8, 16))(trained[order]), trained[8:16])
