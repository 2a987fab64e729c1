"""The names of GGUF files: one list for all architectures, of which each has some."""

from .record import Cut, Naming, Norm, Piece

_BLOCK = "blk.{layer}."
_NORMS_BEFORE = ("attn_norm", "ffn_norm", "post_attention_norm", "post_ffw_norm", "attn_q_norm", "attn_k_norm")
_NORMS_BEHIND = ("attn_output_norm", "layer_output_norm")
# Of the ends of a layer: what attention and the hidden layer read through, and what their writing passes.
_BEFORE = ("attn_norm", "ffn_norm", "post_attention_norm", "post_ffw_norm")


def gguf_naming(*, on_stream: bool, kind: str) -> Naming:
    """Names of weights and norms.

    Parameters
    ----------
    on_stream : bool
        Whether the stream passes the norms, as in BERT.
    kind : str
        Of the norms, as in `Norm`.
    """
    before = [_BLOCK + f"{name}.weight" for name in _BEFORE]
    if on_stream:
        before = [
            _BLOCK.replace("layer", "layer-1") + "layer_output_norm.weight",
            _BLOCK + "attn_output_norm.weight",
            "",
            "",
        ]
    attention, mlp, behind_attention, behind_mlp = (name or None for name in before)

    def piece(name: str, role: str, norm: str | None, **details: object) -> Piece:
        return Piece(f"{_BLOCK}{name}.weight", role, norm=norm, **details)  # type: ignore[arg-type]

    fused = [piece("attn_qkv", role, attention, cut=Cut("1", ("q", "k", "v"))) for role in "qkv"]
    pieces = (
        Piece("token_embd.weight", "embed"),
        piece("attn_q", "q", attention, head_norm=_BLOCK + "attn_q_norm.weight"),
        piece("attn_k", "k", attention, head_norm=_BLOCK + "attn_k_norm.weight"),
        piece("attn_v", "v", attention),
        *fused,
        piece("attn_output", "o", behind_attention),
        piece("ssm_in", "mixer_in", attention),
        piece("ssm_out", "mixer_out", None),
        piece("ffn_gate", "gate", mlp),
        piece("ffn_up", "up", mlp),
        piece("ffn_down", "down", behind_mlp),
        piece("ffn_gate_inp", "router", mlp),
        piece("ffn_gate_exps", "expert_gate", mlp, stacked=True),
        piece("ffn_up_exps", "expert_up", mlp, stacked=True),
        piece("ffn_down_exps", "expert_down", behind_mlp, stacked=True),
        piece("ffn_gate_shexp", "shared_gate", mlp),
        piece("ffn_up_shexp", "shared_up", mlp),
        piece("ffn_down_shexp", "shared_down", behind_mlp),
        Piece("output.weight", "unembed", norm="output_norm.weight"),
    )
    norms = [Norm(f"{_BLOCK}{name}.weight", kind) for name in _NORMS_BEFORE]
    norms += [Norm(f"{_BLOCK}{name}.weight", kind, on_stream=True) for name in _NORMS_BEHIND]
    norms += [Norm("output_norm.weight", kind), Norm("token_embd_norm.weight", kind, on_stream=True)]
    other = {
        "position_embd.weight": "position table",
        "token_types.weight": "segment table",
        "rope_freqs.weight": "position",
    }
    return Naming(pieces, tuple(norms), other)


def gguf_tensor(role: str, layer: str) -> str:
    """What the weight of a role is called in a GGUF file, without the ending; the role where it has no name there."""
    named = (piece.tensor for piece in gguf_naming(on_stream=False, kind="rmsnorm").pieces if piece.role == role)
    name = next(named, f"{_BLOCK}{role}")
    return name.removesuffix(".weight").format(layer=layer)


#: Gain of the norm that the stream passes before the first layer.
ENTRY_NORM = "token_embd_norm.weight"
