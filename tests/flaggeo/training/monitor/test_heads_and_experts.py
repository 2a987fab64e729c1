"""Heads and experts as weights of their own, against NumPy on their blocks of the stored tensors."""

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.linalg
import torch

from flaggeo import Monitor
from flaggeo.training.monitor.records import read_record
from flaggeo.training.monitor.traced import monitored_trace
from tests import mixtures
from tests.builders import CONFIG, HEAD_WIDTH, KEY_VALUE_HEADS, LAYERS, QUERY_HEADS, tiny_llama
from tests.flaggeo.training.monitor.builders import module_of, weight

RANK = 3
PAIR = ("layers.0.o.heads.1.write", "layers.1.q.heads.2.read")


def with_config(tensors, config):
    module = module_of({name: tensor.double() for name, tensor in tensors.items()})
    module.config = SimpleNamespace(to_dict=lambda: config)
    return module


def block(module, layer, role, head):
    """Rows of a head, or for o its columns."""
    matrix = weight(module, layer, role).detach().numpy()
    places = slice(head * HEAD_WIDTH, (head + 1) * HEAD_WIDTH)
    return matrix[:, places] if role == "o" else matrix[places]


def moved(module):
    generator = torch.Generator().manual_seed(3)
    for parameter in module.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
        parameter.data.add_(parameter.grad, alpha=0.1)


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    """A step of a run, with what its heads were before and are now, and the gradient between."""
    folder = tmp_path_factory.mktemp("run")
    logged = []
    module = with_config(tiny_llama(), CONFIG)
    options = {"every": 1, "rank": RANK, "heads": True, "gradients": True, "pairs": [PAIR]}
    with Monitor(module, folder, **options, log=lambda numbers, _: logged.append(numbers)) as monitor:
        before = {role: block(module, 1, role, 1).copy() for role in "qkvo"}
        moved(module)
        monitor.step()
    return folder, module, before, logged[-1]


@pytest.mark.parametrize("role", "qkvo")
def test_every_head_has_its_spectrum_drift_update_and_gradient(heads, role):
    folder, module, before, _ = heads
    record = read_record(folder, 1)
    name, now = f"layers.1.{role}.heads.1", block(module, 1, role, 1)
    weights = record["weights"].set_index("name")
    assert weights.loc[name, "sigma_max"] == pytest.approx(np.linalg.norm(now, 2))
    assert weights.loc[name, "head"] == 1
    assert weights.loc[f"update.{name}", "frobenius_norm"] == pytest.approx(np.linalg.norm(now - before[role]))
    steep = 10 * (now - before[role])
    assert weights.loc[f"gradient.{name}", "sigma_max"] == pytest.approx(np.linalg.norm(steep, 2))
    drift = record["drift"].query(f"name == '{name}' and since == 'first'").set_index("side")
    for side, place in (("write", 0), ("read", 2)):
        frames = [np.linalg.svd(one)[place] for one in (before[role], now)]
        frames = [one.T if place else one for one in frames]
        angles = scipy.linalg.subspace_angles(*(one[:, :RANK] for one in frames))
        assert drift.loc[side, "rms_angle"] == pytest.approx(np.rad2deg(np.sqrt(np.mean(angles**2))), abs=1e-5)
    counted = record["weights"].query(f"role == '{role}' and layer == 1 and not head.isna()")
    assert len(counted) == (QUERY_HEADS if role in "qo" else KEY_VALUE_HEADS)


def test_heads_meet_in_chosen_pairs_and_inside(heads):
    folder, module, _, logged = heads
    record = read_record(folder, 1)
    written = np.linalg.svd(block(module, 0, "o", 1))[0][:, :RANK]
    read = np.linalg.svd(block(module, 1, "q", 2))[2][:RANK].T
    expected = np.square(written.T @ read).sum() / RANK
    assert record["pairs"]["overlap"].item() == pytest.approx(expected)
    assert logged[f"overlap/{PAIR[0]}-{PAIR[1]}"] == pytest.approx(expected)

    inside = record["interfaces"].set_index("name")
    queries, keys = block(module, 2, "q", 3), block(module, 2, "k", 1)
    row = inside.loc["layers.2.heads.3.q-k"]
    frames = [np.linalg.svd(one)[0][:, :RANK] for one in (queries, keys)]
    assert row["overlap"] == pytest.approx(np.square(frames[0].T @ frames[1]).sum() / RANK)
    squares = [np.square(one).sum(axis=1) for one in (queries, keys)]
    size = sum(map(np.linalg.norm, squares))
    assert row["unit_imbalance"] == pytest.approx(np.linalg.norm(squares[0] - squares[1]) / size)
    values, outputs = block(module, 2, "v", 1), block(module, 2, "o", 3)
    squares = np.square(values).sum(axis=1), np.square(outputs).sum(axis=0)
    row = inside.loc["layers.2.heads.3.v-o"]
    size = sum(map(np.linalg.norm, squares))
    assert row["unit_imbalance"] == pytest.approx(np.linalg.norm(squares[0] - squares[1]) / size)
    assert inside["kind"].value_counts()["q-k"] == LAYERS * QUERY_HEADS
    assert {"imbalance/q-k", "imbalance/v-o"} <= logged.keys()


def test_what_is_said_of_whole_projections_stays(heads, tmp_path):
    """Heads are numbered in each layer on its own: no continuity, and no part in the means."""
    folder, _, _, logged = heads
    module = with_config(tiny_llama(), CONFIG)
    alone = []
    with Monitor(
        module, tmp_path, every=1, rank=RANK, gradients=True, log=lambda numbers, _: alone.append(numbers)
    ) as monitor:
        moved(module)
        monitor.step()
    assert {name: logged[name] for name in alone[-1]} == pytest.approx(alone[-1])
    found, expected = monitored_trace(folder), monitored_trace(tmp_path)
    assert found.continuity.equals(expected.continuity)
    assert len(found.drift) > len(expected.drift)
    assert set(found.updates["head"].dropna()) == set(range(QUERY_HEADS))
    assert found.findings


def test_every_expert_of_a_mixture_is_a_weight(tmp_path):
    module = with_config(mixtures.tiny_mixtral(), mixtures.CONFIG)
    with Monitor(module, tmp_path, rank=RANK, experts=True, roles=("expert_up", "expert_down")):
        pass
    record = read_record(tmp_path, 0)
    up, down = (module.get_parameter(mixtures.expert_tensor(1, 2, name)).detach().numpy() for name in ("w3", "w2"))
    weights = record["weights"].set_index("name")
    assert weights.loc["layers.1.expert_up.experts.2", "sigma_max"] == pytest.approx(np.linalg.norm(up, 2))
    assert len(weights) == 2 * mixtures.LAYERS * mixtures.EXPERTS
    squares = np.square(up).sum(axis=1), np.square(down).sum(axis=0)
    row = record["interfaces"].set_index("name").loc["layers.1.experts.2.expert_up-expert_down"]
    size = sum(map(np.linalg.norm, squares))
    assert row["unit_imbalance"] == pytest.approx(np.linalg.norm(squares[0] - squares[1]) / size)
    assert record["continuity"].empty
    with pytest.raises(ValueError, match="besides those of experts, or experts=True"):
        Monitor(module, tmp_path / "none", rank=RANK, roles=("expert_up", "expert_down"))
