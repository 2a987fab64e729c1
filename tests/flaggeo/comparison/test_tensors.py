import pandas as pd
import pytest
import torch

from flaggeo import compare
from flaggeo.checkpoint import open_checkpoint
from flaggeo.comparison import change
from flaggeo.comparison.change import StoredDifference, stored_change
from flaggeo.comparison.matching import open_versions
from flaggeo.comparison.tensors import TENSOR_SCHEMA
from flaggeo.findings.comparison import tensor_findings
from manifolds import projection_overlap
from tests.builders import save_folder
from tests.flaggeo.checkpoint.test_adapter import factors_of, save_adapter
from tests.flaggeo.comparison.planted_change import (
    RANK,
    SETTINGS,
    TOUCHED,
    base,
    base_network,
    became,
    frames,
    network,
    tuned,
)

NAME = TOUCHED[0]


def table(before, after):
    return became(network(after), before=network(before))


def kinds(before, after):
    found = table(before, after)
    return found[found["change"] != "unchanged"].set_index("tensor")["change"].to_dict()


def test_a_planted_change_is_said_in_its_own_numbers():
    """Six matrices of 44 tensors, of rank 4, in layers 2 to 5."""
    (found,) = tensor_findings(became(network(tuned())), [])
    numbers = {name: found.numbers[name] for name in ("tensors", "changed", "low_rank", "ranks", "layers", "full")}
    expected = {"tensors": 44, "changed": 6, "low_rank": 6, "ranks": [4], "layers": [2, 3, 4, 5], "full": 0}
    assert (found.kind, found.verdict, numbers) == ("tensor_change", "present", expected)
    assert found.sentence == "6 of 44 tensors changed, all of rank 4; layers 2-5."


@pytest.mark.parametrize("shape", [(90,), (40, 24), (3, 40, 24), (24, 40)])
def test_a_difference_is_the_same_whether_it_is_held_or_made_anew(monkeypatch, shape):
    monkeypatch.setattr(change, "_ROWS_READ", 7)
    monkeypatch.setattr(change, "_ENTRIES_READ", 0)
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(shape, generator=generator).bfloat16() for _ in range(2)]
    checkpoints = [open_checkpoint({"some": tensor}) for tensor in tensors]
    held = stored_change(checkpoints, ("some", "some"), torch.device("cpu"))
    monkeypatch.setattr(change, "_HELD", 0)
    made, turned = (
        stored_change(checkpoints, ("some", "some"), torch.device("cpu"), transposed=transposed)
        for transposed in (False, True)
    )
    expected = (tensors[1].float() - tensors[0].float()).reshape(-1, shape[-1] if len(shape) > 1 else 1)
    assert torch.equal(held.difference, expected)
    assert torch.equal(torch.cat(list(made.difference.split(5))), expected)
    assert torch.equal(torch.cat(list(turned.difference.mT.split(5))), expected)
    assert (tuple(made.difference.shape), tuple(turned.difference.shape)) == (expected.shape, expected.mT.shape)
    assert isinstance(made.difference, StoredDifference) == (len(expected) >= expected.shape[1])
    assert (made.norm, made.base_norm, made.noise) == (held.norm, held.base_norm, held.noise)
    assert held.norm == pytest.approx(float(expected.norm()), rel=1e-6)


def test_matrices_of_another_shape_or_without_a_difference_are_not_counted_as_no_matrices():
    after = tuned((NAME,)) | {"model.norm.weight": 2 * base()["model.norm.weight"]}
    after["model.embed_tokens.weight"] = after["model.embed_tokens.weight"][:-1]
    after[TOUCHED[1]] = torch.full_like(after[TOUCHED[1]], torch.nan)
    (found,) = tensor_findings(table(base(), after), [])
    kinds = {name: found.numbers[name] for name in ("changed", "low_rank", "full", "reshaped", "unmeasured", "others")}
    assert kinds == {"changed": 4, "low_rank": 1, "full": 0, "reshaped": 1, "unmeasured": 1, "others": 1}


@pytest.mark.parametrize("held", [change._HELD, 0])
@pytest.mark.parametrize("whole_up_to", [1024, 0])
def test_every_stored_tensor_has_a_row_with_what_is_known_of_its_change(monkeypatch, whole_up_to, held):
    monkeypatch.setattr(change, "_HELD", held)
    monkeypatch.setattr(change, "_ROWS_READ", 7)
    monkeypatch.setattr(change, "_ENTRIES_READ", 0)
    monkeypatch.setattr("flaggeo.comparison.tensors.WHOLE_UP_TO", whole_up_to)
    before, after = base(), tuned()
    found = table(before, after).set_index("tensor")
    assert list(found.index) == list(before)
    assert found.columns.tolist() == [name for name in TENSOR_SCHEMA.names if name != "tensor"]
    assert set(found.index[found["change"] == "low_rank"]) == set(TOUCHED)
    assert set(found["change"]) == {"low_rank", "unchanged"}
    row = found.loc[NAME]
    assert (row["rank"], row["rank_is_exact"], row["layer"], row["shape"]) == (RANK, True, 2, "40x24")
    assert row["relative_norm"] == pytest.approx(RANK**0.5 / float(before[NAME].norm()), rel=1e-5)
    assert (row["rank_90"], row["rank_99"]) == (4, 4)  # of four equal values, three hold 75 %
    assert row["effective_rank"] == pytest.approx(4, rel=1e-5)
    left, _, right = torch.linalg.svd(before[NAME].double())
    for side, leading, planted in zip(("write", "read"), (left, right.mT), frames(NAME, 0), strict=True):
        overlap = float(projection_overlap(leading[:, :4].contiguous(), planted))
        assert row[f"{side}_inside"] == pytest.approx(overlap, abs=1e-5)
    assert (row["read_inside_null"], row["write_inside_null"]) == pytest.approx((4 / 24, 4 / 40))


