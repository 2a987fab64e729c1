"""What the settings and the norms of a checkpoint say about its spaces and weights."""

from collections.abc import Mapping
from typing import Any

from ..checkpoint import Checkpoint, CheckpointError
from .families import Family
from .folding import Folding, Gain
from .quiver import Symmetry
from .symmetries import hidden_symmetry, key_symmetry, stream_symmetry

# Which norm a role reads the stream through, and which its output passes.
_READ = dict.fromkeys(("q", "k", "v"), "attention") | dict.fromkeys(("gate", "up"), "mlp") | {"unembed": "final"}
_WRITTEN = {"o": "attention output", "down": "mlp output", "q": "q", "k": "k"}


class Architecture:
    """The symmetry of every space and the norms beside every weight, from headers alone.

    Parameters
    ----------
    checkpoint : Checkpoint
    settings : mapping
        Of the language model.
    family : Family
        The row that the names matched.
    """

    def __init__(self, checkpoint: Checkpoint, settings: Mapping[str, Any], family: Family) -> None:
        self._checkpoint, self._settings, self._family = checkpoint, settings, family
        self._model_type = str(settings.get("model_type", ""))
        self._known = self._model_type in family.model_types
        plus_one = checkpoint.naming == "huggingface" and self._model_type in family.gains_above_one
        self._offset = 1.0 if plus_one else 0.0
        self._norms = {place: name for name in checkpoint.headers if (place := family.norm_of(checkpoint.naming, name))}
        for (norm, layer), name in list(self._norms.items()):
            if norm == "after attention":
                behind = ("mlp output", layer) in self._norms
                self._norms["attention output" if behind else "mlp", layer] = name

    @property
    def stream(self) -> tuple[Symmetry, bool]:
        """Symmetry of the residual stream, and whether it is only assumed."""
        return stream_symmetry(
            self._family.stream if self._known else None,
            normed=any("norm" in name.lower() for name in self._checkpoint.headers),
            writes_normed=any(norm in ("attention output", "mlp output") for norm, _ in self._norms),
        )

    def hidden(self, *, gated: bool) -> tuple[Symmetry, bool]:
        """Symmetry of the hidden layer of an MLP, and whether it is only assumed."""
        activation = self._settings.get("hidden_activation") or self._settings.get("hidden_act")
        default = self._family.activation if self._known else None
        return hidden_symmetry(default if activation is None else str(activation), gated=gated)

    def keys(self, layer: int) -> tuple[Symmetry, bool]:
        """Symmetry of the spaces in which queries meet keys, and whether it is only assumed."""
        return key_symmetry(self._rotary(layer), normed=("q", layer) in self._norms or ("k", layer) in self._norms)

    def _rotary(self, layer: int) -> bool | None:
        if not self._known:
            return None
        turned = self._settings.get("no_rope_layers")  # in spite of its name, 1 where a layer has rotary positions
        if isinstance(turned, list) and layer < len(turned):
            return self._family.rotary and bool(turned[layer])
        every = self._family.unturned.get(self._model_type)
        return self._family.rotary and (every is None or (layer + 1) % every != 0)

    def folding(self, role: str, layer: int | None, source: int, target: int, head_width: int | None) -> Folding:
        """Norms beside a weight and beside each of its heads.

        Parameters
        ----------
        role : str
        layer : int or None
        source, target : int
            Dimensions of the whole projection.
        head_width : int or None
            Where it is known: the norms of queries and keys may have gains for one head only.

        Raises
        ------
        CheckpointError
            If a norm has not as many gains as there are coordinates.
        """
        read = self._gain(_READ.get(role), layer, {source})
        sizes = {target}
        if role in ("q", "k"):
            sizes |= {head_width} if head_width else {size for size in range(1, target) if target % size == 0}
        written = self._gain(_WRITTEN.get(role), layer, sizes)
        centred = self._known and self._family.layer_norm and role in ("embed", "o", "down")
        return Folding(read, written, centred)

    def _gain(self, norm: str | None, layer: int | None, sizes: set[int]) -> Gain | None:
        tensor = None if norm is None else self._norms.get((norm, layer))
        if tensor is None:
            return None
        header = self._checkpoint.headers[tensor]
        if len(header.shape) != 1 or header.shape[0] not in sizes:
            raise CheckpointError(
                f"{header.file}: tensor {tensor!r}: expected {' or '.join(map(str, sorted(sizes)))} gains, "
                f"found shape {header.shape}"
            )
        return Gain(tensor, self._offset)
