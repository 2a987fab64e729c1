import sys
import warnings

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from flaggeo.checkpoint import CheckpointError, open_checkpoint

KINDS = {"F64": TensorProto.DOUBLE, "F32": TensorProto.FLOAT, "F16": TensorProto.FLOAT16, "BF16": TensorProto.BFLOAT16}
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def gaussian(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def initializer(name, tensor):
    return numpy_helper.from_array(tensor.numpy(), name)


def written(path, initializers, nodes=()):
    graph = helper.make_graph(list(nodes), "graph", [], [], initializer=initializers)
    path.write_bytes(helper.make_model(graph, producer_name="hand").SerializeToString())
    return path


def beside(name, shape, *, kind=TensorProto.FLOAT, **place):
    """An initializer whose numbers are in another file."""
    entries = [onnx.StringStringEntryProto(key=key, value=str(value)) for key, value in place.items()]
    return TensorProto(name=name, dims=shape, data_type=kind, data_location=TensorProto.EXTERNAL, external_data=entries)


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("raw", [True, False])
def test_reads_what_was_saved(tmp_path, dtype, raw):
    tensor = gaussian(5, 3).to(DTYPES[dtype])
    values = tensor.view(torch.uint8).numpy().tobytes() if raw else tensor.flatten().double().tolist()
    stored = helper.make_tensor("a", KINDS[dtype], (5, 3), values, raw=raw)
    checkpoint = open_checkpoint(written(tmp_path / "x.onnx", [stored, initializer("b", torch.tensor(2.0))]))
    assert (checkpoint.headers["a"].shape, checkpoint.headers["a"].dtype) == ((5, 3), dtype)
    assert torch.equal(checkpoint.read("a").double(), tensor.double())
    assert torch.equal(checkpoint.read("a", rows=slice(2, 4)).double(), tensor[2:4].double())
    assert checkpoint.read("b") == 2
    assert checkpoint.metadata == {"format": "onnx", "producer": "hand"}


def linear_graph():
    """Three linear layers, as torch's exporter writes them: a MatMul, a Gemm, and a parameter of its own name."""
    tensors = {
        "onnx::MatMul_1": gaussian(3, 5),
        "onnx::MatMul_2": gaussian(4, 4, seed=1),
        "onnx::Gemm_3": gaussian(5, 4, seed=2),
        "own": gaussian(3, 6, seed=3),
        "norm.1": gaussian(3, seed=4),
        "embed": gaussian(7, 3, seed=5),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "onnx::MatMul_1"], ["1"], "/encoder/layer.0/attention/self/query/MatMul"),
        helper.make_node("MatMul", ["x", "onnx::MatMul_2"], ["2"], "/blocks/blocks.1/fc/MatMul"),
        helper.make_node("Gemm", ["x", "onnx::Gemm_3"], ["3"], "/head/Gemm", transB=1),
        helper.make_node("MatMul", ["x", "own"], ["4"], "/other/MatMul"),
        helper.make_node("Identity", ["norm.1"], ["norm.2"]),
        helper.make_node("Identity", ["embed"], ["unembed"]),
        helper.make_node("Relu", ["x"], ["5"]),
    ]
    return tensors, nodes


def test_anonymous_weights_get_the_names_and_the_order_of_a_state_dict(tmp_path):
    tensors, nodes = linear_graph()
    path = written(tmp_path / "x.onnx", [initializer(name, tensor) for name, tensor in tensors.items()], nodes)
    checkpoint = open_checkpoint(path)
    expected = {
        "encoder.layer.0.attention.self.query.weight": tensors["onnx::MatMul_1"].mT,
        "blocks.1.fc.weight": tensors["onnx::MatMul_2"].mT,
        "head.weight": tensors["onnx::Gemm_3"],
        "own": tensors["own"],
        "norm.1": tensors["norm.1"],
        "norm.2": tensors["norm.1"],
        "embed": tensors["embed"],
    }
    assert set(checkpoint.headers) == set(expected)
    assert checkpoint.aliases == {"unembed": "embed"}
    for name, tensor in expected.items():
        assert checkpoint.headers[name].shape == tuple(tensor.shape)
        assert torch.equal(checkpoint.read(name), tensor)
        assert torch.equal(checkpoint.read(name, rows=slice(1, 3)), tensor[1:3])


