"""Changes of basis against transformers' own modules: what is allowed keeps the outputs, what is not moves them."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from flaggeo import CheckpointError, Side, Symmetry, leading_spectrum, load
from flaggeo.gauge import SPACES, change_basis
from manifolds import projection_overlap
from tests.builders import CONFIG, tiny_llama
from tests.flaggeo.network.test_families import DECODERS, SMALL

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore")  # transformers warns of its own deprecations

UNTIED = {"tie_word_embeddings": False}
MODELS = {
    "llama": UNTIED,
    "qwen2": UNTIED,
    "qwen3": UNTIED,
    "olmo2": UNTIED,
    "gemma": UNTIED,
    "gemma2": {},
    "gemma3_text": {},
    "smollm3": UNTIED,
    "granite": UNTIED,
    "bert": {},
    "roberta": {},
}


def build(model_type, **settings):
    """A tiny model whose gains and biases are all different, as training leaves them."""
    torch.manual_seed(0)  # transformers draws its weights from the global generator
    config = SMALL | DECODERS.get(model_type, {}) | settings
    config = transformers.AutoConfig.for_model(model_type, **config)
    decoder = model_type in DECODERS
    auto = transformers.AutoModelForCausalLM if decoder else transformers.AutoModelForMaskedLM
    model = auto.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1 or name.endswith("bias"):
                parameter.add_(torch.randn_like(parameter) / 3)
            else:
                parameter.mul_(6)  # larger than the usual start, so that every nonlinearity is felt
    return model


def outputs(model, tensors=None):
    if tensors is not None:
        model = type(model)(model.config).eval()
        model.load_state_dict(tensors)
    with torch.no_grad():
        return model(torch.arange(1, 22).view(3, 7)).logits


def distance(model, tensors):
    """Largest change of a logit, in units of their spread."""
    before = outputs(model)
    return float((outputs(model, tensors) - before).abs().max() / before.std())


@pytest.mark.parametrize("spaces", [*((space,) for space in SPACES), SPACES], ids="+".join)
@pytest.mark.parametrize(("model_type", "settings"), MODELS.items(), ids=MODELS)
def test_outputs_stay_and_tensors_move(model_type, settings, spaces):
    model = build(model_type, **settings)
    tensors = change_basis(load(model), spaces=spaces, seed=3)
    stored = model.state_dict()
    assert tensors.keys() == stored.keys()
    assert all(tensors[name].dtype == tensor.dtype for name, tensor in stored.items())
    moved = [name for name in stored if not torch.allclose(tensors[name], stored[name], rtol=1e-2, atol=1e-2)]
    assert len(moved) >= 2 * SMALL["num_hidden_layers"]
    assert distance(model, tensors) < 1e-4
