"""Two towers of unlike depth, either way round: the names of one are never taken for those of the other."""

import pytest

from flaggeo import load
from flaggeo.network.families.derivation.tiny import tiny_config, tiny_model

transformers = pytest.importorskip("transformers")

# What the names of a tower's tensors begin with, and the setting of its depth.
TOWERS = {
    "bart": {"encoder": ("model.encoder.", "encoder_layers"), "decoder": ("model.decoder.", "decoder_layers")},
    "t5": {"encoder": ("encoder.", "num_layers"), "decoder": ("decoder.", "num_decoder_layers")},
    "clip": {
        "text": ("text_model.", "text_config.num_hidden_layers"),
        "vision": ("vision_model.", "vision_config.num_hidden_layers"),
    },
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("depths", [(5, 3), (3, 5)])
@pytest.mark.parametrize("model_type", TOWERS)
def test_every_layer_is_in_its_tower(model_type, depths, tmp_path):
    config = tiny_config(model_type)
    expected = set()
    for (tower, (beginning, setting)), depth in zip(TOWERS[model_type].items(), depths, strict=True):
        *sections, last = setting.split(".")
        setattr(getattr(config, sections[0]) if sections else config, last, depth)
        expected |= {(tower, layer, beginning) for layer in range(depth)}
    tiny_model(config).save_pretrained(tmp_path)
    found = {
        (weight.tower, weight.layer, beginning)
        for weight in load(tmp_path).weights
        for beginning, _ in TOWERS[model_type].values()
        if weight.layer is not None and weight.tensor.startswith(beginning)
    }
    assert found == expected
