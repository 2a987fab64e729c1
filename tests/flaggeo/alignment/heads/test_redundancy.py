import pytest
import torch

from flaggeo.alignment import head_clusters, head_table
from tests.flaggeo.alignment.builders import gaussian_heads


def planted(copies, noise=0.1):
    """Random heads in 64 dimensions, some of which are made noisy copies of others: (layer, role, head) to the same."""
    heads = gaussian_heads(layers=3, heads=4, n=64, width=6, seed=20, dtype=torch.float64)
    frames = {(one.layer, one.role): one.frames for one in heads}
    for number, (target, source) in enumerate(copies.items()):
        generator = torch.Generator().manual_seed(number)
        shift = torch.randn(64, 6, generator=generator, dtype=torch.float64) * noise / 8
        frames[target[:2]][target[2]] = torch.linalg.qr(frames[source[:2]][source[2]] + shift).Q
    return head_table(heads)


def test_planted_groups_are_found_and_nothing_else():
    table = planted(
        {(1, "q", 2): (0, "q", 0), (2, "q", 3): (0, "q", 0), (2, "o", 1): (2, "o", 0), (0, "q", 1): (1, "q", 1)}
    )
    clusters = head_clusters(table)
    assert clusters[["role", "cluster", "size", "heads"]].to_numpy().tolist() == [
        ["q", 0, 3, "layers.0.q.heads.0.read, layers.1.q.heads.2.read, layers.2.q.heads.3.read"],
        ["q", 1, 2, "layers.0.q.heads.1.read, layers.1.q.heads.1.read"],
        ["o", 0, 2, "layers.2.o.heads.0.write, layers.2.o.heads.1.write"],
    ]
    row = table[(table["source"] == "layers.2.o.heads.0.write") & (table["target"] == "layers.2.o.heads.1.write")]
    for column in ("overlap_effect_size", "overlap_excess"):
        assert clusters[column].iloc[2] == pytest.approx(row[column].iloc[0])
    assert clusters["overlap_effect_size"].between(0.9, 1).all()


def test_random_heads_form_no_group():
    assert head_clusters(planted({})).empty


def test_a_group_needs_the_mean_of_the_cut():
    """Two heads that share 3 of 6 directions have an effect size just below a half."""
    heads = gaussian_heads(layers=1, heads=3, n=64, width=6, seed=21, dtype=torch.float64)[:1]
    heads[0].frames[1] = torch.linalg.qr(torch.cat([heads[0].frames[0][:, :3], heads[0].frames[1][:, 3:]], dim=1)).Q
    table = head_table(heads)
    shared = table["overlap_effect_size"].iloc[0]
    assert 0.4 < shared < 0.55
    assert len(head_clusters(table, least=shared - 0.01)) == 1
    assert head_clusters(table, least=shared + 0.01).empty


def test_equal_heads_are_one_group():
    clusters = head_clusters(planted({(1, "v", 2): (0, "v", 0)}, noise=0), least=1)
    assert clusters["heads"].tolist() == ["layers.0.v.heads.0.read, layers.1.v.heads.2.read"]


def test_a_group_on_outlier_channels_has_no_excess():
    """Heads that live on nearly the same 6 of 64 coordinates coincide, and random signs leave them so."""
    heads = gaussian_heads(layers=1, heads=4, n=64, width=5, seed=23, dtype=torch.float64)[:1]
    for head in range(2):
        heads[0].frames[head, 6:] = 0
        heads[0].frames[head] = torch.linalg.qr(heads[0].frames[head]).Q
    group = head_clusters(head_table(heads)).iloc[0]
    assert group["heads"] == "layers.0.q.heads.0.read, layers.0.q.heads.1.read"
    assert group["overlap_effect_size"] > 0.7
    assert abs(group["overlap_excess"]) < 0.5 * group["overlap_effect_size"]


def test_zero_heads_join_no_group():
    heads = gaussian_heads(layers=1, heads=4, n=16, width=2, seed=22, dtype=torch.float64)
    heads[0].frames[1:3] = 0
    heads[0].frames[3] = heads[0].frames[0]
    assert head_clusters(head_table(heads))["heads"].tolist() == ["layers.0.q.heads.0.read, layers.0.q.heads.3.read"]


@pytest.mark.parametrize("least", [0, -0.1, 1.1, float("nan")])
def test_a_cut_outside_the_range_is_refused(least):
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        head_clusters(planted({}), least=least)


def test_heads_without_a_row_count_as_unrelated():
    table = planted({(1, "q", 2): (0, "q", 0)})
    ends = ("layers.0.q.heads.0.read", "layers.1.q.heads.2.read")
    assert head_clusters(table)["heads"].tolist() == [", ".join(ends)]
    assert head_clusters(table[(table["source"] != ends[0]) | (table["target"] != ends[1])]).empty
