"""From a model type to its records: settings may give it several structures, of which each is derived on its own."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from ..record import Naming, Record
from .comparison import derive_variant
from .parts import DerivationError

_DISENTANGLED = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "max_relative_positions": 16}

#: Model type to the settings of its structures, besides those that only add biases. The first one has to be derived;
#: the others, if they cannot be, are at least not mistaken for it.
VARIANTS: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    "beit": ({}, {"use_relative_position_bias": True}),
    "cohere": ({"use_qk_norm": False}, {"use_qk_norm": True}),
    "data2vec-vision": ({}, {"use_relative_position_bias": True}),
    "deberta": ({"relative_attention": False}, _DISENTANGLED),
    "deberta-v2": (
        {"relative_attention": False},
        {**_DISENTANGLED, "position_buckets": 4, "share_att_key": True, "norm_rel_ebd": "layer_norm"},
    ),
    "deepseek_v2": ({"q_lora_rank": 12}, {"q_lora_rank": None}),
    **dict.fromkeys(("deepseek_v3", "glm4_moe_lite", "minicpm3", "youtu"), ({}, {"q_lora_rank": None})),
    "dinov2": ({"use_swiglu_ffn": False}, {"use_swiglu_ffn": True}),
    "dinov2_with_registers": ({"use_swiglu_ffn": False}, {"use_swiglu_ffn": True}),
    "esm": (
        {"position_embedding_type": "absolute", "emb_layer_norm_before": False},
        {"position_embedding_type": "rotary", "emb_layer_norm_before": False},
    ),
    "falcon": (
        {"new_decoder_architecture": False, "multi_query": True},
        {"new_decoder_architecture": False, "multi_query": False, "num_kv_heads": None},
        {"new_decoder_architecture": True},
    ),
    "gpt_bigcode": ({"multi_query": True}, {"multi_query": False}),
    "opt": (
        {"do_layer_norm_before": True},
        {"do_layer_norm_before": False},
        {"do_layer_norm_before": False, "word_embed_proj_dim": 24},  # OPT-350m, of which no setting says so
    ),
    "phi": ({"qk_layernorm": False}, {"qk_layernorm": True}),
    "resnet": (
        {"layer_type": "bottleneck"},
        {"layer_type": "basic", "embedding_size": 16, "hidden_sizes": [16, 32, 48, 64]},  # none before the first stage
    ),
    "stablelm": ({"qk_layernorm": False}, {"qk_layernorm": True}),
    "t5": ({"feed_forward_proj": "relu"}, {"feed_forward_proj": "gated-gelu"}),
    "tipsv2": ({}, {"vision_config": {"use_swiglu_ffn": True}}),
    "wav2vec2": ({"do_stable_layer_norm": False}, {"do_stable_layer_norm": True}),
}


# What checkpoints set, and no structure depends on; and what models would load other models for.
_NO_SWITCH = re.compile(
    r"_.*|tie_.*|use_cache|is_decoder|add_cross_attention|.*_token_id|.*(implementation|backbone|class).*"
)
_WORD = re.compile(r"[\w-]{1,40}", re.ASCII)


def derive(model_type: str, config: Mapping[str, Any] | None = None) -> tuple[Record, ...]:
    """Find out what the weights of a model type do.

    Parameters
    ----------
    model_type : str
        One that the installed transformers has code for.
    config : mapping, optional
        Settings of a checkpoint. Where it switches something on or off that is otherwise by default, the record is that
        of its own structure alone; its sizes do not matter.

    Returns
    -------
    records : tuple of Record
        One for each structure that its settings may give it.

    Raises
    ------
    DerivationError
        If something about it cannot be found out.
    """
    own = switches(model_type, config or {})
    first, *others = (own,) if own else VARIANTS.get(model_type, ({},))
    record: Record | None
    record, run = derive_variant(model_type, first)
    found: list[tuple[Record | None, Mapping[str, Any]]] = [(record, first)]
    runs = [run]
    for settings in others:
        try:
            record, run = derive_variant(model_type, settings)
            runs.append(run)
        except DerivationError:
            record = None
        same = [n for n, (other, _) in enumerate(found) if record and other and _differ_in_others(record, other)]
        if record is not None and same:
            merged, first_settings = found[same[0]]
            assert merged is not None
            found[same[0]] = (_with_others(merged, record), first_settings)
        else:
            found.append((record, settings))
    records = tuple(
        replace(record, settings=_conditions(record, settings, found))
        for record, settings in found
        if record is not None
    )
    for run in runs:
        run.confirm_reading(records)
    return records


def switches(model_type: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that are no sizes, functions or lists, and in which a checkpoint differs from its model type."""
    return dict(_switched(_defaults(model_type), config))


def usual_switches(model_type: str) -> dict[str, bool]:
    """What a model type switches on or off by default, with dots for sections."""

    def found(defaults: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, bool]]:
        for name, value in defaults.items():
            if isinstance(value, bool) and not _NO_SWITCH.fullmatch(name):
                yield f"{prefix}{name}", value
            elif isinstance(value, Mapping) and "model_type" in value:
                yield from found(value, f"{prefix}{name}.")

    return dict(found(_defaults(model_type)))


@cache
def _defaults(model_type: str) -> Mapping[str, Any]:
    from transformers import CONFIG_MAPPING

    return {name: value for name, value in CONFIG_MAPPING[model_type]().to_dict().items() if name not in _general()}


@cache
def _general() -> Mapping[str, Any]:
    """Settings that every model type has."""
    from transformers import PreTrainedConfig

    return PreTrainedConfig().to_dict()


def _switched(defaults: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    from transformers.activations import ACT2FN

    for name in config.keys() & defaults.keys():
        value, default = config[name], defaults[name]
        if _NO_SWITCH.fullmatch(name) or value == default:
            continue
        match default, value:
            case (bool(), bool()) | (int(), None):
                yield name, value
            case (str(), str()) if value not in ACT2FN and _WORD.fullmatch(value) and name != "model_type":
                yield name, value
            case (Mapping(), Mapping()) if "model_type" in default:
                inner = dict(_switched(default, value))
                if inner:
                    yield name, inner


def _conditions(
    record: Record, settings: Mapping[str, Any], found: Iterable[tuple[Record | None, Mapping[str, Any]]]
) -> dict[str, Any]:
    """Settings that tell a record from others that have the same names, or whose names are not known."""
    others = [
        others for other, others in found if other is None or (other != record and _names(other) == _names(record))
    ]
    return {
        name: value
        for name, value in settings.items()
        if isinstance(value, bool | int | str) and any(other.get(name, value) != value for other in others)
    }


def _differ_in_others(one: Record, other: Record) -> bool:
    """Whether two records say the same of all weights and norms."""
    return _with_others(one, other) == _with_others(other, one)


def _with_others(record: Record, other: Record) -> Record:
    """A record that also names the tensors that are no weights of another one."""

    def merged(one: Naming | None, two: Naming | None) -> Naming | None:
        if one is None or two is None:
            return one or two
        norms = tuple(sorted({*one.norms, *two.norms}, key=lambda norm: norm.tensor))
        return replace(one, norms=norms, other=dict(sorted({**two.other, **one.other}.items())))

    saved = merged(record.saved, other.saved)
    assert saved is not None
    return replace(record, saved=saved, live=merged(record.live, other.live))


def _names(record: Record) -> set[str]:
    return {piece.tensor for piece in record.saved.pieces}
