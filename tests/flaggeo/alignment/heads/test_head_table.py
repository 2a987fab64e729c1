import math

import numpy as np
import pandas as pd
import pytest
import scipy.linalg
import scipy.stats
import torch
from safetensors.torch import load, save

import flaggeo
from flaggeo.alignment import ProjectionHeads, SubspacePair, head_table, projection_heads
from flaggeo.alignment.heads.projection_kernel import HEAD_OVERLAP, PROJECTION_KERNEL
from flaggeo.network import Side
from flaggeo.network.roles import HEAD_PAIRS, head_pair_name
from manifolds import overlap_moments, overlap_p_value
from tests.builders import CONFIG, HEAD_WIDTH, KEY_VALUE_HEADS, LAYERS, QUERY_HEADS, WIDTH, random_frame, tiny_llama
from tests.flaggeo.alignment.builders import gaussian_heads, matrices

COUNTS = {"q": QUERY_HEADS, "k": KEY_VALUE_HEADS, "v": KEY_VALUE_HEADS, "o": QUERY_HEADS}
P_VALUES = ["overlap_p_value", "overlap_sign_flip_p_value", "overlap_mean_matched_p_value"]
# Without what needs draws.
NUMBERS = [
    column.name
    for observable in (PROJECTION_KERNEL, HEAD_OVERLAP)
    for column in observable.columns
    if column.name != "overlap_norm_matched_mean"
]


def double_llama(seed=0):
    return {name: tensor.double() for name, tensor in tiny_llama(seed=seed).items()}


def name_of(layer, role):
    return f"model.layers.{layer}.self_attn.{role}_proj.weight"


def head_matrices(tensors, config=CONFIG):
    """Weights of all heads, and their matrices by name."""
    network = flaggeo.load(tensors, config=config)
    return [weight for weight in network.weights if weight.head is not None], matrices(network)


def table_of(tensors, config=CONFIG):
    return head_table(projection_heads(*head_matrices(tensors, config)))


@pytest.fixture(scope="module")
def tensors():
    return double_llama()


@pytest.fixture(scope="module")
def table(tensors):
    return table_of(tensors)


def test_every_kernel_agrees_with_scipy(tensors, table):
    """SciPy's angles share no code with the package."""
    weights, of = head_matrices(tensors)
    spanning = {
        f"{weight.name}.{side.value}": (of[weight.name] if side is Side.WRITE else of[weight.name].mT).numpy()
        for weight in weights
        for side in Side
    }
    for row in table.itertuples():
        angles = scipy.linalg.subspace_angles(spanning[row.source], spanning[row.target])
        assert row.kernel == pytest.approx(np.sum(np.cos(angles) ** 2), abs=1e-10)


