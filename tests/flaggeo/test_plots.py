import matplotlib as mpl
import numpy as np
import pytest

mpl.use("Agg")

import matplotlib.pyplot as plt

from flaggeo import analyze, load, plots
from tests.builders import CONFIG, related_llama


@pytest.fixture(scope="module")
def analysis():
    tensors = related_llama(layers=6)
    tensors["model.layers.2.mlp.up_proj.weight"] *= 0
    return analyze(load(tensors, config=CONFIG | {"num_hidden_layers": 6}), rank=3, layers=[0, 1, 2, 3, 5])


@pytest.fixture(autouse=True)
def drawn_and_closed():
    yield
    for number in plt.get_fignums():
        plt.figure(number).canvas.draw()
    plt.close("all")


@pytest.mark.parametrize("measure", ["abs_cos_1", "overlap"])
def test_continuity_draws_one_line_a_role_that_shares_a_space(analysis, measure):
    ax = plots.continuity(analysis, measure=measure)
    lines = {line.get_label(): line.get_ydata() for line in ax.get_lines()}
    shared = analysis.continuity[analysis.continuity["shared_space"]]
    assert set(lines) == {f"{role} {side}s" for role, side in zip(shared["role"], shared["side"], strict=True)}
    expected = shared[shared["role"] == "q"][measure]
    np.testing.assert_array_equal(lines["q reads"], expected)
    band = ax.patches[0]
    top = (shared[f"{measure}_null_mean"] + 2 * shared[f"{measure}_null_sd"]).max()
    assert band.get_y() + band.get_height() == pytest.approx(top)


def test_an_overlap_matrix_is_symmetric_and_holds_the_pairs(analysis):
    ax = plots.overlap_matrix(analysis, "q")
    values = np.ma.filled(ax.images[0].get_array(), np.nan)
    np.testing.assert_array_equal(values, values.T)
    np.testing.assert_array_equal(values.diagonal(), 1)
    pairs = analysis.pairs.set_index(["source", "target"])["overlap_effect_size"]
    assert values[1, 4] == pairs["layers.1.q.read", "layers.5.q.read"]
    label = ax.xaxis.get_major_formatter()
    assert [label(position, None) for position in (0, 4, 9)] == ["0", "5", ""]


def test_a_path_goes_through_the_positions_of_the_table(analysis):
    ax = plots.path(analysis, "q")
    rows = analysis.trajectories.query("role == 'q' and side == 'read'")
    np.testing.assert_allclose(ax.lines[0].get_data_3d(), rows[["pc1", "pc2", "pc3"]].T)
    variance = analysis.trajectory_variance.query("role == 'q' and side == 'read'").iloc[0]
    assert ax.get_title() == (
        f"q reads: 3 components explain {variance['evr']:.0%} (unrelated: {variance['evr_null_mean']:.0%})"
    )


def test_a_path_of_four_layers_claims_nothing():
    network = load(related_llama(layers=4), config=CONFIG | {"num_hidden_layers": 4})
    assert plots.path(analyze(network, rank=2, roles=["q"]), "q").get_title() == "q reads"


def test_spectra_start_at_1_and_leave_out_zero_weights(analysis):
    lines = plots.spectra(analysis, "up").get_lines()
    assert [line.get_label() for line in lines] == [f"layers.{layer}.up" for layer in (0, 1, 3, 5)]
    for line in lines:
        values = analysis.bases[f"{line.get_label()}.singular_values"].numpy()
        np.testing.assert_allclose(line.get_ydata(), values / values[0])
    assert len(plots.spectra(analysis, "embed").get_lines()) == 1


def test_angles_ascend_and_their_cosines_give_the_overlap(analysis):
    ax = plots.angles(analysis, "layers.0.q.read", "layers.1.q.read")
    degrees = ax.get_lines()[0].get_ydata()
    assert (np.diff(degrees) >= 0).all()
    pair = analysis.pairs.query("source == 'layers.0.q.read' and target == 'layers.1.q.read'").iloc[0]
    assert np.mean(np.cos(np.radians(degrees)) ** 2) == pytest.approx(pair["overlap"])


def test_given_axes_are_drawn_on(analysis):
    _, axes = plt.subplots(2, 2)
    assert plots.continuity(analysis, ax=axes[0, 0]) is axes[0, 0]
    assert plots.overlap_matrix(analysis, "o", "write", ax=axes[0, 1]) is axes[0, 1]
    assert plots.spectra(analysis, "q", ax=axes[1, 0]) is axes[1, 0]
    assert plots.angles(analysis, "layers.0.q.read", "layers.0.k.read", ax=axes[1, 1]) is axes[1, 1]
    assert plt.get_fignums() == [axes[0, 0].figure.number]


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (lambda a: plots.continuity(a, measure="z"), "expected a measure among abs_cos_1, overlap; found 'z'"),
        (lambda a: plots.overlap_matrix(a, "q", "write"), "layers share; found none for 'q', 'write'"),
        (lambda a: plots.path(a, "embed"), "with a path over layers; found none for 'embed', 'read'"),
        (lambda a: plots.spectra(a, "nose"), "expected a role of the analysis; found 'nose'"),
        (lambda a: plots.angles(a, "layers.0.q.read", "q"), "expected a subspace of the analysis; found 'q'"),
        (lambda a: plots.angles(a, "layers.0.q.singular_values", "layers.0.q.read"), "expected a subspace"),
        (lambda a: plots.angles(a, "layers.0.q.read", "layers.0.q.write"), "found dimensions 24 and 40"),
    ],
)
def test_what_is_not_there_is_named(analysis, draw, words):
    with pytest.raises(ValueError, match=words):
        draw(analysis)
    assert not plt.get_fignums()
