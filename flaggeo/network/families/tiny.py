"""Tiny models of any model type of transformers, with random weights, and inputs that they accept."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

TOKENS = 7

# Settings of one meaning have one size, whatever a model type calls them.
_NAMES: Mapping[str, str] = {
    "width": "hidden_size d_model n_embd dim emb_dim word_embed_proj_dim pooler_hidden_size prediction_head_size "
    "attention_hidden_size linear_width lru_width",
    "embedding": "embedding_size",
    "layers": "num_hidden_layers n_layer n_layers num_layers encoder_layers num_encoder_layers num_blocks depth",
    "decoder_layers": "decoder_layers num_decoder_layers",
    "heads": "num_attention_heads n_head n_heads num_heads encoder_attention_heads attention_heads "
    "num_encoder_attention_heads",
    "decoder_heads": "decoder_attention_heads num_decoder_attention_heads",
    "key_value_heads": "num_key_value_heads num_kv_heads kv_n_heads multi_query_group_num",
    "head": "head_dim d_kv kv_channels dim_head d_head attention_head_dim global_head_dim",
    "hidden": "intermediate_size d_ff ffn_dim encoder_ffn_dim decoder_ffn_dim dff d_inner hidden_dim ffn_hidden_size "
    "dim_ff mlp_dim intermediate_size_mlp dense_intermediate_size n_inner",
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
    "query_latent": "q_lora_rank",
    "key_value_latent": "kv_lora_rank",
    "turned": "qk_rope_head_dim",
    "unturned": "qk_nope_head_dim",
    "value_head": "v_head_dim",
}
_MEANINGS = {name: meaning for meaning, names in _NAMES.items() for name in names.split()}


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
    query_latent: int = 12
    key_value_latent: int = 10
    turned: int = 4
    unturned: int = 6
    value_head: int = 18


#: Two sizes, in which no two settings of different meaning have the same pair of values.
SMALL = Sizes()
OTHER = Sizes(
    width=64,
    embedding=40,
    layers=3,
    decoder_layers=4,
    heads=8,
    decoder_heads=16,
    key_value_heads=4,
    head=12,
    hidden=72,
    expert_hidden=36,
    shared_hidden=52,
    experts=6,
    query_latent=14,
    key_value_latent=22,
    turned=8,
    unturned=10,
    value_head=26,
)


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
    return config_class(**_shrunk(config_class().to_dict(), sizes) | settings)


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