def test_a_name_that_another_tensor_has_is_not_taken(tmp_path):
    nodes = [
        helper.make_node("MatMul", ["x", "onnx::MatMul_1"], ["1"], "/fc/MatMul"),
        helper.make_node("MatMul", ["x", "onnx::MatMul_2"], ["2"], "/up/MatMul"),
        helper.make_node("MatMul", ["x", "onnx::MatMul_3"], ["3"], "/up/MatMul_1"),
        helper.make_node("MatMul", ["x", "onnx::MatMul_2"], ["4"], "/again/MatMul"),
    ]
    names = ["fc.weight", "onnx::MatMul_1", "onnx::MatMul_2", "onnx::MatMul_3"]
    checkpoint = open_checkpoint(
        written(tmp_path / "x.onnx", [initializer(name, gaussian(2, 3, seed=len(name))) for name in names], nodes)
    )
    assert {name: header.shape for name, header in checkpoint.headers.items()} == {
        "fc.weight": (2, 3),
        "onnx::MatMul_1": (2, 3),
        "up.weight": (3, 2),
        "onnx::MatMul_3": (2, 3),
    }
    assert checkpoint.aliases == {"again.weight": "up.weight"}


def test_scopes_name_the_module_where_nodes_do_not(tmp_path):
    node = helper.make_node("MatMul", ["x", "val_0"], ["1"], "node_linear")
    scopes = "['', 'layer.0', 'layer.0.query', 'linear']"
    node.metadata_props.append(onnx.StringStringEntryProto(key="pkg.torch.onnx.name_scopes", value=scopes))
    checkpoint = open_checkpoint(written(tmp_path / "x.onnx", [initializer("val_0", gaussian(3, 5))], [node]))
    assert checkpoint.headers["layer.0.query.weight"].shape == (5, 3)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.query = nn.Linear(6, 10)
        self.mlp = nn.Sequential(nn.Linear(10, 7, bias=False), nn.ReLU(), nn.Linear(7, 6))
        self.norm = nn.LayerNorm(6)

    def forward(self, stream):
        return self.norm(stream + self.mlp(self.query(stream)))


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.layers = nn.ModuleList([Block(), Block()])
        self.pool = nn.Linear(6, 3)

    def forward(self, words):
        stream = self.embed(words)
        for block in self.layers:
            stream = block(stream)
        return self.pool(stream[:, 0])


def test_an_exported_module_has_its_state_dict_back(tmp_path):
    module = Network().eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, generator=generator)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's older exporter is the one that needs no further package
        torch.onnx.export(module, (torch.zeros(1, 5, dtype=torch.long),), tmp_path / "x.onnx", dynamo=False)
    checkpoint = open_checkpoint(tmp_path / "x.onnx")
    state = module.state_dict()
    assert set(state) == set(checkpoint.headers)
    assert all(torch.equal(checkpoint.read(name), tensor) for name, tensor in state.items())


def with_external(folder, **place):
    """A file whose one matrix, 5 x 3, begins at byte 8 of a file beside it."""
    numbers = gaussian(5, 3)
    (folder / "x.data").write_bytes(bytes(8) + numbers.numpy().tobytes() + bytes(4))
    where = {"location": "x.data", "offset": 8, "length": 60} | place
    return numbers, written(
        folder / "x.onnx", [beside("a", (5, 3), **{k: v for k, v in where.items() if v is not None})]
    )


def test_numbers_beside_the_file_are_read(tmp_path):
    numbers, path = with_external(tmp_path)
    checkpoint = open_checkpoint(path)
    assert checkpoint.headers["a"].file == str(tmp_path / "x.data")
    assert torch.equal(checkpoint.read("a"), numbers)
    assert torch.equal(checkpoint.read("a", rows=slice(1, 3)), numbers[1:3])


def test_a_transposed_matrix_beside_the_file_is_read(tmp_path):
    numbers = gaussian(5, 3)
    (tmp_path / "x.data").write_bytes(numbers.numpy().tobytes())
    node = helper.make_node("MatMul", ["x", "onnx::MatMul_1"], ["1"], "/fc/MatMul")
    checkpoint = open_checkpoint(
        written(tmp_path / "x.onnx", [beside("onnx::MatMul_1", (5, 3), location="x.data")], [node])
    )
    assert torch.equal(checkpoint.read("fc.weight"), numbers.mT)
    assert torch.equal(checkpoint.read("fc.weight", rows=slice(1, 3)), numbers.mT[1:3])


