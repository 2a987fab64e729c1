"""Whether two sources are versions of one network, and which of their weights can be compared."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..checkpoint import AdaptedCheckpoint, Progress, is_adapter, open_checkpoint
from ..network import Network, Weight, read_network
from ..network.roles import TABLES, bare
from ..results.analysis import Analysis
from ..settings import Settings

#: Whatever can stand for one version of a network.
Source = str | Path | Mapping[str, Tensor] | nn.Module | Network | Analysis


class MismatchError(ValueError):
    """Two sources that are not versions of one network, or were analysed with different settings."""


@dataclass(frozen=True)
class Version:
    """One of the two: a network whose matrices can be read, or a saved analysis that has only frames.

    Attributes
    ----------
    name : str
        What errors call it: the path that was given, or else its location.
    location : str
        Of the checkpoint.
    family : str
    network : Network or None
    analysis : Analysis or None
        One of the two is there.
    """

    name: str
    location: str
    family: str
    network: Network | None
    analysis: Analysis | None


def open_versions(first: Source, second: Source, progress: Progress | None = None) -> tuple[Version, Version]:
    """Open both; the second may be an adapter of the first. Progress is told of what takes long.

    Raises
    ------
    CheckpointError
        If one cannot be read.
    MismatchError
        If an adapter has no base to be added to.
    """
    base = open_version(first, progress)
    if not isinstance(second, str | Path) or not is_adapter(Path(second)):
        return base, open_version(second, progress)
    if base.network is None:
        raise MismatchError(
            f"{second}: an adapter changes the matrices of a checkpoint: expected a checkpoint to compare it "
            f"with, found the saved analysis {base.name}"
        )
    return base, _of_network(read_network(AdaptedCheckpoint(base.network.checkpoint, Path(second)), progress=progress))


def open_version(source: Source, progress: Progress | None = None) -> Version:
    """Open one that stands for itself, which an adapter does not.

    Raises
    ------
    CheckpointError
        If it cannot be read.
    MismatchError
        If it is an adapter.
    """
    if isinstance(source, Network):
        return _of_network(source)
    if isinstance(source, Analysis):
        return _of_analysis(source)
    if isinstance(source, str | Path):
        if is_adapter(Path(source)):
            raise MismatchError(f"{source}: expected the base first and the adapter second, found the adapter first")
        if Analysis.is_in(source):
            return replace(_of_analysis(Analysis.load(source)), name=str(source))
    return _of_network(read_network(open_checkpoint(source), progress=progress))


def _of_network(network: Network) -> Version:
    location = network.checkpoint.location
    return Version(location, location, network.family, network, None)


def _of_analysis(analysis: Analysis) -> Version:
    provenance = analysis.provenance
    location, family = provenance["checkpoint"], provenance["family"]
    return Version(location, location, family, None, analysis)


def shared_settings(versions: Iterable[Version], given: Mapping[str, Any]) -> Settings:
    """Settings under which all are analysed: the options that were given; the others as saved, or by default.

    Parameters
    ----------
    versions : iterable of Version
    given : mapping
        From `given_options`.

    Raises
    ------
    MismatchError
        If a saved analysis has another setting than was given, or than another saved analysis has.
    """
    saved = [(version.name, version.analysis.settings) for version in versions if version.analysis is not None]
    settings = replace(saved[0][1] if saved else Settings(), **given)
    for name, found in saved:
        for option, value in vars(settings).items():
            if getattr(found, option) != value:
                raise MismatchError(
                    f"{name}: expected an analysis with {option} {_said(value)}, found {_said(getattr(found, option))}"
                )
    return settings


def _said(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return "all" if value is None else str(value)


def shared_weights(first: Version, second: Version, settings: Settings) -> tuple[list[str], dict[str, str]]:
    """Names of the weights to compare, and of those that only differ in the vocabulary, with the reason.

    Parameters
    ----------
    first, second : Version
    settings : Settings
        From `shared_settings`.

    Raises
    ------
    MismatchError
        At the first weight that one of them lacks or has in another shape.
    """
    shared, skipped = [], {}
    shapes = [_chosen_shapes(version, settings) for version in (first, second)]
    for name in dict.fromkeys((*shapes[0], *shapes[1])):
        expected, found = (_spelt(known.get(name)) for known in shapes)
        if expected == found:
            shared.append(name)
        elif bare(name) in TABLES:
            skipped[name] = f"{first.location} has {expected}, {second.location} {found}: another vocabulary"
        else:
            raise MismatchError(
                f"{second.name}: weight {name!r}: expected {expected} as in {first.name}, found {found}"
            )
    return shared, skipped


def _chosen_shapes(version: Version, settings: Settings) -> dict[str, tuple[int, int]]:
    """(target dimension, source dimension) of every weight that the settings choose, by name."""
    if version.network is None:
        assert version.analysis is not None
        weights = version.analysis.weights
        # A stack moves as its experts do, which keep their numbers from one version to another.
        rows = weights[weights["stacked"].isna()].to_dict("records")
        return {row["name"]: (int(row["target_dim"]), int(row["source_dim"])) for row in rows}
    return {
        weight.name: (weight.target.dim, weight.source.dim)
        for weight in version.network.weights
        if settings.includes(weight)
    }


def _spelt(shape: tuple[int, int] | None) -> str:
    return "no such weight" if shape is None else f"the shape {shape[0]}x{shape[1]}"


def weights_by_name(network: Network) -> dict[str, Weight]:
    """Weights of a network under their names."""
    return {weight.name: weight for weight in network.weights}
