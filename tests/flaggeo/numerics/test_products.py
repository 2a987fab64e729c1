import pytest
import torch

from flaggeo.numerics.products import add_gram, mirrored


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("rows", "columns"), [(7, 5), (40, 300), (500, 257)])
def test_blocks_add_up_to_the_gram_matrix(rows, columns, dtype):
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(rows, columns, generator=generator, dtype=torch.float64).to(dtype)
    gram = matrix.new_zeros(columns, columns)
    for block in matrix.split(rows // 2):
        add_gram(gram, block)
    exact = matrix.double().mT @ matrix.double()
    # A sum of n products is off by at most n units of rounding times the sum of their sizes.
    room = rows * torch.finfo(dtype).eps * (matrix.double().abs().mT @ matrix.double().abs())
    assert ((mirrored(gram).double() - exact).abs() <= room).all()
    assert torch.equal(gram, gram.mT)


def test_rows_of_any_strides_are_added():
    generator = torch.Generator().manual_seed(1)
    columns_first = torch.randn(200, 30, generator=generator, dtype=torch.float64).mT
    gram, same = torch.zeros(2, 200, 200, dtype=torch.float64)
    add_gram(gram, columns_first)
    add_gram(same, columns_first.contiguous())
    assert torch.equal(gram, same)
    assert torch.allclose(mirrored(gram), columns_first.mT @ columns_first)


def test_the_upper_triangle_of_what_is_mirrored_does_not_count():
    lower = torch.arange(300.0 * 300).view(300, 300).tril()
    assert torch.equal(mirrored(lower + torch.full((300, 300), 7.0).triu(1)), lower + lower.tril(-1).mT)
