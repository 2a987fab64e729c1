"""The family table: from names of tensors to roles, one declarative row a family.

To add a family, add a row. Nothing else in the package knows a tensor by its name.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from ..spaces import Symmetry


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
    norms : mapping of str to mapping of str to str
        The same for the gains of the norms: ``attention`` and ``mlp`` before the reads of a block,
        ``attention output`` and ``mlp output`` after its writes, ``after attention`` for a name that means
        the former of these where a block has an ``mlp output`` norm and ``mlp`` otherwise, ``q`` and ``k``
        on queries and keys, ``final``. Empty where the stream lies behind its norms.
    stream_norms : mapping of str to mapping of str to str
        The same where it does: ``embedding`` behind the tables at the start, ``attention`` and ``mlp`` behind the
        blocks of a layer, ``unembedding`` before that table.
    gains_above_one : frozenset of str
        Model types whose norms add 1 to the gains that a Hugging Face file stores.
    tied : bool
        Whether the unembedding is the embedding where the settings do not say.
    grouped : bool
        Whether ``num_key_value_heads`` means anything (BERT stores it and ignores it).
    stream : Symmetry
        Of the residual stream where no norm follows a block's writes.
    layer_norm : bool
        Whether the norms of the stream subtract the mean.
    rotary : bool
        Whether positions turn queries and keys.
    unturned : mapping of str to int
        Model type to n where every n-th layer has no rotary positions, unless ``no_rope_layers`` says which.
    activation : str
        Of the MLP where the settings of a known model type do not say.
    rotary_rows_in_gguf : frozenset of str
        GGUF architectures whose query and key rows are interleaved for the rotary kernels.
    along_stream : mapping of str to tuple of int
        Regular expression of every other tensor whose part is known, to the axes that lie along the stream.
    unused : mapping of str to str
        Regular expression to the reason why such a tensor is no weight; the first match counts.
    """

    name: str
    model_types: frozenset[str]
    names: Mapping[str, Mapping[str, str]]
    norms: Mapping[str, Mapping[str, str]]
    stream_norms: Mapping[str, Mapping[str, str]]
    gains_above_one: frozenset[str]
    tied: bool
    grouped: bool
    stream: Symmetry
    layer_norm: bool
    rotary: bool
    unturned: Mapping[str, int]
    activation: str
    along_stream: Mapping[str, tuple[int, ...]]
    rotary_rows_in_gguf: frozenset[str]
    unused: Mapping[str, str]

    def role_of(self, naming: str, tensor: str) -> tuple[str, int | None] | None:
        """Role and layer of a tensor, or None."""
        return _located(self.names.get(naming, {}), tensor)

    def norm_of(self, naming: str, tensor: str) -> tuple[str, int | None] | None:
        """Which norm of which layer a tensor is the gain of, or None."""
        return _located(self.norms.get(naming, {}), tensor)

    def stream_norm_of(self, naming: str, tensor: str) -> tuple[str, int | None] | None:
        """Which norm that the stream passes a tensor is the gain of, and of which layer, or None."""
        return _located(self.stream_norms.get(naming, {}), tensor)

    def axes_along_stream(self, tensor: str) -> tuple[int, ...] | None:
        """Axes that face the stream of a tensor that is neither a weight nor a gain, or None if not known."""
        for pattern, axes in self.along_stream.items():
            if _compiled(pattern).fullmatch(tensor):
                return axes
        return None

    def reason_unused(self, tensor: str) -> str:
        """Why a tensor that has no role is left out."""
        for pattern, reason in self.unused.items():
            if re.search(pattern, tensor):
                return reason
        return f"not in the table of the {self.name} family"


def _located(table: Mapping[str, str], tensor: str) -> tuple[str, int | None] | None:
    for name, pattern in table.items():
        match = _compiled(pattern).fullmatch(tensor)
        if match:
            layer = match.groupdict().get("layer")
            return name, None if layer is None else int(layer)
    return None


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

