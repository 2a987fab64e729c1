from flaggeo import load
from flaggeo.alignment.pairs.subspace import subspaces_of
from flaggeo.network import Side
from flaggeo.numerics.spectrum import leading_spectrum
from tests.builders import CONFIG, tiny_llama


def test_both_sides_of_every_weight_that_is_not_zero():
    tensors = tiny_llama()
    tensors["model.layers.1.mlp.up_proj.weight"].zero_()
    network = load(tensors, config=CONFIG)
    spectra = {w.name: leading_spectrum(w.split(network.checkpoint.read(w.tensor)), 3) for w in network.weights}
    subspaces = {subspace.name: subspace for subspace in subspaces_of(network.weights, spectra)}
    expected = {f"{w.name}.{side.value}" for w in network.weights for side in Side if w.name != "layers.1.up"}
    assert set(subspaces) == expected
    write = subspaces["layers.0.up.write"]
    assert write.space.name == "layers.0.hidden"
    assert write.frame.shape == (write.space.dim, 3)