def test_pairs_are_those_of_one_role_and_those_that_compose(table):
    of_role = {role: LAYERS * count for role, count in COUNTS.items()}
    expected = {2 * role.upper(): count * (count - 1) // 2 for role, count in of_role.items()}
    layer_pairs = LAYERS * (LAYERS - 1) // 2
    expected |= {f"O{role.upper()}": layer_pairs * QUERY_HEADS * COUNTS[role] for role in "qkv"}
    assert table["kind"].value_counts().to_dict() == expected
    assert list(expected) == [name for roles in HEAD_PAIRS if len(name := head_pair_name(*roles)) == 2]
    assert not table.duplicated(["source", "target"]).any()
    composing = table["kind"].isin(["OQ", "OK", "OV"])
    assert (table["lag"][composing] > 0).all()
    assert (table["lag"] == table["target_layer"] - table["source_layer"]).all()
    assert table["composition_score"].notna().equals(composing)
    row = table[(table["kind"] == "OV") & (table["source_head"] == 3) & (table["lag"] == 2)].iloc[0]
    assert (row["source"], row["target"]) == ("layers.0.o.heads.3.write", "layers.2.v.heads.0.read")


def test_null_effect_sizes_and_q_values_stand_beside_each_kernel(table):
    row = table.iloc[7]
    mean, spread = overlap_moments(WIDTH, HEAD_WIDTH, HEAD_WIDTH)
    assert (row["source_rank"], row["target_rank"]) == (HEAD_WIDTH, HEAD_WIDTH)
    assert row["overlap"] == pytest.approx(row["kernel"] / HEAD_WIDTH)
    assert (row["overlap_null_mean"], row["overlap_null_sd"]) == pytest.approx((mean, spread))
    assert row["kernel_null_mean"] == pytest.approx(HEAD_WIDTH**2 / WIDTH)
    assert row["kernel_null_sd"] == pytest.approx(HEAD_WIDTH * spread)
    assert row["overlap_z"] == pytest.approx((row["overlap"] - mean) / spread)
    assert row["overlap_effect_size"] == pytest.approx((row["overlap"] - mean) / (1 - mean))
    assert row["overlap_p_value"] == pytest.approx(
        float(overlap_p_value(row["overlap"], WIDTH, HEAD_WIDTH, HEAD_WIDTH))
    )
    p_value, floor = (
        scipy.stats.chi2(1).sf(1 + 2**0.5 * (value - row["overlap_sign_flip_mean"]) / row["overlap_sign_flip_sd"])
        for value in (row["overlap"], 1)
    )
    assert p_value > 0.05  # where two moments are enough
    assert row["overlap_sign_flip_p_value"] == pytest.approx(p_value, rel=1e-4)
    assert row["overlap_p_value_floor"] >= floor * (1 - 1e-3)
    assert np.isnan(row["overlap_norm_matched_mean"])
    largest = max(row[f"overlap_{null}_mean"] for null in ("null", "sign_flip", "mean_matched"))
    assert row["overlap_excess"] == pytest.approx((row["overlap"] - largest) / (1 - largest))
    assert (table["overlap_p_value_floor"] <= table[P_VALUES].max(axis="columns")).all()
    for _, pairs in table.groupby("kind"):
        p_value = np.sort(pairs[P_VALUES].max(axis="columns"))
        stepped = p_value * len(p_value) / np.arange(1, len(p_value) + 1)
        expected = np.minimum.accumulate(stepped[::-1])[::-1].clip(max=1)
        assert np.sort(pairs["overlap_q_value"]) == pytest.approx(expected)


@pytest.fixture(scope="module")
def random_gpt2():
    """Heads of the shape of GPT-2 small with independent entries."""
    return head_table(gaussian_heads(layers=6, heads=12, n=768, width=64, seed=0))


def test_random_heads_of_gpt2_shape_follow_the_closed_form(random_gpt2):
    for _, pairs in random_gpt2.groupby("kind"):
        kernels = pairs["kernel"]
        assert kernels.mean() == pytest.approx(5.333, abs=5 * 0.108 / math.sqrt(len(pairs)) + 5e-4)
        assert kernels.std() == pytest.approx(0.108, rel=5 / math.sqrt(2 * len(pairs)))
        assert pairs["overlap_p_value"].lt(0.05).mean() == pytest.approx(0.05, abs=0.015)
        assert pairs["overlap_q_value"].min() > 1e-3
        assert 64 * pairs["overlap_sign_flip_mean"].mean() == pytest.approx(5.333, abs=0.01)
    assert random_gpt2["overlap_p_value"].lt(0.05).mean() == pytest.approx(0.05, abs=0.01)
    assert random_gpt2["kernel_null_sd"].unique().round(3).tolist() == [0.108]


def test_random_composition_scores_of_gpt2_shape_follow_the_closed_form(random_gpt2):
    scores = random_gpt2[random_gpt2["kind"].isin(["OQ", "OK", "OV"])]
    assert scores["composition_score_null_rms"].unique().round(4).tolist() == [0.0361]
    assert scores["composition_score"].pow(2).mean() == pytest.approx(1 / 768, rel=2e-3)
    assert scores["composition_score_z"].mean() == pytest.approx(0, abs=0.1)
    assert scores["composition_score_z"].std() == pytest.approx(1, abs=0.05)


def test_single_precision_keeps_five_digits():
    heads = gaussian_heads(layers=2, heads=4, n=160, width=32, seed=1, dtype=torch.float64)
    single = [ProjectionHeads(one.layer, one.role, one.frames.float(), one.factors.float()) for one in heads]
    exact, found = head_table(heads), head_table(single)
    assert np.abs(found["kernel"] - exact["kernel"]).max() < 1e-5
    assert np.nanmax(np.abs(found["composition_score"] - exact["composition_score"])) < 1e-6
    for column in DEPEND_ON_COORDINATES:
        np.testing.assert_allclose(found[column], exact[column], rtol=1e-3, atol=1e-5)


# Columns that see along which coordinates of the stream the heads lie.
DEPEND_ON_COORDINATES = [
    f"overlap_{name}"
    for name in (
        *("sign_flip_mean", "sign_flip_sd", "sign_flip_p_value", "excess", "p_value_floor", "q_value"),
        *("mean_matched_mean", "mean_matched_sd", "mean_matched_p_value"),
    )
]


def gauge(size, seed):
    """Invertible, far from orthogonal: condition number 20."""
    frames = [random_frame(size, size, seed=seed + 7 * k) for k in range(2)]
    return frames[0] * torch.linspace(0.3, 6, size, dtype=torch.float64) @ frames[1]


def regauged(tensors, seed):
    """The same network: every key-value group of every layer in another basis of its keys and of its values."""
    changed = dict(tensors)
    for layer in range(LAYERS):
        parts = {role: changed[name_of(layer, role)].view(-1, HEAD_WIDTH, WIDTH).clone() for role in "qkv"} | {
            "o": changed[name_of(layer, "o")].view(WIDTH, -1, HEAD_WIDTH).clone()
        }
        for group in range(KEY_VALUE_HEADS):
            keys, values = (gauge(HEAD_WIDTH, seed + 100 * layer + 10 * group + k) for k in range(2))
            members = slice(2 * group, 2 * group + 2)
            parts["q"][members] = keys @ parts["q"][members]
            parts["k"][group] = torch.linalg.inv(keys).mT @ parts["k"][group]
            parts["v"][group] = values @ parts["v"][group]
            parts["o"][:, members] = parts["o"][:, members] @ torch.linalg.inv(values)
        changed |= {
            name_of(layer, role): part.reshape(tensors[name_of(layer, role)].shape) for role, part in parts.items()
        }
    return changed


@pytest.mark.parametrize("seed", [0, 1])
def test_a_change_of_basis_inside_the_heads_changes_no_number(seed):
    tensors = double_llama(seed)
    before, after = table_of(tensors), table_of(regauged(tensors, seed))
    # Near 1 the law of random signs is steep, and their spread is in float32.
    steep = [f"overlap_{name}" for name in ("sign_flip_p_value", "mean_matched_p_value", "p_value_floor", "q_value")]
    pd.testing.assert_frame_equal(after.drop(columns=steep), before.drop(columns=steep), rtol=1e-6, atol=1e-9)
    pd.testing.assert_frame_equal(after[steep], before[steep], rtol=0, atol=1e-4)


def turned(tensors, reading, writing):
    """Another basis of the stream: W_read g^-1 and g W_write."""
    changed = dict(tensors)
    for layer in range(LAYERS):
        for role in "qkv":
            changed[name_of(layer, role)] = tensors[name_of(layer, role)] @ reading
        changed[name_of(layer, "o")] = writing @ tensors[name_of(layer, "o")]
    return changed


@pytest.mark.parametrize("seed", [0, 1])
def test_a_rotation_of_the_stream_changes_only_what_counts_coordinates(seed):
    tensors = double_llama(seed)
    before, rotation = table_of(tensors), random_frame(WIDTH, WIDTH, seed=seed)
    after = table_of(turned(tensors, rotation.mT, rotation))
    kept = [table.drop(columns=DEPEND_ON_COORDINATES) for table in (after, before)]
    pd.testing.assert_frame_equal(*kept, rtol=1e-8, atol=1e-9)
    assert (after["overlap_sign_flip_mean"] - before["overlap_sign_flip_mean"]).abs().max() > 1e-3


def test_a_general_linear_map_of_the_stream_changes_them(tensors, table):
    change = gauge(WIDTH, seed=3)
    after = table_of(turned(tensors, torch.linalg.inv(change), change))
    for column in ("kernel", "overlap_z", "composition_score"):
        assert (after[column] - table[column]).abs().median() > 0.1 * table[column].std()


def test_the_observables_measure_what_the_table_holds(tensors, table):
    heads = {(one.layer, one.role): one for one in projection_heads(*head_matrices(tensors))}
    row = table[(table["kind"] == "OK") & (table["source_head"] == 2)].iloc[0]
    pair = SubspacePair(heads[0, "o"].frames[2], heads[row["target_layer"], "k"].frames[row["target_head"]])
    for observable in (PROJECTION_KERNEL, HEAD_OVERLAP):
        assert float(observable.measure(pair)) == pytest.approx(row[observable.column])
        expected = [row[f"{observable.column}_null_{moment}"] for moment in ("mean", "sd")]
        assert [float(moment) for moment in observable.null.law(pair)] == pytest.approx(expected)


def copied_head(source, target):
    """Heads of width 8 in 64 dimensions of which one reads what another one writes, and one repeats another."""
    heads = gaussian_heads(layers=3, heads=2, n=64, width=8, seed=4, dtype=torch.float64)
    frames = {(one.layer, one.role): one.frames for one in heads}
    frames[target][1] = frames[source][0]
    return heads


@pytest.mark.parametrize(
    ("source", "target", "kind"), [((0, "o"), (2, "k"), "OK"), ((0, "v"), (1, "v"), "VV"), ((2, "o"), (2, "o"), "OO")]
)
def test_a_planted_copy_is_found_and_a_shuffle_of_coordinates_loses_it(source, target, kind):
    heads = copied_head(source, target)
    names = f"layers.{source[0]}.{source[1]}.heads.0", f"layers.{target[0]}.{target[1]}.heads.1"

    def planted_row(heads):
        table = head_table(heads)
        table = table[table["kind"] == kind]
        return table[table["source"].str.startswith(names[0]) & table["target"].str.startswith(names[1])].iloc[0]

    row = planted_row(heads)
    assert (row["kernel"], row["overlap_effect_size"]) == (pytest.approx(8), pytest.approx(1))
    assert row["overlap_p_value"] < 1e-9
    assert row["overlap_q_value"] < 1e-4
    assert row[P_VALUES].max() == pytest.approx(row["overlap_p_value_floor"])
    shuffled = next(one for one in heads if (one.layer, one.role) == target).frames
    shuffled[1] = shuffled[1][torch.randperm(64, generator=torch.Generator().manual_seed(5))]
    assert abs(planted_row(heads)["overlap_z"]) < 4


def test_mean_and_spread_over_random_signs_are_exact_in_shared_dimensions():
    heads = gaussian_heads(layers=1, heads=2, n=12, width=3, seed=6, dtype=torch.float64)
    first, second = heads[0].frames
    row = head_table(heads[:1]).iloc[0]
    signs = torch.randn(40_000, 12, 1, generator=torch.Generator().manual_seed(7), dtype=torch.float64).sign()
    flipped = (first.mT @ (signs * second)).square().sum(dim=(1, 2)) / 3
    assert row["overlap_sign_flip_mean"] == pytest.approx(float(flipped.mean()), abs=5 * float(flipped.std()) / 200)
    assert row["overlap_sign_flip_sd"] == pytest.approx(float(flipped.std()), rel=0.02)


def test_outlier_channels_shared_by_two_heads_are_no_excess():
    """Both heads live on the same 10 of 100 coordinates, in independent ways."""
    frames = torch.zeros(2, 100, 4, dtype=torch.float64)
    for head in range(2):
        frames[head, :10] = random_frame(10, 4, seed=head)
    row = head_table([ProjectionHeads(0, "q", frames, torch.eye(4, dtype=torch.float64).expand(2, 4, 4))]).iloc[0]
    assert row["overlap_z"] > 10
    assert abs(row["overlap_excess"]) < 0.3 < row["overlap_effect_size"]


def test_heads_on_the_same_coordinates_have_no_excess_to_size():
    """Any signs of the coordinates leave both where they are."""
    frames = torch.zeros(2, 20, 3)
    for head in range(2):
        frames[head, :3] = random_frame(3, 3, seed=head).float()
    row = head_table([ProjectionHeads(0, "q", frames, torch.eye(3).expand(2, 3, 3))]).iloc[0]
    assert row["kernel"] == pytest.approx(3)
    assert row["overlap_sign_flip_mean"] == pytest.approx(1)
    assert np.isnan(row["overlap_excess"])
    assert row["overlap_p_value"] < 1e-6
    assert row["overlap_sign_flip_p_value"] == row["overlap_p_value_floor"] == row["overlap_q_value"] == 1


def test_rounding_is_no_sign_of_alignment():
    """A head of coordinates alone meets any other as much whatever the signs, but for the rounding of both."""
    frames = torch.zeros(2, 40, 3)
    frames[0, :3] = random_frame(3, 3, seed=0).float()
    frames[1] = random_frame(40, 3, seed=1).float()
    row = head_table([ProjectionHeads(0, "q", frames, torch.eye(3).expand(2, 3, 3))]).iloc[0]
    assert row["overlap"] == pytest.approx(row["overlap_sign_flip_mean"], rel=1e-5)
    assert row["overlap_sign_flip_p_value"] == 1


def test_norm_matched_means_are_products_of_mean_leverages_in_shared_dimensions():
    heads = gaussian_heads(layers=2, heads=2, n=20, width=3, seed=15)
    names = ["layers.0.o.heads.1.write", "layers.1.v.heads.0.read"]
    flat = {name: torch.full((20,), 3 / 20) for name in names}
    loud = {name: torch.tensor([0.9] * 3 + [0.3 / 17] * 17) for name in names}
    for found in (flat, loud):
        table = head_table(heads, found).set_index(["source", "target"])
        row = table.loc[tuple(names)]
        expected = float(found[names[0]] @ found[names[1]]) / 3
        assert row["overlap_norm_matched_mean"] == pytest.approx(expected)
        largest = max(row[f"overlap_{null}_mean"] for null in ("null", "sign_flip", "mean_matched", "norm_matched"))
        assert row["overlap_excess"] == pytest.approx((row["overlap"] - largest) / (1 - largest))
        assert table["overlap_norm_matched_mean"].notna().sum() == 1
    with pytest.raises(ValueError, match=r"shape \(20,\) for layers\.0\.o\.heads\.1\.write; got \(7,\)"):
        head_table(heads, {names[0]: torch.ones(7)})


def test_lower_rank_and_zero_heads():
    tensors = double_llama()
    queries = tensors[name_of(1, "q")].view(QUERY_HEADS, HEAD_WIDTH, WIDTH)
    queries[0, 3:] = torch.randn(HEAD_WIDTH - 3, 3, dtype=torch.float64) @ queries[0, :3]
    queries[1] = 0
    tensors[name_of(0, "v")][:HEAD_WIDTH] = 0
    for dtype in (torch.float64, torch.float32):
        table = table_of({name: tensor.to(dtype) for name, tensor in tensors.items()})
        lower = table[table["target"].eq("layers.1.q.heads.0.read")]
        assert (lower["target_rank"] == 3).all()
        assert lower["kernel_null_mean"].to_numpy() == pytest.approx(3 * HEAD_WIDTH / WIDTH)
        assert (lower["kernel"] <= 3).all()
        zero = table["source"].eq("layers.1.q.heads.1.read") | table["target"].eq("layers.1.q.heads.1.read")
        assert table[zero][NUMBERS].isna().all(axis=None)
        # What a zero value head passes on is zero, whatever its output head could write.
        silent = (table["source_layer"] == 0) & table["kind"].eq("OQ") & table["source_head"].lt(2)
        assert table[silent]["composition_score"].isna().all()
        rest = table[~zero & ~silent & table["source"].ne("layers.0.v.heads.0.read")]
        assert rest[NUMBERS].notna().all(axis=None)


def test_heads_of_one_dimension_and_heads_that_fill_the_stream():
    lines = head_table(gaussian_heads(layers=2, heads=2, n=9, width=1, seed=8, dtype=torch.float64))
    assert lines["kernel_null_mean"].to_numpy() == pytest.approx(1 / 9)
    assert lines[NUMBERS].notna().all(axis=None)
    whole = head_table(gaussian_heads(layers=2, heads=2, n=4, width=4, seed=9, dtype=torch.float64))
    assert whole["kernel"].to_numpy() == pytest.approx(4)
    assert whole[["overlap_effect_size", "overlap_z", "overlap_excess"]].isna().all(axis=None)
    assert (whole[["overlap_p_value", "overlap_p_value_floor"]] == 1).all(axis=None)


def test_layers_may_differ_in_the_width_of_their_heads():
    wide = gaussian_heads(layers=1, heads=2, n=20, width=6, seed=10, dtype=torch.float64)
    narrow = gaussian_heads(layers=2, heads=3, n=20, width=2, seed=11, dtype=torch.float64)[4:]
    table = head_table(wide + narrow)
    assert len(table[table["kind"] == "QQ"]) == 10
    row = table[(table["kind"] == "OV") & (table["target_head"] == 2)].iloc[0]
    frames = wide[3].frames[row["source_head"]], narrow[2].frames[2]
    assert row["kernel"] == pytest.approx(float((frames[0].mT @ frames[1]).square().sum()))
    assert (row["source_rank"], row["target_rank"]) == (6, 2)


def test_what_is_kept_can_be_stored(table, tensors):
    kept = projection_heads(*head_matrices(tensors))
    stored = save(
        {f"{one.layer} {one.role} {name}": getattr(one, name) for one in kept for name in ("frames", "factors")}
    )
    recalled = load(stored)
    again = [
        ProjectionHeads(
            one.layer, one.role, *(recalled[f"{one.layer} {one.role} {name}"] for name in ("frames", "factors"))
        )
        for one in kept
    ]
    pd.testing.assert_frame_equal(head_table(again), table)


def test_some_roles_alone_have_their_kernels_and_no_composition_without_the_partner():
    heads = gaussian_heads(layers=2, heads=2, n=16, width=4, seed=12)
    table = head_table([one for one in heads if one.role in "qo"])
    assert table["kind"].unique().tolist() == ["QQ", "OO", "OQ"]
    assert table["kernel"].notna().all()
    assert table["composition_score"].isna().all()


def test_one_head_makes_no_pair():
    assert head_table(gaussian_heads(layers=1, heads=1, n=8, width=2, seed=13)).empty


def test_a_pair_is_basis_independent_where_both_of_its_heads_are():
    names = ["layers.0.q.heads.0.read", "layers.1.q.heads.1.read", "layers.0.o.heads.2.write"]
    heads = gaussian_heads(layers=2, heads=3, n=8, width=2, seed=13)
    found = head_table(heads, basis_independent=names)
    independent = found[found["basis_independent"]]
    assert independent[["source", "target"]].to_numpy().tolist() == [names[:2], [names[2], names[1]]]
    assert not head_table(heads)["basis_independent"].any()


@pytest.mark.parametrize(
    ("n", "dtype", "message"),
    [(9, torch.float32, "dimension 8, .* dimension 9"), (8, torch.float64, r"torch\.float32 .* torch\.float64")],
)
def test_heads_that_do_not_share_a_stream_are_refused(n, dtype, message):
    heads = gaussian_heads(layers=1, heads=2, n=8, width=2, seed=14)
    others = gaussian_heads(layers=2, heads=2, n=n, width=2, seed=14, dtype=dtype)
    with pytest.raises(ValueError, match=message):
        head_table(heads + others[4:])
