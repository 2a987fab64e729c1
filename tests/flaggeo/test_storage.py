from dataclasses import fields
from math import nan

import pandas as pd
import pytest
import torch

from flaggeo.alignment import Nulls, ProjectionHeads, norm_profile, null_table
from flaggeo.layers import LayerResult
from flaggeo.spectrum import leading_spectrum
from flaggeo.storage import Scratch, discard_scratch, replaced_at_once, require_replaceable, save_tables


def contents(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_appears_at_once_or_not_at_all(tmp_path):
    with replaced_at_once(tmp_path / "out") as temporary:
        (temporary / "a").write_text("1")
        assert not (tmp_path / "out").exists()
    assert contents(tmp_path) == ["out"]
    assert contents(tmp_path / "out") == ["a"]

    def fail_half_way():
        with replaced_at_once(tmp_path / "out") as temporary:
            (temporary / "b").write_text("2")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert contents(tmp_path) == ["out"]
    assert contents(tmp_path / "out") == ["a"]

    with replaced_at_once(tmp_path / "out") as temporary:
        (temporary / "c").write_text("3")
    assert contents(tmp_path) == ["out"]
    assert contents(tmp_path / "out") == ["c"]


def test_text_has_seven_digits_of_every_table_and_parquet_all(tmp_path):
    table = pd.DataFrame({"name": ["a,b", 'c"d'], "count": [2**40, 0], "share": [1 / 3, nan]})
    others = {"extra": lambda path: path.write_text("more")}
    save_tables(tmp_path / "out", {"one": table}, {}, {"page": None}, others=others, names=frozenset(), overwrite=False)
    assert contents(tmp_path / "out") == ["extra", "one.csv", "one.parquet"]
    assert (tmp_path / "out" / "one.csv").read_text().count("0.33333334") == 1
    text = pd.read_csv(tmp_path / "out" / "one.csv")
    pd.testing.assert_frame_equal(text, table.round({"share": 8}), check_dtype=False, rtol=1e-7)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "out" / "one.parquet"), table)


def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    def fail(_):
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        save_tables(
            tmp_path / "out", {"one": pd.DataFrame()}, {}, {}, others={"x": fail}, names=frozenset(), overwrite=False
        )
    assert contents(tmp_path) == []


def test_only_a_result_of_flaggeo_is_ever_replaced(tmp_path):
    require_replaceable(tmp_path / "new", overwrite=False)
    require_replaceable(tmp_path, overwrite=False)  # empty
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match="choose another or overwrite"):
        require_replaceable(tmp_path, overwrite=False)
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(FileExistsError, match=r"nothing else to overwrite, found also 'thesis\.tex'"):
        require_replaceable(tmp_path, overwrite=True)
    with pytest.raises(FileExistsError, match="expected a folder, found a file"):
        require_replaceable(tmp_path / "thesis.tex", overwrite=True)
    (tmp_path / "thesis.tex").unlink()
    require_replaceable(tmp_path, overwrite=True)


def test_a_place_without_permission_is_refused_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, _: path != tmp_path)  # root may write everywhere
    with pytest.raises(PermissionError, match="expected a place to write to"):
        require_replaceable(tmp_path / "a" / "b", overwrite=False)


def test_the_earlier_result_comes_back_if_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").write_text("1")
    rename = type(tmp_path).rename

    def fail_for_the_new(self, target):
        if self.name.startswith(".out.") and target == tmp_path / "out":
            raise OSError("disk")
        return rename(self, target)

    monkeypatch.setattr(type(tmp_path), "rename", fail_for_the_new)

    def replace():
        with replaced_at_once(tmp_path / "out"):
            pass

    with pytest.raises(OSError, match="disk"):
        replace()
    assert contents(tmp_path) == ["out"]
    assert contents(tmp_path / "out") == ["a"]


CPU = torch.device("cpu")


def a_result():
    matrix = torch.randn(9, 7, generator=torch.Generator().manual_seed(0))
    return LayerResult(
        spectra={"w": leading_spectrum(matrix, 3), "w.heads.0": leading_spectrum(matrix[:4], 3)},
        profiles={"w": norm_profile(matrix, 3)},
        tables={"interfaces": [{"name": "w", "layer": 3, "defect": 1 / 3, "gap": float("inf"), "space": None}]},
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
    assert found.tables == kept.tables
    for heads, expected in zip(found.heads, kept.heads, strict=True):
        assert (heads.layer, heads.role) == (expected.layer, expected.role)
        assert torch.equal(heads.frames, expected.frames)
        assert torch.equal(heads.factors, expected.factors)
    assert Scratch(tmp_path, "run").recall_layer("another", CPU) is None


def test_scratch_recalls_nulls_bit_for_bit(tmp_path):
    rows = [("q", "read", "sign_flip", "overlap", 1 / 3, 2**0.5, 4), ("q", "read", "equalised", "overlap", 0.1, nan, 1)]
    kept = Nulls(null_table(rows), {"layers.0.q.read": torch.rand(5)}, {"layers.0.q.heads.0.read": torch.rand(5)})
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
    file = next(tmp_path.rglob("*.safetensors"))
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
