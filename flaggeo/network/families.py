"""The family table: from names of tensors to roles, one declarative row a family.

To add a family, add a row. Nothing else in the package knows a tensor by its name.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from .quiver import Symmetry


@dataclass(frozen=True)
class Family:
    """One row: how a family of architectures spells its tensors, and what it does between them.

    Attributes
    ----------
    name : str
    model_types : frozenset of str
        Values of ``model_type`` in a config, and of ``general.architecture`` in a GGUF file, that are
        known to be of this family.
    names : mapping of str to mapping of str to str
        For each naming (``huggingface``, ``gguf``): role to regular expression. ``{layer}`` stands for
        the layer number.
    tied : bool
        Whether the unembedding is the embedding where the settings do not say.
    grouped : bool
        Whether ``num_key_value_heads`` means anything (BERT stores it and ignores it).
    stream : Symmetry
        Of the residual stream.
    keys : Symmetry
        Of a head's key space.
    rotary_rows_in_gguf : frozenset of str
        GGUF architectures whose query and key rows are interleaved for the rotary kernels.
    unused : mapping of str to str
        Regular expression to the reason why such a tensor is no weight; the first match counts.
    """

    name: str
    model_types: frozenset[str]
    names: Mapping[str, Mapping[str, str]]
    tied: bool
    grouped: bool
    stream: Symmetry
    keys: Symmetry
    rotary_rows_in_gguf: frozenset[str]
    unused: Mapping[str, str]

    def role_of(self, naming: str, tensor: str) -> tuple[str, int | None] | None:
        """Role and layer of a tensor, or None."""
        for role, pattern in self.names.get(naming, {}).items():
            match = _compiled(pattern).fullmatch(tensor)
            if match:
                layer = match.groupdict().get("layer")
                return role, None if layer is None else int(layer)
        return None

    def reason_unused(self, tensor: str) -> str:
        """Why a tensor that has no role is left out."""
        for pattern, reason in self.unused.items():
            if re.search(pattern, tensor):
                return reason
        return f"not in the table of the {self.name} family"


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern.replace("{layer}", r"(?P<layer>\d+)"))


_GGUF_BLOCK = r"blk\.{layer}\."
_GGUF_ATTENTION = {
    "embed": r"token_embd\.weight",
    "q": _GGUF_BLOCK + r"attn_q\.weight",
    "k": _GGUF_BLOCK + r"attn_k\.weight",
    "v": _GGUF_BLOCK + r"attn_v\.weight",
    "o": _GGUF_BLOCK + r"attn_output\.weight",
    "up": _GGUF_BLOCK + r"ffn_up\.weight",
    "down": _GGUF_BLOCK + r"ffn_down\.weight",
}

_DIAGONAL = "normalisation gain: a diagonal map, not folded into the weights"
_TRANSLATION = "bias: a translation, not a linear map"
_NOT_LEARNED = "positions: computed, not a map of activations"

# Data-parallel and compiled modules put their own names in front.
_WRAPPERS = r"(?:module\.|_orig_mod\.)*"
_LLAMA_PREFIX = _WRAPPERS + r"(?:model\.)?(?:language_model\.)?(?:model\.)?"
_LLAMA_BLOCK = _LLAMA_PREFIX + r"layers\.{layer}\."
_BERT_PREFIX = _WRAPPERS + r"(?:bert\.|roberta\.|electra\.|model\.)?"
_BERT_BLOCK = _BERT_PREFIX + r"encoder\.layer\.{layer}\."

LLAMA = Family(
    name="llama",
    model_types=frozenset(
        {
            "llama",
            "mistral",
            "qwen2",
            "qwen3",
            "olmo2",
            "gemma",
            "gemma2",
            "gemma3",
            "gemma3_text",
            "smollm3",
            "granite",
        }
    ),
    names={
        "huggingface": {
            "embed": _LLAMA_PREFIX + r"embed_tokens\.weight",
            "q": _LLAMA_BLOCK + r"self_attn\.q_proj\.weight",
            "k": _LLAMA_BLOCK + r"self_attn\.k_proj\.weight",
            "v": _LLAMA_BLOCK + r"self_attn\.v_proj\.weight",
            "o": _LLAMA_BLOCK + r"self_attn\.o_proj\.weight",
            "gate": _LLAMA_BLOCK + r"mlp\.gate_proj\.weight",
            "up": _LLAMA_BLOCK + r"mlp\.up_proj\.weight",
            "down": _LLAMA_BLOCK + r"mlp\.down_proj\.weight",
            "unembed": _WRAPPERS + r"(?:language_model\.)?lm_head\.weight",
        },
        "gguf": _GGUF_ATTENTION | {"gate": _GGUF_BLOCK + r"ffn_gate\.weight", "unembed": r"output\.weight"},
    },
    tied=False,
    grouped=True,
    stream=Symmetry.ORTHOGONAL,
    keys=Symmetry.ROTARY_BLOCK,
    rotary_rows_in_gguf=frozenset({"llama"}),
    unused={
        r"\.bias$": _TRANSLATION,
        r"norm": _DIAGONAL,
        r"rope_freqs|rotary_emb": _NOT_LEARNED,
        r"vision|image|audio": "another tower: its stream is not this one",
    },
)

BERT = Family(
    name="bert",
    model_types=frozenset({"bert", "roberta", "xlm-roberta", "camembert", "electra"}),
    names={
        "huggingface": {
            "embed": _BERT_PREFIX + r"embeddings\.word_embeddings\.weight",
            "q": _BERT_BLOCK + r"attention\.self\.query\.weight",
            "k": _BERT_BLOCK + r"attention\.self\.key\.weight",
            "v": _BERT_BLOCK + r"attention\.self\.value\.weight",
            "o": _BERT_BLOCK + r"attention\.output\.dense\.weight",
            "up": _BERT_BLOCK + r"intermediate\.dense\.weight",
            "down": _BERT_BLOCK + r"output\.dense\.weight",
            "unembed": _WRAPPERS + r"(?:cls\.predictions|lm_head)\.decoder\.weight",
        },
        "gguf": _GGUF_ATTENTION,
    },
    tied=True,
    grouped=False,
    stream=Symmetry.PERMUTATION,
    keys=Symmetry.GENERAL_LINEAR,
    rotary_rows_in_gguf=frozenset(),
    unused={
        r"bias$": _TRANSLATION,
        r"norm": _DIAGONAL,
        r"(?i)LayerNorm\.(weight|gamma)": _DIAGONAL,
        r"position_ids": _NOT_LEARNED,
        r"position_embd|position_embeddings": "position table: its rows are added to the stream, not mapped",
        r"token_types|token_type_embeddings": "segment table: its rows are added to the stream, not mapped",
        r"pooler|transform|classifier|seq_relationship|lm_head\.dense": "head outside the blocks",
        r"embeddings_project": "map between embedding and stream, outside the blocks",
    },
)

FAMILIES = (LLAMA, BERT)
