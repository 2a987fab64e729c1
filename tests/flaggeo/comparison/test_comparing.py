from dataclasses import replace

import gguf
import numpy as np
import pandas as pd
import pytest
import torch

from flaggeo import Analysis, Comparison, analyze, compare, load
from flaggeo.checkpoint import CheckpointError
from flaggeo.comparison import change
from flaggeo.findings import SAME_ANGLE, comparison_findings, moves
from tests.builders import CONFIG, planted, related_llama, save_folder, tiny_llama, with_gains
from tests.flaggeo.checkpoint.test_adapter import factors_of, save_adapter

Q, V = "model.layers.1.self_attn.q_proj", "model.layers.1.self_attn.v_proj"


def spectral_llama():
    """Every matrix with clear gaps; the singular vectors of q and v of layer 1 too."""
    tensors, bases = tiny_llama(), {}
    for index, (name, tensor) in enumerate(tensors.items()):
        if tensor.ndim == 2:
            values = [1.2**-step for step in range(min(tensor.shape))]
            matrix, left, right = planted(values, *tensor.shape, seed=index)
            tensors[name], bases[name] = matrix.float(), (left, right)
    return tensors, bases


@pytest.fixture(scope="module")
def base():
    return spectral_llama()


def with_change(tensors, bases, *, start, size=0.3, rank=3):
    """The same with a planted change along singular directions of q and v of layer 1."""
    changed = dict(tensors)
    for module in (Q, V):
        left, right = (frame[:, start : start + rank] for frame in bases[f"{module}.weight"])
        strengths = torch.linspace(size, 2 * size, rank, dtype=torch.float64)
        changed[f"{module}.weight"] = (tensors[f"{module}.weight"] + (left * strengths) @ right.mT).float()
    return changed


def test_a_rotated_leading_subspace_is_found_in_its_weight_alone(base):
    tensors, bases = base
    name, angle = f"{Q}.weight", 0.7
    left, right = bases[name]
    turned = right.clone()
    turned[:, 0] = np.cos(angle) * right[:, 0] + np.sin(angle) * right[:, 20]
    turned[:, 20] = np.cos(angle) * right[:, 20] - np.sin(angle) * right[:, 0]
    values = torch.tensor([1.2**-step for step in range(24)], dtype=torch.float64)

    comparison = compare(tensors, tensors | {name: ((left * values) @ turned.mT).float()}, rank=4)

    first = comparison.ranked.iloc[0]
    assert (first["name"], first["side"]) == ("layers.1.q", "read")
    row = comparison.weights.query("name == 'layers.1.q'").set_index("side")
    for column in ("angle_1", "geodesic_distance", "flag_distance"):
        assert row.loc["read", column] == pytest.approx(angle, abs=1e-5)
        assert row.loc["write", column] < 1e-5
    rest = comparison.weights[comparison.weights["name"] != "layers.1.q"]
    assert rest["geodesic_distance"].max() < 1e-12
    assert comparison.deltas.query("name != 'layers.1.q'")["relative_norm"].max() == 0
    assert comparison.deltas.set_index("name").loc["layers.1.q", "sigma_change"] < 1e-6


