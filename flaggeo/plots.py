"""Figures for notebooks: each function draws on matplotlib axes and returns them."""

from typing import TYPE_CHECKING

import numpy as np
import torch

from manifolds import largest_cosine_edge, principal_angles

from .inventory import whole_weights
from .network.roles import role_order

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from mpl_toolkits.mplot3d import Axes3D

    from .results.analysis import Analysis


def continuity(analysis: "Analysis", *, measure: str = "abs_cos_1", ax: "Axes | None" = None) -> "Axes":
    """Continuity of every role in a shared space against depth, over the band of unrelated weights.

    Parameters
    ----------
    analysis : Analysis
    measure : {"abs_cos_1", "overlap"}, optional
        First singular vectors, or leading subspaces.
    ax : matplotlib.axes.Axes, optional
        New ones by default.

    Returns
    -------
    ax : matplotlib.axes.Axes
        The shaded band is the Haar mean and two standard deviations on either side.

    Raises
    ------
    ValueError
        If there is no such measure.
    """
    measures = ("abs_cos_1", "overlap")
    if measure not in measures:
        raise ValueError(f"expected a measure among {', '.join(measures)}; found {measure!r}")
    ax = ax or _new_axes()
    shared = analysis.continuity[analysis.continuity["shared_space"]]
    for (role, side), rows in sorted(shared.groupby(["role", "side"]), key=lambda item: role_order(str(item[0][0]))):
        ax.plot(rows["layer"], rows[measure], marker=".", label=f"{role} {side}s")
    mean, spread = (shared[f"{measure}_null_{moment}"].to_numpy(float) for moment in ("mean", "sd"))
    if len(shared):
        low, high = np.nanmin(mean - 2 * spread), np.nanmax(mean + 2 * spread)
        ax.axhspan(max(0.0, low), high, color="0.85", label="unrelated weights")
        ax.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    ax.set(
        xlabel="layer", ylabel="|cos| of first singular vectors" if measure == "abs_cos_1" else "overlap", ylim=(0, 1)
    )
    return ax


def overlap_matrix(analysis: "Analysis", role: str, side: str = "read", *, ax: "Axes | None" = None) -> "Axes":
    """Effect size of the overlap of one role's subspaces in every two layers.

    Parameters
    ----------
    analysis : Analysis
    role : str
    side : {"read", "write"}, optional
        One that lies in a space that the layers share.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    ax : matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If no two layers of the role have this side in one space.
    """
    table = whole_weights(analysis.weights).query("role == @role")
    layers = {f"{name}.{side}": layer for name, layer in zip(table["name"], table["layer"], strict=True)}
    pairs = analysis.pairs[analysis.pairs["source"].isin(layers) & analysis.pairs["target"].isin(layers)]
    if pairs.empty:
        raise ValueError(f"expected a role and side that layers share; found none for {role!r}, {side!r}")
    from matplotlib.ticker import MaxNLocator

    ax = ax or _new_axes()
    order = {layer: position for position, layer in enumerate(sorted(layers.values()))}
    values = np.full((len(order), len(order)), np.nan)
    np.fill_diagonal(values, 1)
    first, second = (pairs[end].map(layers).map(order).to_numpy() for end in ("source", "target"))
    values[first, second] = values[second, first] = pairs["overlap_effect_size"].to_numpy(float)
    image = ax.imshow(values, vmin=0, vmax=1, cmap="magma_r", origin="lower")
    ax.figure.colorbar(image, ax=ax, label="effect size of the overlap")
    ax.set(xlabel="layer", ylabel="layer", title=f"{role} {side}s")
    names = dict(enumerate(order))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
        axis.set_major_formatter(lambda position, _: str(names.get(round(position), "")))
    return ax


