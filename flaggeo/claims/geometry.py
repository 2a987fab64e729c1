"""What one may hope that the geometry of weights says of what a model does, as records: tested, not assumed."""

from math import inf

from .claim import Case, Claim
from .experiments.function import FunctionExperiment

TITLE = "Does geometry predict function?"
_SOURCE = 'our own hypothesis: docs/claims.md, "Does geometry predict function?"'

SMOLLM2 = FunctionExperiment(
    "smollm2-without-heads-and-layers",
    "SmolLM2-135M without each head and layer, 1,024 tokens of documentation",
    starts=(20_000, 80_000),
    length=512,
    seeds=(101,),
)
ON_SOURCE = FunctionExperiment(
    "smollm2-on-source-code",
    "SmolLM2-135M without each head and layer, 512 tokens of source code",
    starts=(20_000, 80_000),
    length=256,
    text="source",
    seeds=(101,),
)


def _on_both(number: str, *, least: float = -inf, most: float = inf, stated: bool = True) -> tuple[Case, ...]:
    """The same prediction on both texts."""
    return tuple(Case(one, number, least, most, stated=stated) for one in (SMOLLM2, ON_SOURCE))


CLAIMS = (
    Claim(
        "repeated_heads_are_spared",
        "Ablating a head whose output subspace another head shares raises the loss less.",
        _SOURCE,
        (
            *_on_both("repeated_heads_within.high", most=0),
            *_on_both("repeated_heads_matched.high", most=0),
            *_on_both("repeated_heads.high", most=0, stated=False),
        ),
        apart=True,
    ),
    Claim(
        "similar_layers_are_spared",
        "Leaving out a layer that resembles the one before raises the loss less.",
        _SOURCE,
        (
            *_on_both("similar_layers_left_out.high", most=0),
            *_on_both("similar_layers_replaced.high", most=0),
        ),
        apart=True,
    ),
    Claim(
        "influential_layers_are_missed",
        "Leaving out a layer of larger block influence on a text raises the loss more.",
        "arXiv:2403.03853, section 3",
        (
            *_on_both("influence_left_out.low", least=0),
            *_on_both("influence_replaced.low", least=0, stated=False),
        ),
        apart=True,
    ),
    Claim(
        "linked_heads_move",
        "When a head is ablated, later heads that read more of its output subspace change more.",
        _SOURCE,
        tuple(
            case
            for number, stated in (("links_within.low", True), ("links.low", False))
            for read in ("query", "key", "value")
            for case in _on_both(f"{read}_{number}", least=0, stated=stated)
        ),
        apart=True,
    ),
)
