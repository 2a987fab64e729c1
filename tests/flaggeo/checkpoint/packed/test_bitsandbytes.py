import json

import pytest
import torch

from flaggeo.checkpoint import CheckpointError, open_checkpoint

SHAPE = (6, 25)
BLOCK, NESTED_BLOCK = 16, 4


def drawn(seed=0):
    return torch.Generator().manual_seed(seed)


def state(**settings):
    text = json.dumps({"quant_type": "nf4", "blocksize": BLOCK, "dtype": "bfloat16", "shape": SHAPE} | settings)
    return torch.tensor(list(text.encode()), dtype=torch.uint8)


def coded(*, nested=False, kind="nf4"):
    """A weight in codes, and what it stands for, number by number."""
    generator = drawn()
    numbers = SHAPE[0] * SHAPE[1]
    blocks = -(-numbers // BLOCK)
    codes = torch.randint(16, (numbers,), generator=generator).tolist()
    levels = torch.randn(16, generator=generator)
    packed = torch.tensor([first << 4 | second for first, second in zip(codes[::2], codes[1::2], strict=True)])
    tensors = {"a.weight": packed.byte()[:, None], "a.weight.quant_map": levels}
    said = {}
    if nested:
        inner = torch.randint(256, (blocks,), generator=generator)
        inner_levels, inner_maxima = (
            torch.randn(256, generator=generator),
            torch.rand(-(-blocks // NESTED_BLOCK), generator=generator),
        )
        maxima = [
            inner_levels[code].item() * inner_maxima[place // NESTED_BLOCK].item() + 0.25
            for place, code in enumerate(inner.tolist())
        ]
        tensors |= {"a.weight.absmax": inner.byte()}
        tensors |= {"a.weight.nested_quant_map": inner_levels, "a.weight.nested_absmax": inner_maxima}
        said = {"nested_blocksize": NESTED_BLOCK, "nested_dtype": "float32", "nested_offset": 0.25}
    else:
        maxima = torch.rand(blocks, generator=generator).tolist()
        tensors |= {"a.weight.absmax": torch.tensor(maxima)}
    tensors |= {f"a.weight.quant_state.bitsandbytes__{kind}": state(quant_type=kind, **said)}
    expected = [levels[code].item() * maxima[place // BLOCK] for place, code in enumerate(codes)]
    return tensors, torch.tensor(expected).reshape(SHAPE)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_codes_stand_for_levels_of_their_block(nested, kind):
    tensors, expected = coded(nested=nested, kind=kind)
    checkpoint = open_checkpoint(tensors)
    [header] = checkpoint.headers.values()
    assert (header.name, header.shape, header.dtype) == ("a.weight", SHAPE, f"{kind.upper()}:{BLOCK}")
    torch.testing.assert_close(checkpoint.read("a.weight"), expected, rtol=1e-6, atol=1e-7)
    assert torch.equal(checkpoint.read("a.weight", rows=slice(2, 4)), checkpoint.read("a.weight")[2:4])


def test_integers_are_shares_of_the_largest_entry_of_their_row():
    integers = torch.randint(-127, 128, (4, 7), generator=drawn(), dtype=torch.int8)
    maxima = torch.rand(4, generator=drawn())
    tensors = {"a.weight": integers, "a.SCB": maxima, "a.weight_format": torch.tensor(0, dtype=torch.uint8)}
    checkpoint = open_checkpoint(tensors)
    assert list(checkpoint.headers) == ["a.weight"]
    assert checkpoint.headers["a.weight"].dtype == "INT8:7"
    expected = torch.tensor(
        [[n * maxima[row].item() / 127 for n in line] for row, line in enumerate(integers.tolist())]
    )
    torch.testing.assert_close(checkpoint.read("a.weight"), expected, rtol=1e-6, atol=0)
    assert torch.equal(checkpoint.read("a.weight", rows=slice(1, 3)), checkpoint.read("a.weight")[1:3])
    other = open_checkpoint(tensors | {"a.weight_format": torch.tensor(2, dtype=torch.uint8)})
    with pytest.raises(CheckpointError, match=r"'a\.weight_format': expected the layout 0 \(rows\), found 2"):
        other.read("a.weight")


CODED, _ = coded()
STATE = "a.weight.quant_state.bitsandbytes__nf4"


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({STATE: state(shape=[6, 24])}, r"'a\.weight' in U8: expected 72 bytes for shape \(6, 24\)"),
        ({STATE: state(blocksize=32)}, r"'a\.weight\.absmax' in F32: expected shape \(5,\)"),
        ({STATE: state(nested_blocksize=4)}, r"expected 'a\.weight\.nested_quant_map' beside it"),
        ({STATE: state(blocksize=0)}, "found sizes"),
        ({STATE: state(blocksize="16")}, "TypeError"),
        ({STATE: state(shape=[-6, -25])}, "found sizes"),
        ({STATE: torch.zeros(5000, dtype=torch.uint8)}, r"in at most 4096 U8, found shape \(5000,\)"),
        ({STATE: torch.zeros(50, dtype=torch.uint8)}, "found .*Error"),
        ({STATE: torch.tensor(list(b"[]"), dtype=torch.uint8)}, "TypeError"),
        ({"a.weight": torch.zeros(75, 1)}, r"expected 'a\.weight' in U8 beside it"),
        ({"a.weight.quant_map": torch.zeros(8)}, r"'a\.weight\.quant_map' .* expected shape \(16,\)"),
        ({STATE: None, "a.weight.quant_state.bitsandbytes__af4": state()}, "one of the kinds nf4, fp4, found af4"),
    ],
)
def test_codes_that_do_not_fit_are_refused(change, found):
    tensors = {name: tensor for name, tensor in (CODED | change).items() if tensor is not None}
    with pytest.raises(CheckpointError, match=found) as error:
        open_checkpoint(tensors)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("tensors", "found"),
    [
        ({"a.SCB": torch.ones(4)}, r"'a\.SCB' in F32: expected 'a\.weight' in I8"),
        ({"a.weight": torch.ones(4, 7).char(), "a.SCB": torch.ones(7)}, r"expected shape \(4,\)"),
        ({"a.weight": torch.ones(4).char(), "a.SCB": torch.ones(4)}, "expected a matrix"),
    ],
)
def test_integers_that_do_not_fit_are_refused(tensors, found):
    with pytest.raises(CheckpointError, match=found):
        open_checkpoint(tensors)
