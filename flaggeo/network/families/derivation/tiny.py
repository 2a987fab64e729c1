"""Tiny models of any model type of transformers, with random weights, and inputs that they accept."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

TOKENS = 16
#: Parameters that a tiny model may have: so many can be told apart by numbers in float32.
LARGEST = 2**24
# Of the entries of matrices: wide enough for the functions of hidden layers to differ.
_SPREAD = 0.3

# Settings of one meaning have one size, whatever a model type calls them.
_NAMES: Mapping[str, str] = {
    "width": "hidden_size d_model n_embd dim emb_dim word_embed_proj_dim pooler_hidden_size prediction_head_size "
    "attention_hidden_size linear_width",
    "embedding": "embedding_size",
    "layers": "num_hidden_layers n_layer n_layers num_layers encoder_layers num_encoder_layers num_blocks depth "
    "encoder_num_hidden_layers",
    "decoder_layers": "decoder_layers num_decoder_layers decoder_num_hidden_layers",
    "heads": "num_attention_heads n_head n_heads num_heads encoder_attention_heads attention_heads "
    "num_encoder_attention_heads encoder_num_attention_heads encoder_num_key_value_heads",
    "decoder_heads": "decoder_attention_heads num_decoder_attention_heads decoder_num_attention_heads "
    "decoder_num_key_value_heads",
    "key_value_heads": "num_key_value_heads num_kv_heads kv_n_heads multi_query_group_num",
    "head": "head_dim d_kv kv_channels dim_head d_head attention_head_dim global_head_dim",
    "hidden": "intermediate_size d_ff ffn_dim encoder_ffn_dim decoder_ffn_dim dff d_inner hidden_dim ffn_hidden_size "
    "dim_ff mlp_dim intermediate_size_mlp dense_intermediate_size n_inner lru_width",
    "expert_hidden": "moe_intermediate_size expert_ffn_hidden_size",
    "shared_hidden": "shared_expert_intermediate_size shared_experts_intermediate_size shared_intermediate_size "
    "moe_shared_expert_intermediate_size",
    "experts": "num_experts num_local_experts n_routed_experts moe_num_experts",
    "chosen": "num_experts_per_tok num_experts_per_token moe_topk moe_k moe_top_k top_k num_selected_experts",
    "groups": "n_group num_expert_group",
    "one": "topk_group first_k_dense_replace",
    "vocabulary": "vocab_size vocab_size_per_layer_input decoder_vocab_size unpadded_vocab_size",
    "positions": "max_position_embeddings n_positions n_ctx max_seq_len max_source_positions max_target_positions "
    "model_max_length max_sequence_length",
    "rotary": "rotary_dim",
    "chunk": "chunk_size mamba_chunk_size",
    "state": "state_size mamba_d_state ssm_state_size",
    "state_heads": "mamba_n_heads mamba_num_heads linear_num_heads linear_num_key_heads linear_num_value_heads "
    "n_mamba_heads",
    "state_groups": "n_groups mamba_n_groups mamba_ngroups",
    "state_head": "mamba_d_head mamba_head_dim linear_head_dim linear_key_head_dim linear_value_head_dim",
    "state_rank": "time_step_rank mamba_dt_rank",
    "convolved": "conv_kernel mamba_d_conv linear_conv_kernel_dim short_conv_kernel_size conv_L_cache",
    "sliding_heads": "swa_num_attention_heads",
    "sliding_key_value_heads": "swa_num_key_value_heads",
    "sliding_head": "swa_head_dim",
    "image": "image_size",
    "patch": "patch_size",
    "window": "window_size",
    "bands": "num_mel_bins",
    "index_heads": "index_n_heads",
    "index_head": "index_head_dim",
    "index_chosen": "index_topk index_topk_blocks",
    "query_latent": "q_lora_rank",
    "key_value_latent": "kv_lora_rank",
    "turned": "qk_rope_head_dim",
    "unturned": "qk_nope_head_dim",
    "value_head": "v_head_dim",
}
_MEANINGS = {name: meaning for meaning, names in _NAMES.items() for name in names.split()}


def meaning(setting: str) -> str | None:
    """Field of `Sizes` that a setting is; None where it is no size that is known by name."""
    return _MEANINGS.get(setting.rpartition(".")[2])


@dataclass(frozen=True)
class Sizes:
    """How large a tiny model is. All sizes differ, so that no two ends of a matrix can be mistaken."""

    width: int = 32
    embedding: int = 24
    layers: int = 4
    decoder_layers: int = 3
    heads: int = 4
    decoder_heads: int = 2
    key_value_heads: int = 2
    head: int = 16
    hidden: int = 44
    expert_hidden: int = 20
    shared_hidden: int = 28
    experts: int = 4
    chosen: int = 2
    groups: int = 1
    one: int = 1
    vocabulary: int = 101
    positions: int = 64
    rotary: int = 4
    chunk: int = 4
    state: int = 6
    state_heads: int = 8
    state_groups: int = 2
    state_head: int = 8
    state_rank: int = 3
    convolved: int = 3
    sliding_heads: int = 4
    sliding_key_value_heads: int = 2
    sliding_head: int = 16
    image: int = 32
    patch: int = 8
    window: int = 2
    bands: int = 10
    index_heads: int = 2
    index_head: int = 8
    index_chosen: int = 5
    query_latent: int = 12
    key_value_latent: int = 10
    turned: int = 4
    unturned: int = 6
    value_head: int = 18


#: Two sizes, in which no two settings of different meaning have the same pair of values.
SMALL = Sizes()
OTHER = Sizes(
    width=128,
    embedding=40,
    layers=5,
    decoder_layers=4,
    heads=8,
    decoder_heads=16,
    key_value_heads=4,
    head=24,
    hidden=72,
    expert_hidden=36,
    shared_hidden=52,
    experts=7,
    state=10,
    state_head=32,
    sliding_heads=8,
    sliding_key_value_heads=4,
    sliding_head=24,
    query_latent=14,
    key_value_latent=22,
    turned=6,
    unturned=10,
    value_head=26,
)


def _settings(model_type: str, sizes: Sizes) -> dict[str, Any]:
    """Settings that a model type needs besides its sizes, or that its defaults do not give."""
    layers, head = sizes.layers, sizes.width // sizes.heads
    kinds = ["linear_attention", "full_attention"] * layers
    widths = [sizes.width * n // 2 for n in (1, 2, 3, 4)]
    stages = {"depths": [4, 3, 4, 3], "image_size": 64, "patch_size": 4}
    needed: Mapping[str, dict[str, Any]] = {
        "cohere_compass_text": {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1e4}}},
        "deepseek_v2": {"num_experts_per_tok": sizes.chosen},
        "convnext": {**stages, "hidden_sizes": widths},
        "convnextv2": {**stages, "hidden_sizes": widths},
        "resnet": {**stages, "embedding_size": sizes.embedding, "hidden_sizes": widths},
        "swin": {**stages, "embed_dim": sizes.embedding, "num_heads": [2, 4, 8, 8]},
        "swinv2": {**stages, "embed_dim": sizes.embedding, "num_heads": [2, 4, 8, 8]},
        "dbrx": {"attn_config": {"rope_theta": 1e4, "clip_qkv": 1e3}},
        "dots1": {"num_experts_per_tok": sizes.chosen, "n_routed_experts": sizes.experts, "n_shared_experts": 1},
        "esm": {"vocab_size": sizes.vocabulary, "pad_token_id": 1, "mask_token_id": 3},
        "esmc": {"num_key_value_heads": sizes.heads},
        "gemma3n_text": {"num_kv_shared_layers": 0},
        "gemma4_assistant": {"text_config": {"num_kv_shared_layers": 0, "hidden_size_per_layer_input": 0}},
        "gemma4_unified_assistant": {"text_config": {"num_kv_shared_layers": 0}},
        "gpt_neo": {"attention_types": [[["global"], layers]]},
        "helium": {"head_dim": head},
        "hunyuan_v1_dense": {"head_dim": sizes.head},
        "hunyuan_v1_moe": {"head_dim": sizes.head},
        "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
        "lfm2_moe": {"layer_types": ["conv", "full_attention"] * (layers // 2) + ["conv"] * (layers % 2)},
        "longcat_flash": {"zero_expert_num": 1},
        "mamba2": {"num_heads": 2 * sizes.heads, "head_dim": head},
        "ministral": {"head_dim": sizes.head},
        "poolformer": {"hidden_sizes": widths},
        "qwen4_exp_text": {"hc_lowrank": 4},
        "textnet": {"image_size": [64, 64]},
        "squeezebert": {"embedding_size": sizes.width},
        "xlnet": {"d_head": head},
        "xmod": {"default_language": "en_XX"},
        "zamba2": {"layers_block_type": kinds[:layers]},
        "zaya": {"num_experts_per_tok": 1},
    }
    return needed.get(model_type, {})


# In the order of preference: a model with all its towers before one of them.
_AUTO_CLASSES = (
    ("AutoModelForZeroShotImageClassification", "MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING_NAMES"),
    ("AutoModelForSeq2SeqLM", "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES"),
    ("AutoModelForMaskedLM", "MODEL_FOR_MASKED_LM_MAPPING_NAMES"),
    ("AutoModelForSpeechSeq2Seq", "MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES"),
    ("AutoModelForCausalLM", "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES"),
    ("AutoModelForCTC", "MODEL_FOR_CTC_MAPPING_NAMES"),
    ("AutoModelForImageClassification", "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES"),
)


def model_types() -> tuple[str, ...]:
    """Model types for text, speech and images that the installed transformers has."""
    from transformers.models.auto import modeling_auto

    return tuple(sorted({model_type for _, names in _AUTO_CLASSES for model_type in getattr(modeling_auto, names)}))


def _classes(model_type: str) -> tuple[str, tuple[str, ...]]:
    """The automatic class of a model type, and those that it chooses from."""
    from transformers.models.auto import modeling_auto

    for auto, names in _AUTO_CLASSES:
        found = getattr(modeling_auto, names).get(model_type)
        if found is not None:
            return auto, (found,) if isinstance(found, str) else tuple(found)
    return "", ()


def tiny_model(config: "PreTrainedConfig") -> "PreTrainedModel":
    """Model with random weights, in evaluation mode, whose attention and experts are computed step by step."""
    import transformers

    with torch.random.fork_rng():
        torch.manual_seed(0)
        auto, classes = _classes(config.model_type)
        config.architectures = [classes[0]]
        with _bounded_size():
            model = getattr(transformers, auto).from_config(
                config, attn_implementation="eager", experts_implementation="eager"
            )
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=_SPREAD)
    return model.eval()  # type: ignore[no-any-return]


@contextmanager
def _bounded_size() -> Iterator[None]:
    """Stop a model that becomes too large before its weights are drawn, which takes seconds."""
    size = 0

    def count(_: nn.Module, __: str, parameter: nn.Parameter) -> None:
        nonlocal size
        size += parameter.numel()
        if size >= LARGEST:
            raise ValueError(f"{LARGEST} parameters and more, although all sizes that are known by name are small")

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


def tiny_inputs(model: "PreTrainedModel") -> dict[str, Any]:
    """Inputs of a forward pass, random: so many tokens that each expert gets some, or images, or sound."""
    generator = torch.Generator().manual_seed(0)
    accepted = inspect.signature(model.forward).parameters
    inputs: dict[str, Any] = {}
    if "input_ids" in accepted and model.main_input_name in ("input_ids", "pixel_values"):
        inputs["input_ids"] = torch.randint(4, 90, (4, TOKENS), generator=generator)
    both = _classes(model.config.model_type)[0] == "AutoModelForZeroShotImageClassification"
    if "pixel_values" in accepted and (both or "input_ids" not in accepted or model.main_input_name == "pixel_values"):
        images = getattr(model.config, "vision_config", model.config)
        inputs["pixel_values"] = torch.randn(4, 3, *_pair(getattr(images, "image_size", 32)), generator=generator)
    if model.main_input_name == "input_values":
        inputs["input_values"] = torch.randn(4, 6000, generator=generator)
    if model.main_input_name == "input_features":
        bands = getattr(model.config, "num_mel_bins", getattr(model.config, "feature_projection_input_dim", 80))
        frames = 2 * getattr(model.config, "max_source_positions", TOKENS)
        inputs["input_features"] = torch.randn(4, bands, frames, generator=generator)
    if "decoder_input_ids" in accepted:
        inputs["decoder_input_ids"] = torch.randint(4, 90, (4, TOKENS - 2), generator=generator)
    return inputs | ({"use_cache": False} if "use_cache" in accepted else {})


def _pair(size: int | Sequence[int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def tiny_config(model_type: str, sizes: Sizes = SMALL, **settings: Any) -> "PreTrainedConfig":
    """Config of a model type in which every size that is known by name is small.

    Parameters
    ----------
    model_type : str
    sizes : Sizes, optional
    **settings
        Other settings than those.
    """
    from transformers import CONFIG_MAPPING

    config_class = CONFIG_MAPPING[model_type]
    shrunk = _shrunk(config_class().to_dict(), sizes)
    return config_class(**_merged(shrunk, _merged(_settings(model_type, sizes), settings)))


def _merged(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with changes, section by section."""
    merged = dict(settings)
    for name, value in changes.items():
        inner = merged.get(name)
        merged[name] = _merged(inner, value) if isinstance(value, dict) and isinstance(inner, dict) else value
    return merged


def _shrunk(defaults: Mapping[str, Any], sizes: Sizes) -> dict[str, Any]:
    changed: dict[str, Any] = {}
    # Where keys and values come from one latent, each query head has its own, and the width of the part that positions
    # turn is also called that of the head.
    latent = {"num_key_value_heads": "heads", "head_dim": "turned"} if "qk_rope_head_dim" in defaults else {}
    meanings = {**_MEANINGS, **latent}
    for name, value in defaults.items():
        if isinstance(value, dict) and "model_type" in value:
            changed[name] = _shrunk(value, sizes) | {"model_type": value["model_type"]}
        elif name in meanings and (isinstance(value, int) or value is None) and not isinstance(value, bool):
            if value is not None or meanings[name] == "key_value_heads":
                changed[name] = getattr(sizes, meanings[name])
        elif name.endswith("_token_id") and isinstance(value, int) and value >= sizes.vocabulary:
            changed[name] = 1 + len(changed) % 3
    return changed