def path(analysis: "Analysis", role: str, side: str = "read", *, ax: "Axes3D | None" = None) -> "Axes3D":
    """Path of the first singular vector over depth in its three main components.

    Parameters
    ----------
    analysis : Analysis
    role : str
    side : {"read", "write"}, optional
    ax : mpl_toolkits.mplot3d.Axes3D, optional

    Returns
    -------
    ax : mpl_toolkits.mplot3d.Axes3D
        The title gives the share of variance that the three components explain, and its null.

    Raises
    ------
    ValueError
        If the role has no path on this side.
    """
    rows = analysis.trajectories[
        (analysis.trajectories["role"] == role) & (analysis.trajectories["side"] == side)
    ].sort_values("layer")
    if rows.empty:
        raise ValueError(f"expected a role and side with a path over layers; found none for {role!r}, {side!r}")
    variance = analysis.trajectory_variance
    explained = variance[(variance["role"] == role) & (variance["side"] == side)].iloc[0]
    if ax is None:
        import matplotlib.pyplot as plt

        ax = plt.figure(layout="constrained").add_subplot(projection="3d")
    ax.plot(rows["pc1"], rows["pc2"], rows["pc3"], color="0.7")
    points = ax.scatter(rows["pc1"], rows["pc2"], rows["pc3"], c=rows["layer"], cmap="viridis")
    ax.figure.colorbar(points, ax=ax, label="layer", shrink=0.7, pad=0.15)
    ax.set(xlabel="PC 1", ylabel="PC 2", zlabel="PC 3")
    # Three components of 4 layers hold everything, which says nothing.
    told = "" if np.isnan(explained["evr"]) else f": 3 components explain {explained['evr']:.0%}"
    told += f" (unrelated: {explained['evr_null_mean']:.0%})" if told else ""
    ax.set_title(f"{role} {side}s{told}")
    return ax


def spectra(analysis: "Analysis", role: str, *, ax: "Axes | None" = None) -> "Axes":
    """Singular values of one role in every layer, each relative to its largest; zero weights are left out.

    Parameters
    ----------
    analysis : Analysis
    role : str
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    ax : matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If no weight has this role.
    """
    table = whole_weights(analysis.weights).query("role == @role")
    if table.empty:
        raise ValueError(f"expected a role of the analysis; found {role!r}")
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    ax = ax or _new_axes()
    depths = table["layer"].fillna(0).to_numpy(float)
    shades = ScalarMappable(Normalize(depths.min(), depths.max()), cmap="viridis")
    for name, color in zip(table["name"], shades.to_rgba(depths), strict=True):
        values = analysis.bases[f"{name}.singular_values"].cpu().numpy()
        if values[0] > 0:
            ax.semilogy(np.arange(1, len(values) + 1), values / values[0], color=color, label=name)
    if len(table) > 1:
        ax.figure.colorbar(shades, ax=ax, label="layer")
    ax.set(xlabel="index", ylabel="singular value / largest", title=role)
    return ax


def angles(analysis: "Analysis", source: str, target: str, *, ax: "Axes | None" = None) -> "Axes":
    """Principal angles of two subspaces, with the edge below which unrelated ones hardly have any.

    Parameters
    ----------
    analysis : Analysis
    source, target : str
        Subspaces of one space, named as in `Analysis.pairs`: ``layers.3.o.write``.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    ax : matplotlib.axes.Axes
        In degrees, ascending.

    Raises
    ------
    ValueError
        If the analysis has no such subspace, or the two lie in spaces of different dimension.
    """
    for name in (source, target):
        if name not in analysis.bases or analysis.bases[name].ndim != 2:
            raise ValueError(f"expected a subspace of the analysis; found {name!r}")
    first, second = analysis.bases[source], analysis.bases[target]
    if first.shape[0] != second.shape[0]:
        raise ValueError(
            f"expected two subspaces of one space; found dimensions {first.shape[0]} and {second.shape[0]}"
        )
    ax = ax or _new_axes()
    degrees = torch.rad2deg(principal_angles(first, second)).cpu().numpy()
    ax.plot(np.arange(1, len(degrees) + 1), degrees, marker="o")
    edge = largest_cosine_edge(first.shape[0], first.shape[1], second.shape[1])
    ax.axhline(np.degrees(np.arccos(edge)), color="0.6", linestyle="--", label="smallest angle of unrelated subspaces")
    ax.set(xlabel="index", ylabel="principal angle (degrees)", ylim=(0, 90), title=f"{source}, {target}")
    ax.legend(fontsize="small")
    return ax


def _new_axes() -> "Axes":
    import matplotlib.pyplot as plt

    return plt.figure(layout="constrained").add_subplot()
