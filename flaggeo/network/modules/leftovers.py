"""What a module's weights leave out: the reason for every other tensor, and remarks on what could not be found out."""

from collections.abc import Iterable, Iterator

from ...checkpoint import Checkpoint
from ..quiver import Skipped, Weight
from ..spaces import Side, SpaceKind
from .recording import Recording

_ORIGIN = "the structure was found by running the module: which weights share a space was asked of the module itself"
_BIAS = "bias: a translation, not a linear map"
_FOLDED = "normalisation gain: a diagonal map, folded into the weights beside it on request"
_GAIN = "normalisation gain: a diagonal map, beside no weight that could take it over"
_STATISTICS = "running mean or variance of a batch norm: a diagonal map, folded with the gain of the norm"
_SCALE = "scale of each channel: a diagonal map, folded into the weights beside it on request"
_ADDED = "its numbers are added to activations, not mapped"
_BUFFER = "a buffer, not a parameter: not counted"


def skipped(checkpoint: Checkpoint, recording: Recording, weights: Iterable[Weight]) -> Iterator[Skipped]:
    """Every tensor that no weight uses, with the reason."""
    used, gains = set(), set()
    for weight in weights:
        used.add(weight.tensor)
        gains |= {gain.tensor for gain in weight.folding.gains}
    for name, header in checkpoint.headers.items():
        if name not in used:
            is_number = header.dtype.startswith(("F", "B"))
            reason = _reason(name, recording, folded=name in gains) if is_number else _BUFFER
            yield Skipped(name, header.shape, reason, is_parameter=reason not in (_BUFFER, _STATISTICS))
    for name, first in checkpoint.aliases.items():
        reason = f"the same tensor as {first!r}, which is counted once"
        yield Skipped(name, checkpoint.headers[first].shape, reason)


def _reason(name: str, recording: Recording, *, folded: bool) -> str:
    uses = recording.uses.get(name, set())
    module, _, last = name.rpartition(".")
    normed = module in recording.own_norms or any("norm" in use for use in uses)
    if name in recording.filters:
        return f"convolution in {recording.filters[name]} groups of channels: no single matrix maps all of them"
    if last in ("running_mean", "running_var"):
        return _STATISTICS
    if folded:
        return _FOLDED if normed else _SCALE
    if last.endswith("bias"):
        return _BIAS
    if normed:
        return _GAIN
    if not uses:
        return "not used in the run on the example"
    if uses & {"add", "iadd", "radd", "cat"}:
        return _ADDED
    return f"not applied as a linear, convolution or embedding layer, but by {', '.join(sorted(uses))}"


def remarks(weights: Iterable[Weight]) -> Iterator[str]:
    """How the structure was found, and which ends of weights meet no other."""
    yield _ORIGIN
    alone: dict[tuple[str, Side], list[Weight]] = {}
    for weight in weights:
        for side in Side:
            if weight.space(side).kind is SpaceKind.MIXED:
                alone.setdefault((weight.role, side), []).append(weight)
    for (role, side), members in alone.items():
        does = "writes reaches" if side is Side.WRITE else "reads comes from"
        layers = f", in {len(members)} layers" if len(members) > 1 else ""
        fused = _fused(members, side)
        yield f"what {role} {does} no other weight channel by channel{layers}: it lies in a space of its own{fused}"


def _fused(members: list[Weight], side: Side) -> str:
    """A word on projections that may be several in one."""
    thrice = side is Side.WRITE and all(weight.target.dim == 3 * weight.source.dim for weight in members)
    return "; queries, keys and values in one matrix are not told apart" if thrice else ""
