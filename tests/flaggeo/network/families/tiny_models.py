"""Tiny models of any model type, and the matrices of a record cut out of their tensors, independently of the reader."""

import re
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import load_file

from flaggeo.network.families.derivation.tiny import SMALL, tiny_config, tiny_inputs, tiny_model
from flaggeo.network.families.record import Naming, Piece, Record, Tower
from flaggeo.network.families.table import load_records

#: A fixed sample of structures that differ: fused, stacked, transposed, tied, post-norm, latent, hybrid, of two towers,
#: of stages, of convolutions; for text, sound and images.
SAMPLE = {
    *("bart", "bert", "clip", "convnext", "deepseek_v3", "dinov2", "falcon", "gemma2", "gpt2", "gpt_neox", "gpt_oss"),
    *("llama", "mamba", "mixtral", "olmo2", "phi3", "qwen3_next", "resnet", "siglip", "swin", "t5", "vit"),
    *("wav2vec2", "whisper"),
}
TYPES = sorted({model_type for record in load_records() for model_type in record.model_types})


def setting(config: dict, name: str | None) -> int | None:
    """Value of a setting, or the number itself."""
    if name is None or name.isdigit():
        return None if name is None else int(name)
    for key in name.split("."):
        config = config[key]
    return config


@dataclass(frozen=True)
class Cutting:
    """A piece at one layer and expert of a model."""

    piece: Piece
    tower: Tower
    numbers: dict
    tensors: dict
    config: dict

    @property
    def name(self) -> str:
        return filled(self.piece.tensor, self.numbers)

    @property
    def heads(self) -> int:
        role = self.piece.role.removeprefix("cross_")
        return self.count(role)

    def count(self, role: str) -> int:
        query = self.listed(setting(self.config, self.tower.heads)) or 1
        shared = self.listed(setting(self.config, self.tower.key_value_heads)) or query
        return {"q": query, "o": query, "k": shared, "v": shared}.get(role.removeprefix("cross_"), 1)

    def listed(self, value: Any) -> int | None:
        """A setting, or that of the own stage where it lists one for each."""
        return value[self.numbers["stage"]] if isinstance(value, list) else value

    def rows(self, height: int) -> list[int]:
        """Rows of the untransposed matrix that are of this role."""
        cut = self.piece.cut
        if cut is None:
            return list(range(height))
        if cut.groups == "rows":
            return list(range(cut.order.index(self.piece.role), height, len(cut.order)))
        groups = {"heads": self.count("q"), "key_value_heads": self.count("k")}.get(cut.groups) or int(cut.groups)
        shares = [max(self.count(role) // groups, 1) if role else 1 for role in cut.order]
        block = height // groups
        widths = [setting(self.config, name) for name in cut.widths] or [block // sum(shares)] * len(shares)
        sizes = [share * width for share, width in zip(shares, widths, strict=True)]
        assert sum(sizes) * groups == height
        place = cut.order.index(self.piece.role)
        start, size = sum(sizes[:place]), sizes[place]
        return [group * block + start + row for group in range(groups) for row in range(size)]

    def whole(self, tensor: torch.Tensor) -> torch.Tensor:
        """View of the tensor of this expert, shape=[out, in]; of a table, shape=[vocabulary, width]."""
        matrix = tensor[self.numbers["expert"]] if self.piece.stacked else tensor
        matrix = matrix.flatten(1) if matrix.ndim > 2 else matrix
        return matrix.mT if self.piece.transposed else matrix

    @property
    def matrix(self) -> torch.Tensor:
        """The matrix, shape=[out, in]; of a table, shape=[vocabulary, width]."""
        whole = self.whole(self.tensors[self.name])
        return whole[self.rows(len(whole))]

    @torch.no_grad()
    def change(self, change: Any, head: int | None = None) -> None:
        """Put another matrix in the place of this one, or of one of its heads."""
        whole = self.whole(self.tensors[self.name])
        rows = self.rows(len(whole))
        if head is not None and self.piece.role.removeprefix("cross_") == "o":
            width = whole.shape[1] // self.heads
            whole[:, head * width : (head + 1) * width] = change(whole[:, head * width : (head + 1) * width])
            return
        if head is not None:
            width = len(rows) // self.heads
            rows = rows[head * width : (head + 1) * width]
        whole[rows] = change(whole[rows])


def filled(template: str, numbers: dict) -> str:
    return re.sub(r"\{(\w+)(?:-(\d))?\}", lambda place: str(numbers[place[1]] - int(place[2] or 0)), template)


def fits(template: str, name: str) -> re.Match | None:
    """A match if a name is a template with its numbers filled in, or the template itself."""
    pattern = re.escape(template)
    for word in ("layer", "expert", "stage"):
        pattern = pattern.replace(rf"\{{{word}\}}", rf"(?P<{word}>\d+)")
    return re.fullmatch(pattern, name) or re.fullmatch(re.escape(template), name)


def explained(naming: Naming, tensors: dict) -> int:
    """How many tensors have a name of a structure."""
    templates = {piece.tensor for piece in naming.pieces} | {norm.tensor for norm in naming.norms} | set(naming.other)
    return sum(any(fits(template, name) for template in templates) for name in tensors)


def cuttings(record: Record, naming: Naming, tensors: dict, config: dict) -> list[Cutting]:
    """Every piece at every layer and expert that the tensors have."""
    towers = {piece.tower: tower for piece in naming.pieces for tower in record.towers if fits(tower.name, piece.tower)}
    itself = {piece.tensor for piece in naming.pieces} | set(naming.other)
    found = []
    for piece in naming.pieces:
        for name, tensor in tensors.items():
            match = fits(piece.tensor, name)
            if match and (name == piece.tensor or name not in itself):
                numbers = {word: int(value) for word, value in match.groupdict().items()}
                experts = range(len(tensor)) if piece.stacked else [None]
                found += [
                    Cutting(
                        piece,
                        towers[piece.tower],
                        numbers | ({} if expert is None else {"expert": expert}),
                        tensors,
                        config,
                    )
                    for expert in experts
                ]
    return found


class TinyModel:
    """A tiny random model and its record."""

    def __init__(self, model_type: str, sizes: Any = SMALL, **settings: Any) -> None:
        config = tiny_config(model_type, sizes, **settings)
        self.model = tiny_model(config)
        self.config = config.to_dict()
        self.inputs = tiny_inputs(self.model)
        self.tensors = self.model.state_dict()
        # Of several structures of one model type the one that has most of the names.
        structures = [
            (record, cuttings(record, record.live or record.saved, self.tensors, self.config))
            for record in load_records()
            if model_type in record.model_types and all(self.config[k] == v for k, v in record.settings.items())
        ]
        self.record, self.live = max(structures, key=lambda one: explained(one[0].live or one[0].saved, self.tensors))

    def saved(self, folder: Any) -> list[Cutting]:
        """The pieces under their names on disk."""
        self.model.save_pretrained(folder)
        return cuttings(self.record, self.record.saved, load_file(folder / "model.safetensors"), self.config)

    @torch.no_grad()
    def __call__(self, **settings: Any) -> Any:
        return self.model(**self.inputs, **settings)