@pytest.mark.parametrize("location", ["../x.data", "/etc/passwd", "folder/x.data", "..", "", "missing"])
def test_numbers_elsewhere_are_not_read(tmp_path, location):
    (tmp_path / "folder").mkdir()
    for file in (tmp_path / "x.data", tmp_path / "folder" / "x.data"):
        file.write_bytes(bytes(60))
    (tmp_path / "model").mkdir()
    _, path = with_external(tmp_path / "model", location=location)
    with pytest.raises(
        CheckpointError, match=r"initializer 'a' .* expected 60 bytes here or in a file beside this one"
    ):
        open_checkpoint(path)


def test_a_link_out_of_the_folder_is_not_followed(tmp_path):
    (tmp_path / "secret").write_bytes(bytes(72))
    (tmp_path / "model").mkdir()
    _, path = with_external(tmp_path / "model")
    (tmp_path / "model" / "x.data").unlink()
    (tmp_path / "model" / "x.data").symlink_to(tmp_path / "secret")
    with pytest.raises(CheckpointError, match="cannot read tensor 'a'"):
        open_checkpoint(path).read("a")


@pytest.mark.parametrize(
    "place",
    [
        {"offset": 16},
        {"offset": -8},
        {"length": 56},
        {"length": 10**12},
        {"length": -1},
        {"length": None},
        {"offset": 10**12},
    ],
)
def test_a_place_that_does_not_hold_the_numbers_is_refused(tmp_path, place):
    _, path = with_external(tmp_path, **place)
    with pytest.raises(CheckpointError, match=r"initializer 'a' of shape \(5, 3\): expected 60 bytes"):
        open_checkpoint(path)


@pytest.mark.parametrize("place", [{"offset": "x"}, {"location": None}])
def test_a_place_that_makes_no_sense_is_refused(tmp_path, place):
    _, path = with_external(tmp_path, **place)
    with pytest.raises(CheckpointError, match=r"x\.onnx: expected a complete ONNX graph, found: "):
        open_checkpoint(path)


@pytest.mark.parametrize("shape", [(5, 4), (10**9, 10**9), (-1, 3), (-5, -3)])
@pytest.mark.parametrize("raw", [True, False])
def test_a_shape_that_lies_is_refused(tmp_path, shape, raw):
    numbers = gaussian(5, 3)
    stored = TensorProto(name="a", dims=shape, data_type=TensorProto.FLOAT)
    if raw:
        stored.raw_data = numbers.numpy().tobytes()
    else:
        stored.float_data.extend(numbers.flatten().tolist())
    with pytest.raises(CheckpointError, match=r"x\.onnx: initializer 'a' of shape .* found 60"):
        open_checkpoint(written(tmp_path / "x.onnx", [stored]))


def test_integers_are_listed_and_not_read(tmp_path):
    checkpoint = open_checkpoint(written(tmp_path / "x.onnx", [numpy_helper.from_array(np.arange(3), "a")]))
    with pytest.raises(CheckpointError, match=r"tensor 'a': expected one of the dtypes .* found INT64"):
        checkpoint.read("a")


@pytest.mark.parametrize("contents", [b"", helper.make_model(helper.make_graph([], "g", [], [])).SerializeToString()])
def test_a_file_without_initializers_is_refused(tmp_path, contents):
    (tmp_path / "x.onnx").write_bytes(contents)
    with pytest.raises(CheckpointError, match=r"x\.onnx: expected an ONNX graph with initializers, found none"):
        open_checkpoint(tmp_path / "x.onnx")


@pytest.mark.parametrize("part", [0.01, 0.5, 0.99])
def test_a_truncated_file_is_refused_before_anything_is_read(tmp_path, part):
    path = written(tmp_path / "x.onnx", [initializer("a", gaussian(64, 64))])
    contents = path.read_bytes()
    path.write_bytes(contents[: int(part * len(contents))])
    with pytest.raises(CheckpointError, match=r"x\.onnx: expected a complete ONNX file, found: "):
        open_checkpoint(path)


def test_without_onnx_the_extra_is_named(tmp_path, monkeypatch):
    path = written(tmp_path / "x.onnx", [initializer("a", gaussian(2, 2))])
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(
        CheckpointError, match=r'x\.onnx: expected onnx, .* not installed: pip install "flaggeo\[onnx\]"'
    ):
        open_checkpoint(path)


def test_a_name_that_is_no_text_is_refused(tmp_path):
    path = written(tmp_path / "x.onnx", [initializer("weightname", gaussian(3, 5))])
    path.write_bytes(path.read_bytes().replace(b"weightname", b"weight\xff\xfeme"))
    with pytest.raises(CheckpointError, match=r"x\.onnx: expected names of tensors in UTF-8, found b'weight"):
        open_checkpoint(path)
