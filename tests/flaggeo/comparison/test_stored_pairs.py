import torch

from flaggeo.checkpoint import open_checkpoint
from flaggeo.comparison.stored_pairs import stored_pairs


def pairs(first, second, others=()):
    """Of checkpoints whose tensors have these widths."""
    checkpoints = []
    for widths in (first, second):
        tensors = {}
        for name, width in widths.items():
            # A tensor that is in two places is stored once.
            tensors[name] = tensors[width] if isinstance(width, str) else torch.rand(2, width)
        checkpoints.append(open_checkpoint(tensors))
    return stored_pairs(*checkpoints, dict(others))


def test_equal_names_belong_together_and_the_rest_is_in_one_alone():
    assert pairs({"a.w": 3, "b.w": 4}, {"b.w": 5, "c.w": 3}) == [("a.w", None), ("b.w", "b.w"), (None, "c.w")]


def test_names_may_differ_in_what_comes_first():
    longer, shorter = {"bert.layer.0.w": 3, "bert.layer.1.w": 3}, {"layer.0.w": 3, "layer.1.w": 3}
    assert pairs(longer, shorter) == list(zip(longer, shorter, strict=True))
    assert pairs(shorter, longer) == list(zip(shorter, longer, strict=True))


def test_names_that_end_alike_are_not_matched_where_shapes_or_partners_differ():
    assert pairs({"bert.layer.w": 3}, {"layer.w": 4}) == [("bert.layer.w", None), (None, "layer.w")]
    towers = {"encoder.layer.w": 3, "decoder.layer.w": 3}
    assert pairs(towers, {"layer.w": 3}) == [*((name, None) for name in towers), (None, "layer.w")]
    assert pairs({"a.w": 3}, {"b.w": 3}) == [("a.w", None), (None, "b.w")]


def test_tied_tensors_are_held_against_the_one_that_is_stored():
    tied, untied = {"embed.w": 3, "head.w": "embed.w"}, {"embed.w": 3, "head.w": 3}
    assert pairs(tied, untied) == [("embed.w", "embed.w"), ("embed.w", "head.w")]
    assert pairs(untied, tied) == [("embed.w", "embed.w"), ("head.w", "embed.w")]


def test_what_is_known_to_be_one_weight_needs_no_name():
    assert pairs({"q.w": 3}, {"blk.q": 3}, {"q.w": "blk.q"}) == [("q.w", "blk.q")]
