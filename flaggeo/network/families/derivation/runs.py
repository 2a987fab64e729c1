"""One tiny model of a model type, run once, and the tensors that hold its weights in memory and on disk."""

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from ....checkpoint import CheckpointError, open_checkpoint
from ...reading import read_network
from ...roles import bare
from ..record import Record
from .confirmation import is_closed, is_fixed
from .flow import Flow
from .labels import Label
from .layouts import Layout, Storage
from .norms import norm_modules
from .parts import LISTED, Analysis, DerivationError, Part
from .templates import Templates, counted
from .tiny import Sizes, model_types, tiny_config, tiny_inputs, tiny_model


class Run:
    """One tiny model of a model type, run once.

    Parameters
    ----------
    model_type : str
    sizes : Sizes
    tied : bool, optional
        See `Analysis`.
    **settings
    """

    def __init__(self, model_type: str, sizes: Sizes, *, tied: bool = False, **settings: Any) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.config = tiny_config(model_type, sizes, **settings)
        self.model = tiny_model(self.config)
        self.norms = list(norm_modules(self.model))
        self.inputs = tiny_inputs(self.model)
        flow = Flow(self.model, {norm.name: norm.gain for norm in self.norms})
        with torch.no_grad(), flow:
            out = self.model(**self.inputs)
        self.trace = flow.trace
        tokens = [value for name, value in self.inputs.items() if name.endswith("input_ids")]
        analysis = Analysis(self.trace, tokens=tokens, logits=self._logits(flow, out), tied=tied)
        self.found = analysis.parts()
        self.analysis = analysis
        self.reasons = {**analysis.uses_of_products(), **self.found.others}
        for name, why in self.found.unknown.items():
            raise DerivationError(f"{name}: {why}")
        parts = self._along_layers(_distinct(self.found.parts))
        embeddings = [part.elements for part in parts if part.role == "embed"]
        self.tied = any(
            part.role == "unembed" and any(torch.equal(part.elements, table) for table in embeddings) for part in parts
        )
        self.tables = [part for part in parts if part.role == "unembed" and self.tied]
        self.parts = parts if not self.tied else [part for part in parts if part.role != "unembed"]
        self.streams = list(dict.fromkeys(part.stream for part in sorted(parts, key=lambda part: part.number)))

    def _along_layers(self, parts: list[Part]) -> list[Part]:
        """Parts of the streams that have layers; what another stream has, such as a pooling head, is outside them."""
        layered = {part.stream for part in parts if part.role not in _TABLES and LISTED.search(self.name(part))}
        if not layered:
            raise DerivationError("no stream that layers read and write")
        self.reasons |= {self.name(part): "head" for part in parts if part.stream not in layered}
        return [part for part in parts if part.stream in layered]

    def _logits(self, flow: Flow, out: Any) -> Label | None:
        """Label of what a table of tokens returned."""
        has_table = self.model.get_output_embeddings() is not None  # type: ignore[no-untyped-call]
        return flow.label(out[0]) if has_table else None

    @cached_property
    def stream_norms(self) -> frozenset[str]:
        """Gains of norms on the stream; where there are some, that before the unembedding is like these."""
        norms = self.found.stream_norms
        last = {part.norm for part in self.found.parts if part.role == "unembed"} - {None}
        return norms | {norm for norm in last if norm is not None} if self._is_post_norm else norms

    @property
    def _is_post_norm(self) -> bool:
        """Whether blocks read the stream through norms that it passes itself."""
        return any(
            part.norm in self.found.stream_norms - set(self.found.entry_norms.values())
            for part in self.found.parts
            if part.role not in ("embed", "unembed")
        )

    def confirm(self) -> None:
        """Check that all was found that faces a stream; the model is left with other weights.

        Raises
        ------
        DerivationError
            If it was not.
        """
        norms = {norm.gain: norm.bias for norm in self.norms}
        if not is_fixed(self.analysis) and not is_closed(self.model, self.analysis, norms, self._output):
            raise DerivationError("the coordinates of the stream are not all that is read and written")

    def _output(self) -> Tensor:
        out: Tensor = self.model(**self.inputs)[0]
        return out

    def confirm_reading(self, records: Sequence[Record]) -> None:
        """Check that the folder which `saved` was read from, opened by these records, has the weights that were found.

        Parameters
        ----------
        records : sequence of Record
            All of the model type.

        Raises
        ------
        DerivationError
            If it has not, or cannot be opened.
        """
        try:
            network = read_network(open_checkpoint(self._folder.name), records=records)
        except CheckpointError as error:
            raise DerivationError(str(error).replace(self._folder.name, "saved")) from None
        named = self.model.config.model_type
        if network.structure is None or not (network.structure.known or named in model_types()):
            raise DerivationError(f"saved under another name, {named}")
        read = {
            (bare(weight.role), *_fingerprint(network.matrix(weight)))
            for weight in network.weights
            if weight.head is None and weight.after is None
        }
        roles = {role for role, *_ in read}
        for part in self.parts:
            as_read = part.role, *_fingerprint(part.elements)
            # A table that is narrower than the stream is not read.
            left_out = part.after is not None or (part.role in _TABLES and part.role not in roles)
            if not left_out and as_read not in read:
                raise DerivationError(f"{self.name(part)}: read from disk without its rows of {part.role}")

    def name(self, part: Part) -> str:
        """Name of the parameter that holds a part."""
        return self.trace.parameter_at(float(part.elements.flatten()[0]))[0]

    @cached_property
    def beginnings(self) -> tuple[str, ...]:
        """What stands before the lists of layers in the names of parts."""
        names = (LISTED.split(self.name(part)) for part in self.parts)
        return tuple({f"{parts[0]}." for parts in names if len(parts) > 1})

    @cached_property
    def numbers(self) -> list[dict[str, int]]:
        """Layer and expert of each part, from the numbers in the names that vary along a stream."""
        numbers: list[dict[str, int]] = [{} for _ in self.parts]
        self._stages: dict[str, dict[int, list[tuple[str, int]]]] = {}
        for stream in self.streams:
            own = [n for n, part in enumerate(self.parts) if part.stream == stream and part.role not in _TABLES]
            values: dict[str, set[int]] = {}
            for n in own:
                for prefix, value in counted(self.name(self.parts[n])):
                    values.setdefault(prefix, set()).add(value)
            for n in own:
                places = counted(self.name(self.parts[n]))
                varying = [(p, value) for p, value in places if len(values[p]) > 1] or places
                if varying:
                    numbers[n]["layer"] = varying[0][1]
                    self._stages.setdefault(varying[0][0], {})[stream] = places[: places.index(varying[0])]
        self._count_stages(numbers)
        self._count_experts(numbers)
        self._require_single_blocks(numbers)
        return numbers

    def _require_single_blocks(self, numbers: list[dict[str, int]]) -> None:
        """Refuse layers with several weights of one role, other than those of mixers and experts."""
        found: dict[tuple[int, int, str], Part] = {}
        for part, place in zip(self.parts, numbers, strict=True):
            single = part.role not in _TABLES and not part.role.startswith(("expert_", "mixer_"))
            if single and "layer" in place:
                first = found.setdefault((part.stream, place["layer"], part.role), part)
                if first is not part:
                    raise DerivationError(f"{self.name(part)}: {part.role} beside {self.name(first)} in one layer")

    def stage(self, stream: int) -> tuple[str, int] | None:
        """What the stages are called of which a stream is one, and its number; None where it is none."""
        for numbers, part in zip(self.numbers, self.parts, strict=True):
            if part.stream == stream and "stage" in numbers:
                outer = next(outer for outer in self._stages.values() if stream in outer)
                prefix, number = outer[stream][-1]
                return prefix.rstrip(".").rpartition(".")[2], number
        return None

    def _count_stages(self, numbers: list[dict[str, int]]) -> None:
        """Where layers of several streams are called alike but for a number before the layer's, it is the stage."""
        for outer in self._stages.values():
            if len(outer) > 1 and all(outer.values()):
                for n, part in enumerate(self.parts):
                    if part.stream in outer and "layer" in numbers[n]:
                        numbers[n]["stage"] = outer[part.stream][-1][1]

    def _count_experts(self, numbers: list[dict[str, int]]) -> None:
        groups: dict[tuple[int, int | None, str], list[int]] = {}
        for n, part in enumerate(self.parts):
            if part.role.startswith("expert_"):
                groups.setdefault((part.stream, numbers[n].get("layer"), part.role), []).append(n)
        for members in groups.values():
            names = {self.name(self.parts[n]) for n in members}
            # In one tensor they are counted by their place, in several by the number that tells these apart.
            ordered = sorted(members, key=lambda n: float(self.parts[n].elements.flatten()[0]))
            for place, n in enumerate(ordered):
                values = [value for _, value in counted(self.name(self.parts[n]))]
                numbers[n]["expert"] = place if len(names) == 1 else values[-1]

    @cached_property
    def size(self) -> int:
        """Number of elements of all parameters."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    @cached_property
    def storage(self) -> Storage:
        """Finds the parts in tensors."""
        return Storage(self.parts, self.size)

    @cached_property
    def live(self) -> dict[str, Tensor]:
        """Names in the state dict to which elements of the parameters they hold, plus one; zeros for buffers."""
        parameters = dict(self.model.named_parameters(remove_duplicate=False))
        first = {id(parameter): self.trace.first_elements[name] for name, parameter in self.model.named_parameters()}
        return {
            name: torch.arange(tensor.numel()).reshape(tensor.shape) + first[id(parameters[name])] + 1
            if name in parameters
            else torch.zeros(tensor.shape, dtype=torch.long)
            for name, tensor in self.model.state_dict().items()
        }

    @cached_property
    def saved(self) -> dict[str, Tensor]:
        """The same of the names that the model is saved under."""
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                first = self.trace.first_elements[name]
                numbers = torch.arange(parameter.numel(), dtype=torch.float32) + first + 1
                parameter.copy_(numbers.reshape(parameter.shape))
            for buffer in self.model.buffers():
                buffer.zero_()
            self.model.save_pretrained(self._folder.name)
        with safe_open(Path(self._folder.name) / "model.safetensors", framework="pt") as file:
            saved = {name: file.get_tensor(name).round().long() for name in file.keys()}  # noqa: SIM118
        # In the order of the module, buffers last.
        return dict(sorted(saved.items(), key=lambda item: int(item[1].flatten()[:1].sum()) or self.size + 1))


@dataclass(frozen=True)
class Stored:
    """The tensors of one run under one naming.

    Attributes
    ----------
    run : Run
    tensors : mapping of str to Tensor
        Elements of the parameters that each holds, plus one.
    """

    run: Run
    tensors: Mapping[str, Tensor]

    @cached_property
    def layouts(self) -> dict[str, Layout]:
        """Of each tensor that holds parts."""
        found = {}
        for name, elements in self.tensors.items():
            try:
                layout = self.run.storage.layout(elements)
            except DerivationError as error:
                raise DerivationError(f"{name}: {error}") from None
            if layout is not None:
                found[name] = layout
        return found

    @cached_property
    def templates(self) -> Templates:
        """Learned from the tensors that hold parts."""
        known = []
        for name, layout in self.layouts.items():
            first = next(part for part, _ in layout.slices[0] if part >= 0)
            numbers = dict(self.run.numbers[first])
            if layout.stacked:
                numbers.pop("expert", None)
            known.append((name, numbers))
        return Templates(known, self.tensors)

    @cached_property
    def _holders(self) -> dict[int, str]:
        """First element of a tensor to its name; the first of several names."""
        holders: dict[int, str] = {}
        for name, elements in self.tensors.items():
            if elements.numel():
                holders.setdefault(int(elements.flatten()[0]), name)
        return holders

    @cached_property
    def repeated(self) -> set[str]:
        """Names of tensors of which another name came before."""
        return {
            name
            for name, elements in self.tensors.items()
            if elements.numel() and int(elements.flatten()[0]) and self._holders[int(elements.flatten()[0])] != name
        }

    def holder(self, parameter: str) -> str:
        """Name of the tensor that holds a parameter, or its beginning."""
        first = self.run.trace.first_elements[parameter] + 1
        if first not in self._holders:
            raise DerivationError(f"{parameter}: not found under the names on disk")
        return self._holders[first]

    def beside(self, parameter: str, layer: int | None) -> str | None:
        """Template of a parameter that is met in a layer; None for one of the last layer of another list."""
        name = self.holder(parameter)
        own = self.templates.numbers(name).get("layer")
        if own is None or (layer is not None and own in (layer, layer - 1)):
            return self.templates(name, layer)
        template = self.templates(name)
        last = max(
            self.templates.numbers(other)["layer"] for other in self.tensors if self.templates(other) == template
        )
        if own < last:
            raise DerivationError(f"{name}: met in layer {layer}")
        return None

    def has(self, template: str | None, layer: int | None) -> bool:
        """Whether a tensor of a layer is there."""
        return any(
            self.templates(name) == template and self.templates.numbers(name).get("layer") == layer
            for name in self.tensors
        )

    def parameter(self, name: str) -> str | None:
        """Name of the parameter whose beginning a tensor holds; None for a buffer."""
        first = int(self.tensors[name].flatten()[0]) if self.tensors[name].numel() else 0
        return self.run.trace.parameter_at(first)[0] if first else None


_TABLES = ("embed", "unembed")


def _fingerprint(matrix: Tensor) -> tuple[float, float, float]:
    """Of a matrix of numbers of elements, which ones they are, however it is unfolded."""
    numbers = matrix.double().round()
    return float(numbers.min()), float(numbers.max()), float(numbers.sum())


def _distinct(parts: Iterable[Part]) -> list[Part]:
    """Parts without those that are used again, as in networks that run through one layer several times."""
    found: dict[tuple[str, float, tuple[int, ...]], Part] = {}
    for part in parts:
        key = (part.role, float(part.elements.flatten()[0]), tuple(part.elements.shape))
        if part.role != "embed" or key not in found:
            found[key] = part
    return list(found.values())