@pytest.mark.parametrize(("start", "inside", "trailing"), [(0, 1, 0), (13, 0, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_low_rank_change_is_recognised_and_placed(base, start, inside, trailing, dtype):
    tensors, bases = base
    changed = {name: tensor.to(dtype) for name, tensor in with_change(tensors, bases, start=start).items()}

    comparison = compare({name: tensor.to(dtype) for name, tensor in tensors.items()}, changed, rank=4)

    deltas = comparison.deltas.set_index("name")
    assert deltas.index[deltas["rank"] > 0].tolist() == ["layers.1.q", "layers.1.v"]
    for name in ("layers.1.q", "layers.1.v"):
        assert (deltas.loc[name, "rank"], bool(deltas.loc[name, "low_rank"])) == (3, True)
        for side in ("read", "write"):
            assert deltas.loc[name, f"{side}_inside"] == pytest.approx(inside, abs=0.05)
            assert deltas.loc[name, f"{side}_trailing"] == pytest.approx(trailing, abs=0.05)
    records = {record.kind: record for record in comparison_findings(comparison)}
    where = [{"role": "q", "layers": [1]}, {"role": "v", "layers": [1]}]
    change = records["weight_change"]
    assert (change.verdict, change.numbers["changed"], change.numbers["weights"]) == ("present", 2, 23)
    assert change.numbers["where"] == where
    low = records["low_rank_change"]
    assert (low.verdict, low.numbers["low_rank"], low.numbers["changed"]) == ("present", 2, 2)
    assert (low.numbers["ranks"], low.numbers["where"]) == ([3], where)
    against_base = [r for r in comparison_findings(comparison) if r.kind == "change_against_base"]
    assert [record.numbers["side"] for record in against_base] == ["read", "write"]
    assert {record.verdict == "inside" for record in against_base} == {bool(inside)}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_rounded_copy_is_no_change(dtype):
    tensors = tiny_llama()
    comparison = compare(tensors, {name: tensor.to(dtype) for name, tensor in tensors.items()}, rank=4)
    assert (comparison.deltas["rank"] == 0).all()
    assert (comparison.deltas["relative_norm"] > 0).all()
    assert comparison_findings(comparison)[0].verdict == "within_storage_precision"


def test_what_rounding_turned_did_not_move():
    before = {name: tensor.bfloat16() for name, tensor in tiny_llama().items()}
    after = tiny_llama() | {f"{Q}.weight": tiny_llama(seed=1)[f"{Q}.weight"]}
    comparison = compare(before, after, rank=2, measure="continuity", roles=["q"])
    assert comparison.weights["rms_angle"].min() > SAME_ANGLE
    assert set(moves(comparison)["name"]) == {"layers.1.q"}
    rounded = replace(comparison, weights=comparison.weights.query("name != 'layers.1.q'"))
    verdicts = [
        next(found.verdict for found in comparison_findings(one) if found.kind == "movement")
        for one in (comparison, rounded)
    ]
    assert verdicts == ["present", "absent"]


def test_identical_checkpoints_are_called_so(tmp_path):
    tensors = tiny_llama()
    save_folder(tmp_path / "a", tensors)
    save_folder(tmp_path / "b", tensors, shards=2)
    comparison = compare(tmp_path / "a", tmp_path / "b", rank=4)
    assert comparison.weights["geodesic_distance"].max() < 1e-12
    assert comparison.weights["flag_distance"].max() == 0
    assert (comparison.summary["change"] == 0).all()
    assert (comparison.observables["change"] == 0).all()
    assert not comparison.pairs["edge"].isin(["appeared", "vanished"]).any()
    assert [(r.kind, r.verdict) for r in comparison_findings(comparison)] == [("tensor_change", "same")]


def test_gguf_and_safetensors_of_one_model_are_the_same_up_to_their_types(tmp_path):
    """The file's own rotary order of query and key rows is undone before anything is compared."""
    tensors = tiny_llama()
    names = {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}
    names |= {f"self_attn.{role}_proj": f"attn_{role}" for role in "qkv"}
    names |= {"self_attn.o_proj": "attn_output", "input_layernorm": "attn_norm"}
    names |= {f"mlp.{role}_proj": f"ffn_{role}" for role in ("gate", "up", "down")}
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    writer.add_block_count(3)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    for name, tensor in tensors.items():
        parts = name.removesuffix(".weight").removeprefix("model.").split(".")
        block = f"blk.{parts[1]}." if parts[0] == "layers" else ""
        inner = ".".join(parts[2:] if block else parts)
        heads = {"self_attn.q_proj": 4, "self_attn.k_proj": 2}.get(inner)
        if heads:
            tensor = tensor.reshape(heads, 2, -1, tensor.shape[1]).transpose(1, 2).reshape(tensor.shape)
        writer.add_tensor(
            f"{block}{names[inner]}.weight", tensor.to(torch.float16 if tensor.ndim == 2 else torch.float32).numpy()
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    comparison = compare(load(tensors, config=CONFIG), tmp_path / "model.gguf", rank=4, measure="all")

    assert comparison.deltas["relative_norm"].max() < 1e-3
    assert (comparison.deltas["rank"] == 0).all()
    assert comparison.deltas["head"].notna().sum() == 3 * 12


def test_an_adapter_is_its_merged_checkpoint(tmp_path):
    tensors = tiny_llama()
    save_folder(tmp_path / "base", tensors)
    factors = factors_of(tensors, (Q, V))
    adapter = save_adapter(tmp_path / "adapter", factors)
    merged = dict(tensors)
    for module in (Q, V):
        product = factors[f"{module}.lora_B.weight"].double() @ factors[f"{module}.lora_A.weight"].double()
        merged[f"{module}.weight"] = tensors[f"{module}.weight"].double() + 2 * product
    direct = compare(tmp_path / "base", adapter, rank=4)
    through = compare(tmp_path / "base", merged, rank=4)
    for table in ("weights", "deltas"):
        one, other = (getattr(found, table).drop(columns="rounding", errors="ignore") for found in (direct, through))
        numbers = one.select_dtypes("number").columns
        np.testing.assert_allclose(one[numbers].astype(float), other[numbers].astype(float), atol=1e-6)
    assert direct.deltas.query("low_rank")["rank"].tolist() == [3, 3]
    assert direct.provenance["stored"] == ["F32", "LoRA of rank 3"]


def test_a_saved_analysis_is_compared_by_its_frames(tmp_path, base):
    tensors, bases = base
    changed = with_change(tensors, bases, start=10, size=2)
    analyze(load(tensors), rank=4).save(tmp_path / "saved")
    from_frames, from_files = compare(tmp_path / "saved", changed), compare(tensors, changed, rank=4)
    columns = ["angle_1", "geodesic_distance", "flag_distance", "overlap"]
    np.testing.assert_allclose(from_frames.weights[columns], from_files.weights[columns], atol=2e-6)
    assert from_frames.deltas["rank"].isna().all()
    assert from_frames.deltas["sigma_change"].to_numpy() == pytest.approx(from_files.deltas["sigma_change"], abs=1e-6)
    unmeasured = ("weight_change", "undetermined")
    moved = [(record.kind, record.verdict) for record in comparison_findings(from_frames)]
    assert ("movement", "present") in moved
    assert unmeasured in moved
    same = compare(Analysis.load(tmp_path / "saved"), tensors)
    assert [(r.kind, r.verdict) for r in comparison_findings(same)] == [("movement", "absent"), unmeasured]


def test_measurements_of_both_stand_side_by_side():
    a, b = (analyze(load(tensors, config=CONFIG), rank=2) for tensors in (tiny_llama(), related_llama()))
    comparison = compare(a, b)
    before, after = (found.summary.set_index(["role", "side"])["overlap"] for found in (a, b))
    rows = comparison.summary.query("column == 'overlap'").set_index(["role", "side"])
    assert (rows["a"] == before).all()
    assert (rows["b"] == after).all()
    overlaps = comparison.observables.set_index(["table", "column"]).loc[("pairs", "overlap")]
    assert overlaps["rows"] == len(a.pairs) == len(comparison.pairs)
    largest = comparison.pairs.iloc[0]
    assert abs(overlaps["change"]) == abs(largest["change"]) == comparison.pairs["change"].abs().max()
    assert overlaps["relative_change"] == pytest.approx(overlaps["change"] / a.pairs["overlap"].std())
    edges = [set(found.graph.edges(keys=True)) for found in (a, b)]
    assert edges[1] - edges[0]
    for status, expected in {"appeared": edges[1] - edges[0], "vanished": edges[0] - edges[1]}.items():
        rows = comparison.pairs[comparison.pairs["edge"] == status]
        assert set(zip(rows["source"], rows["target"], rows["kind"], strict=True)) == expected


def test_unrelated_networks_are_called_so():
    records = comparison_findings(compare(tiny_llama(seed=1), tiny_llama(seed=2), rank=3))
    (related,) = [record for record in records if record.kind == "relatedness"]
    assert related.verdict == "absent"
    assert abs(related.numbers["effect_size"]) < 0.1


def test_a_zero_weight_has_no_numbers(base):
    tensors, _ = base
    name = f"{Q}.weight"
    comparison = compare(tensors, tensors | {name: torch.zeros_like(tensors[name])}, rank=3)
    rows = comparison.weights.query("name == 'layers.1.q'")
    assert rows[["angle_1", "geodesic_distance", "flag_distance", "overlap"]].isna().all(axis=None)
    delta = comparison.deltas.set_index("name").loc["layers.1.q"]
    assert delta["relative_norm"] == pytest.approx(1)
    assert np.isnan(delta["sigma_change"]) or delta["sigma_change"] == pytest.approx(1)


def test_weights_of_a_tensor_that_is_not_finite_are_skipped_in_either_and_all_else_is_compared(base):
    tensors, bases = base
    changed = with_change(tensors, bases, start=0)
    broken = {f"{Q}.weight": torch.full_like(tensors[f"{Q}.weight"], torch.nan)}
    chosen = {"rank": 2, "measure": "continuity", "roles": ["q", "v"], "layers": [1]}
    for pair in ((tensors | broken, changed), (tensors, changed | broken)):
        found = compare(*pair, **chosen)
        assert found.skipped["name"].tolist() == ["layers.1.q"]
        assert found.provenance["failed"] == found.skipped["reason"].tolist()
        assert f"{Q}.weight" in found.provenance["failed"][0]
        assert set(found.weights["name"]) == {"layers.1.v"}
        assert found.deltas.set_index("name")["rank"].to_dict() == {"layers.1.v": 3}
        changes = found.tensors[found.tensors["change"] != "unchanged"].set_index("tensor")["change"]
        assert changes.to_dict() == {f"{Q}.weight": "changed", f"{V}.weight": "low_rank"}
    with pytest.raises(CheckpointError, match="expected finite numbers"):
        compare(tensors | broken, changed, rank=2, measure="continuity", roles=["q"], layers=[1])


def test_progress_counts_every_phase():
    told = []
    compare(tiny_llama(), tiny_llama(seed=1), rank=2, roles=["q"], progress=lambda *step: told.append(step))
    seen = [step for step in told if not step[0].startswith("tensors")]
    others = [step[1:] for step in told if step not in seen]
    assert others == [(done, 24) for done in range(24)]  # all but the three of q
    assert [step[0].split(":")[0] for step in seen] == ["a"] * 5 + ["b"] * 5 + ["b - a"] * 3
    assert [step[1:] for step in seen] == [(done, 5) for done in range(5)] * 2 + [(done, 3) for done in range(3)]


def test_a_comparison_is_saved_and_loaded(tmp_path):
    comparison = compare(tiny_llama(seed=1), tiny_llama(seed=2), rank=2)
    comparison.save(tmp_path / "out")
    loaded = Comparison.load(tmp_path / "out")
    for name in ("tensors", "weights", "deltas", "summary", "observables", "pairs", "skipped", "ranked"):
        left, right = getattr(comparison, name), getattr(loaded, name)
        assert left.to_csv() == right.to_csv()
    assert loaded.provenance == comparison.provenance
    assert comparison_findings(loaded) == comparison_findings(comparison)


def test_a_change_of_gains_is_one_of_the_weights_behind_them_once_folded():
    """The same function twice: gains in the norm, or in the weights that read through it."""
    apart = with_gains(tiny_llama())
    network = load(apart, config=CONFIG)
    together = apart | {
        weight.tensor: network.matrix(weight, folded=True)
        for weight in network.weights
        if weight.head is None and weight.folding.read is not None
    }
    together |= {name: torch.ones_like(tensor) for name, tensor in apart.items() if tensor.ndim == 1}
    stored, folded = (compare(apart, together, rank=4, fold_norms=fold_norms) for fold_norms in (False, True))
    readers = {"layers.0.q", "layers.1.k", "layers.2.v", "unembed"}
    assert readers <= set(stored.deltas.query("relative_norm > 0.1")["name"])
    assert stored.weights.query("name in @readers and side == 'read'")["rms_angle"].min() > 0.01
    assert folded.deltas["relative_norm"].max() < 1e-6
    assert (folded.deltas["rank"] == 0).all()
    assert folded.weights["geodesic_distance"].max() < 1e-5


def loud(seed=0):
    """Gains of all sizes beside weights of one strong direction, in which errors of a gain do not average out."""
    tensors = with_gains(tiny_llama(seed=seed))
    return {name: tensor + 5 if tensor.ndim == 2 else tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_rounded_copy_is_no_change_with_gains_folded_in_either(dtype):
    copy = {name: tensor.to(dtype) for name, tensor in loud().items()}
    networks = load(loud(), config=CONFIG), load(copy, config=CONFIG)
    deltas = compare(*networks, rank=4, measure="all", fold_norms=True).deltas
    assert (deltas["rank"] == 0).all()
    assert (deltas["relative_norm"] > 0).all()
    assert (deltas["relative_norm"] < 2 * deltas["rounding"]).all()


def test_rounding_of_gains_that_both_have_hides_no_change():
    name = f"{Q}.weight"
    changed = loud() | {name: loud()[name] + 0.7 * planted([1.0], 40, 24, seed=5)[0].float()}
    pair = [{name: tensor.bfloat16() for name, tensor in tensors.items()} for tensors in (loud(), changed)]
    deltas = compare(*pair, rank=4, roles=["q"], fold_norms=True).deltas.set_index("name")
    assert deltas["rank"].to_dict() == {"layers.0.q": 0, "layers.1.q": 1, "layers.2.q": 0}


@pytest.mark.parametrize("held", [change._HELD, 0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_large_weights_are_compared_by_their_leading_directions_from_a_few_rows_at_a_time(
    base, tmp_path, monkeypatch, dtype, held
):
    tensors, bases = base
    folders = [
        save_folder(tmp_path / name, {key: tensor.to(dtype) for key, tensor in one.items()})
        for name, one in (("a", tensors), ("b", with_change(tensors, bases, start=3)))
    ]
    small = compare(*folders, rank=4).deltas
    monkeypatch.setattr(change, "_HELD", held)
    monkeypatch.setattr(change, "WHOLE_UP_TO", 0)
    monkeypatch.setattr(change, "_ROWS_READ", 7)
    monkeypatch.setattr(change, "_ENTRIES_READ", 0)
    large, asked = (compare(*folders, rank=4, measure=measure).deltas for measure in (["continuity"], ["spectra"]))
    missing = [f"{side}_{name}" for side in ("read", "write") for name in ("trailing", "trailing_null", "intruders")]
    assert large[missing].isna().all(axis=None)
    whole = large["name"].isin(large["name"][large["rank_is_exact"]])
    pd.testing.assert_frame_equal(
        large[whole].drop(columns=missing), small[whole].drop(columns=missing), rtol=1e-5, atol=1e-7
    )
    by_spectra = ["sigma_change"]  # which takes the values that are known
    pd.testing.assert_frame_equal(asked.drop(columns=by_spectra), small.drop(columns=by_spectra), rtol=1e-6, atol=1e-9)
    changed = large[large["rank"] > 0]
    assert set(changed["name"]) == {"layers.1.q", "layers.1.v"}
    assert list(changed["rank"]) == [3, 3]