_DIAGONAL = "normalisation gain: a diagonal map, folded into the weights beside it on request"
_BEHIND = "normalisation gain: a diagonal map; the stream comes after it, so it cannot be folded into any weight"
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
    norms={
        "huggingface": {
            "attention": _LLAMA_BLOCK + r"input_layernorm\.weight",
            "after attention": _LLAMA_BLOCK + r"post_attention_layernorm\.weight",
            "mlp": _LLAMA_BLOCK + r"pre_feedforward_layernorm\.weight",
            "mlp output": _LLAMA_BLOCK + r"post_feedforward_layernorm\.weight",
            "q": _LLAMA_BLOCK + r"self_attn\.q_norm\.weight",
            "k": _LLAMA_BLOCK + r"self_attn\.k_norm\.weight",
            "final": _LLAMA_PREFIX + r"norm\.weight",
        },
        "gguf": {
            "attention": _GGUF_BLOCK + r"attn_norm\.weight",
            "attention output": _GGUF_BLOCK + r"post_attention_norm\.weight",
            "mlp": _GGUF_BLOCK + r"ffn_norm\.weight",
            "mlp output": _GGUF_BLOCK + r"post_ffw_norm\.weight",
            "q": _GGUF_BLOCK + r"attn_q_norm\.weight",
            "k": _GGUF_BLOCK + r"attn_k_norm\.weight",
            "final": r"output_norm\.weight",
        },
    },
    stream_norms={},
    gains_above_one=frozenset({"gemma", "gemma2", "gemma3", "gemma3_text"}),
    tied=False,
    grouped=True,
    stream=Symmetry.ORTHOGONAL,
    layer_norm=False,
    rotary=True,
    unturned={"smollm3": 4},
    activation="silu",
    along_stream={r".*rotary_emb\.inv_freq": ()},
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
    norms={},
    stream_norms={
        "huggingface": {
            "embedding": _BERT_PREFIX + r"embeddings\.LayerNorm\.weight",
            "attention": _BERT_BLOCK + r"attention\.output\.LayerNorm\.weight",
            "mlp": _BERT_BLOCK + r"output\.LayerNorm\.weight",
            "unembedding": _WRAPPERS + r"(?:cls\.predictions\.transform\.LayerNorm|lm_head\.layer_norm)\.weight",
        },
        "gguf": {
            "embedding": r"token_embd_norm\.weight",
            "attention": _GGUF_BLOCK + r"attn_output_norm\.weight",
            "mlp": _GGUF_BLOCK + r"layer_output_norm\.weight",
        },
    },
    gains_above_one=frozenset(),
    tied=True,
    grouped=False,
    stream=Symmetry.PERMUTATION,
    layer_norm=True,
    rotary=False,
    unturned={},
    activation="gelu",
    along_stream={
        _BERT_PREFIX + r"embeddings\.(?:position|token_type)_embeddings\.weight": (1,),
        _BERT_PREFIX + r"(?:embeddings|encoder\.layer\.\d+\.(?:attention\.)?output)\.LayerNorm\.\w+": (0,),
        _BERT_PREFIX + r"embeddings_project\.(?:weight|bias)": (0,),
        _BERT_PREFIX + r"pooler\.dense\.weight": (1,),
        # The head before a tied unembedding has the stream's coordinates on both sides.
        _WRAPPERS + r"(?:cls\.predictions\.transform|lm_head)\.dense\.weight": (0, 1),
        _WRAPPERS + r"(?:cls\.predictions\.transform|lm_head)\.dense\.bias": (0,),
        _WRAPPERS + r"(?:cls\.predictions\.transform\.LayerNorm|lm_head\.layer_norm)\.\w+": (0,),
        r".*(?:pooler\.dense\.bias|seq_relationship\.\w+|predictions\.bias|lm_head\.bias|decoder\.bias)": (),
    },
    rotary_rows_in_gguf=frozenset(),
    unused={
        r"bias$": _TRANSLATION,
        r"(?i)norm": _BEHIND,
        r"position_ids": _NOT_LEARNED,
        r"position_embd|position_embeddings": "position table: its rows are added to the stream, not mapped",
        r"token_types|token_type_embeddings": "segment table: its rows are added to the stream, not mapped",
        r"pooler|transform|classifier|seq_relationship|lm_head\.dense": "head outside the blocks",
        r"embeddings_project": "map between embedding and stream, outside the blocks",
    },
)

FAMILIES = (LLAMA, BERT)