def test_what_is_known_of_the_weights_is_that_of_their_tensors():
    embedding = "model.embed_tokens.weight"  # stored (source, target)
    before, after = base(), tuned((*TOUCHED, embedding))
    alone = table(before, after)
    assert alone.set_index("tensor").loc[embedding, ["change", "write_inside_null"]].tolist() == ["low_rank", 4 / 24]
    together = compare(base_network(), network(after), rank=RANK, measure="continuity").tensors
    pd.testing.assert_frame_equal(together, alone, rtol=1e-6, atol=1e-9)


def test_directions_that_hold_a_share_of_the_change_are_counted():
    """Singular values whose squares are 8, 1 and 1: 80, 90 and 100 %."""
    left, right = frames(NAME, 0, rank=3)
    change_of = (left * torch.tensor([8.0, 1.02, 0.98], dtype=torch.float64).sqrt()) @ right.mT
    row = table(base(), base() | {NAME: base()[NAME].double() + change_of}).set_index("tensor").loc[NAME]
    assert (row["rank"], row["rank_90"], row["rank_99"]) == (3, 2, 3)
    assert row["energy_1"] == pytest.approx(0.8, rel=1e-4)


def test_norms_and_stacks_are_no_matrices_and_have_no_rank():
    before = base() | {"model.stack.weight": torch.ones(3, 4, 5), "model.scale": torch.tensor(2.0)}
    after = dict(before) | {"model.norm.weight": before["model.norm.weight"] + 0.1}
    after["model.stack.weight"] = before["model.stack.weight"].clone()
    after["model.stack.weight"][1, 2, 3] = 1.5
    after["model.scale"] = torch.tensor(3.0)
    found = table(before, after).set_index("tensor")
    changed = found[found["change"] != "unchanged"]
    assert changed["change"].to_dict() == dict.fromkeys(
        ["model.norm.weight", "model.stack.weight", "model.scale"], "changed"
    )
    assert changed["rank"].isna().all()
    assert found.loc["model.norm.weight", "relative_norm"] == pytest.approx(0.1, rel=1e-5)
    assert found.loc["model.stack.weight", "relative_norm"] == pytest.approx(0.5 / 60**0.5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rounding_alone_is_within_precision_for_every_kind_of_tensor(dtype):
    before = base() | {"model.norm.bias": torch.linspace(0.1, 3, 24), "model.stack": torch.rand(3, 4, 5)}
    after = {name: tensor.to(dtype) for name, tensor in before.items()}
    found = table(before, after).set_index("tensor")
    assert set(found["change"]) == {"within_precision", "unchanged"}
    assert found.index[found["change"] == "unchanged"].tolist() == ["model.norm.weight"]  # ones, which are exact
    assert found["rank_90"].isna().all()


def test_numbers_that_are_no_measurements_are_held_against_each_other():
    before = base() | {"model.ids": torch.arange(4), "model.mask": torch.tensor([[torch.nan, -torch.inf]])}
    assert kinds(before, dict(before)) == {}
    after = before | {"model.ids": torch.arange(1, 5), "model.mask": torch.tensor([[torch.nan, torch.inf]])}
    assert kinds(before, after) == {"model.ids": "changed", "model.mask": "changed"}


def test_what_one_file_lacks_or_has_in_another_shape_is_said():
    before, after = base(), base() | {"score.weight": torch.ones(2, 24)}
    del after["model.norm.weight"]
    after["model.embed_tokens.weight"] = after["model.embed_tokens.weight"][:-1]
    assert kinds(before, after) == {
        "model.embed_tokens.weight": "reshaped",
        "model.norm.weight": "removed",
        "score.weight": "added",
    }


def test_equal_files_zero_adapters_and_adapters_that_were_not_merged_are_told_apart(tmp_path):
    folder = save_folder(tmp_path / "base", base(), config=SETTINGS)
    module = NAME.removesuffix(".weight")
    factors = factors_of(base(), (module,))
    zero = {name: tensor * (0 if "lora_B" in name else 1) for name, tensor in factors.items()}
    adapters = [save_adapter(tmp_path / name, one) for name, one in (("adapter", factors), ("zero", zero))]
    beside = base() | {f"{module}.lora_{factor}": torch.ones(3, 4) for factor in "AB"}

    def rows(after, version="b"):
        before, other = (one.network for one in open_versions(folder, after))
        return became(other, before=before, version=version)

    changed, nothing, same = rows(adapters[0]), rows(adapters[1]), became(base_network(), version="c")
    (found,) = tensor_findings(changed, ["b"])
    assert (found.verdict, found.numbers["changed"], found.numbers["ranks"]) == ("present", 1, [3])
    for alone, versions, verdict in (
        (nothing, ["b"], "adapter_zero"),
        (same, [], "same"),
        (became(network(beside)), [], "adapter_not_merged"),
    ):
        assert [one.verdict for one in tensor_findings(alone, versions)] == [verdict]
    of_three = tensor_findings(pd.concat([changed, same]), ["b"])
    verdicts = [("B", "present"), ("C", "adapter_not_merged")]
    assert [(one.numbers["version"], one.verdict) for one in of_three] == verdicts
