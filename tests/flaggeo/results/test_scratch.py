from dataclasses import fields
from math import nan
from shutil import rmtree

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from flaggeo import analyze, load
from flaggeo.alignment import NULL_SCHEMA, Nulls, ProjectionHeads, norm_profile
from flaggeo.engine import LayerResult
from flaggeo.network import Side
from flaggeo.numerics.spectrum import leading_spectrum
from flaggeo.results.scratch import MEASURED_AGAIN, Scratch, discard_scratch
from tests.builders import CONFIG, tiny_llama

CPU = torch.device("cpu")


def a_result():
    matrix = torch.randn(9, 7, generator=torch.Generator().manual_seed(0))
    return LayerResult(
        spectra={"w": leading_spectrum(matrix, 3), "w.heads.0": leading_spectrum(matrix[:4], 3)},
        profiles={"w": norm_profile(matrix, 3)},
        interfaces=[{"name": "w", "layer": 3, "defect": 1 / 3, "gap": float("inf"), "space": None}],
        gram_cosines=[{"earlier": "w", "side": "read", "gram_cosine": 2 / 3, "gram_cosine_null_sd": 0.0}],
        grams={("w", Side.READ): torch.eye(7)},
        heads=[ProjectionHeads(3, role, torch.rand(2, 7, 3), torch.rand(2, 3, 4)) for role in ("q", "o")],
    )


def test_scratch_recalls_bit_for_bit_what_it_kept_of_a_layer(tmp_path):
    kept = a_result()
    Scratch(tmp_path, "run").keep_layer("odd/../name", kept)
    found = Scratch(tmp_path, "run").recall_layer("odd/../name", CPU)
    assert found is not None
    for of_weights in ("spectra", "profiles"):
        measured, expected = getattr(found, of_weights), getattr(kept, of_weights)
        assert list(measured) == list(expected)
        for name, one in expected.items():
            for part in fields(one):
                value, recalled = getattr(one, part.name), getattr(measured[name], part.name)
                assert torch.equal(value, recalled) if isinstance(value, torch.Tensor) else value == recalled
    assert (found.interfaces, found.gram_cosines) == (kept.interfaces, kept.gram_cosines)
    assert not found.grams  # formed again where they are needed
    for heads, expected in zip(found.heads, kept.heads, strict=True):
        assert (heads.layer, heads.role) == (expected.layer, expected.role)
        assert torch.equal(heads.frames, expected.frames)
        assert torch.equal(heads.factors, expected.factors)
    assert Scratch(tmp_path, "run").recall_layer("another", CPU) is None


def test_what_is_recalled_begins_at_a_cache_line(tmp_path):
    """The last bits of products depend on that, and a tensor of a file may begin anywhere."""
    Scratch(tmp_path, "run").keep_layer("layer", a_result())
    found = Scratch(tmp_path, "run").recall_layer("layer", CPU)
    assert found is not None
    tensors = [tensor for heads in found.heads for tensor in (heads.frames, heads.factors)]
    tensors += [tensor for spectrum in found.spectra.values() for tensor in (spectrum.left, spectrum.right)]
    assert {tensor.data_ptr() % 64 for tensor in tensors} == {0}


def test_scratch_recalls_nulls_bit_for_bit(tmp_path):
    values = [("q", "read", "sign_flip", "overlap", 1 / 3, 2**0.5, 4, nan)]
    values += [("q", "read", "equalised", "overlap", 0.1, nan, 1, nan)]
    rows = [dict(zip(NULL_SCHEMA.names, row, strict=True)) for row in values]
    kept = Nulls(
        NULL_SCHEMA.frame(rows), {"layers.0.q.read": torch.rand(5)}, {"layers.0.q.heads.0.read": torch.rand(5)}
    )
    Scratch(tmp_path, "run").keep_nulls("q", kept)
    found = Scratch(tmp_path, "run").recall_nulls("q", CPU)
    assert found is not None
    pd.testing.assert_frame_equal(found.table, kept.table, check_exact=True)
    for measured, expected in (
        (found.leverages, kept.leverages),
        (found.whole_head_leverages, kept.whole_head_leverages),
    ):
        assert list(measured) == list(expected)
        assert all(torch.equal(measured[name], one) for name, one in expected.items())
    assert Scratch(tmp_path, "run").recall_nulls("k", CPU) is None


def test_scratch_of_another_run_is_discarded_and_a_cut_file_is_not_believed(tmp_path):
    scratch = Scratch(tmp_path, "run")
    scratch.keep_layer("t", a_result())
    file = next(tmp_path.rglob("*.kept"))
    file.write_bytes(file.read_bytes()[:-5])
    assert scratch.recall_layer("t", CPU) is None
    (tmp_path / "thesis.tex").write_text("years of work")
    Scratch(tmp_path, "other run")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_discarding_leaves_what_is_not_its_own(tmp_path):
    folder = tmp_path / "scratch"
    Scratch(folder, "run").keep_layer("t", a_result())
    discard_scratch(folder)
    assert not folder.exists()
    discard_scratch(folder)
    Scratch(folder, "run").keep_layer("t", a_result())
    (folder / "notes").mkdir()
    discard_scratch(folder)
    assert [path.name for path in folder.iterdir()] == ["notes"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda file: file.write_bytes(b"{}"),
        lambda file: file.write_bytes(file.read_bytes()[:-5]),
        lambda file: save_file({"x": torch.ones(2)}, file),
        lambda file: file.write_bytes(file.read_bytes()[:-1] + b"?"),
        lambda file: next(other for other in file.parent.iterdir() if other != file).replace(file),
        lambda file: file.unlink() or file.mkdir(),
        lambda file: file.unlink() or file.symlink_to("/dev/zero"),
        lambda file: rmtree(file.parent) or file.parent.write_text("mine"),
        lambda file: rmtree(file.parent) or file.parent.symlink_to(file.parents[2] / "mine"),
    ],
)
def test_what_is_damaged_or_foreign_is_measured_again_and_said(tmp_path, spoil):
    (tmp_path / "mine" / "thesis").mkdir(parents=True)
    network = load(tiny_llama(), config=CONFIG)
    network.checkpoint.stamp = list
    expected = analyze(network, rank=2)

    def interrupt(_, done, _total):
        if done > 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        analyze(network, rank=2, scratch=tmp_path / "scratch", progress=interrupt)
    files = sorted((tmp_path / "scratch").rglob("*.kept"))
    assert files
    spoil(files[0])
    resumed = analyze(network, rank=2, scratch=tmp_path / "scratch")
    assert MEASURED_AGAIN in resumed.provenance["remarks"]
    pd.testing.assert_frame_equal(resumed.pairs, expected.pairs)
    discard_scratch(tmp_path / "scratch")
    assert not (tmp_path / "scratch").exists()
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "thesis"]
