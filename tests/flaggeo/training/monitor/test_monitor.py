import gc
import json
import signal
import subprocess
import sys
import time
import weakref

import numpy as np
import psutil
import pytest
import scipy.linalg
import torch

from flaggeo import Monitor
from flaggeo.training.monitor import records as disk
from flaggeo.training.monitor.records import read_provenance, read_record, steps_in
from tests.builders import HIDDEN, LAYERS, WIDTH
from tests.flaggeo.tracing.planted_run import SHARES, STEPS, checkpoint
from tests.flaggeo.training.monitor.builders import Residual, assign, llama, module_of, trained, weight

RANK = 4


def table(folder, step, of, **where):
    found = read_record(folder, step)[of]
    for column, value in where.items():
        found = found[found[column] == value]
    return found


def run_of(monitor, moves):
    """Make some steps, each of which moves the weights."""
    for move in moves:
        move()
        monitor.step()


# What is measured


def test_planted_continuity_and_drift_are_recorded(tmp_path):
    """Reading directions of up turn from right angles towards a common one."""
    module = module_of(checkpoint(SHARES[0]))
    with Monitor(module, tmp_path, every=1, rank=3) as monitor:
        run_of(monitor, [lambda share=share: assign(module, checkpoint(share)) for share in SHARES[1:]])
    for place, share in enumerate(SHARES):
        rows = table(tmp_path, place, "continuity", role="up", side="read")
        assert rows["abs_cos_1"].tolist() == pytest.approx([np.sin(share * np.pi / 2) ** 2] * (LAYERS - 1), abs=1e-5)
        drift = table(tmp_path, place, "drift", role="up", side="read")
        first = drift[drift["since"] == "first"]
        assert first["angle_1"].tolist() == pytest.approx([90 * share] * LAYERS, abs=1e-4)
        assert first["rms_angle"].tolist() == pytest.approx([90 * share / 3**0.5] * LAYERS, abs=1e-4)
        previous = drift[drift["since"] == "previous"]
        moved = [] if place == 0 else [90 * (share - SHARES[place - 1])] * LAYERS
        assert previous["angle_1"].tolist() == pytest.approx(moved, abs=1e-4)
        assert set(previous["since_step"]) <= {place - 1}
    assert table(tmp_path, 1, "drift", role="q", since="first")["rms_angle"].max() < 1e-5
    assert len(STEPS) == len(steps_in(tmp_path))


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_planted_balance_is_recorded(tmp_path, scale):
    """Where down is a multiple c of the transpose of up, A - c² A over A + c² A is left, and the axes are shared."""
    module = llama()
    for layer in range(LAYERS):
        assign(module, {f"model.layers.{layer}.mlp.down_proj.weight": scale * weight(module, layer, "up").mT})
    with Monitor(module, tmp_path, rank=RANK):
        pass
    rows = table(tmp_path, 0, "interfaces", kind="up-down")
    expected = (1 - scale**2) / (1 + scale**2)
    assert len(rows) == LAYERS
    assert rows["window_imbalance"].tolist() == pytest.approx([expected] * LAYERS, abs=1e-9)
    assert rows["unit_imbalance"].tolist() == pytest.approx([expected] * LAYERS, abs=1e-9)
    assert rows["overlap"].tolist() == pytest.approx([1] * LAYERS)
    assert rows["window_rho"].max() < 1e-6
    gates = table(tmp_path, 0, "interfaces", kind="gate-down")
    assert gates["window_imbalance"].min() > 0.05
    assert gates["dim"].tolist() == [HIDDEN] * LAYERS


def test_numbers_agree_with_numpy_at_every_record(tmp_path):
    module, generator = llama(), torch.Generator().manual_seed(5)
    name = "model.layers.{}.mlp.up_proj.weight"
    history = []

    def move():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.grad = noise
            parameter.data.add_(noise, alpha=0.02)

    def remember():
        both = [(module.get_parameter(name.format(layer)), layer) for layer in range(2)]
        history.append(
            [(one.detach().numpy().copy(), None if one.grad is None else one.grad.numpy()) for one, _ in both]
        )

    pair = ("layers.0.up.read", "layers.1.gate.read")
    with Monitor(module, tmp_path, every=1, rank=RANK, gradients=True, pairs=[pair]) as monitor:
        remember()
        for _ in range(3):
            run_of(monitor, [move])
            remember()
    for step, ((first, gradient), (second, _)) in enumerate(history):
        _, values, v = np.linalg.svd(first)
        _, _, w = np.linalg.svd(second)
        rows = table(tmp_path, step, "continuity", role="up", side="read", layer=0)
        assert rows["abs_cos_1"].item() == pytest.approx(abs(v[0] @ w[0]), abs=1e-9)
        assert rows["overlap"].item() == pytest.approx(np.square(v[:RANK] @ w[:RANK].T).sum() / RANK, abs=1e-9)
        row = table(tmp_path, step, "weights", name="layers.0.up")
        assert row["stable_rank"].item() == pytest.approx((values**2).sum() / values[0] ** 2)
        _, _, start = np.linalg.svd(history[0][0][0])
        angles = scipy.linalg.subspace_angles(v[:RANK].T, start[:RANK].T)
        row = table(tmp_path, step, "drift", name="layers.0.up", side="read", since="first")
        assert row["rms_angle"].item() == pytest.approx(np.rad2deg(np.sqrt(np.mean(angles**2))), abs=1e-5)
        if step:
            change = np.linalg.svd(first - history[step - 1][0][0], compute_uv=False)
            row = table(tmp_path, step, "weights", name="update.layers.0.up")
            assert row["stable_rank"].item() == pytest.approx((change**2).sum() / change[0] ** 2)
            steep = np.linalg.svd(gradient, compute_uv=False)
            row = table(tmp_path, step, "weights", name="gradient.layers.0.up")
            assert row["sigma_max"].item() == pytest.approx(steep[0])
        overlap = table(tmp_path, step, "pairs")
        assert overlap[["source", "target", "dim"]].values.tolist() == [[*pair, WIDTH]]
        assert overlap["overlap_null_mean"].item() == pytest.approx(RANK / WIDTH)
    gate = np.linalg.svd(module.get_parameter("model.layers.1.mlp.gate_proj.weight").detach().numpy())[2]
    assert overlap["overlap"].item() == pytest.approx(np.square(v[:RANK] @ gate[:RANK].T).sum() / RANK, abs=1e-9)


def test_weights_that_are_not_finite_are_left_out_and_come_back(tmp_path):
    module = llama()
    weights = weight(module, 1, "up").detach().clone()
    with Monitor(module, tmp_path, every=1, rank=RANK) as monitor:
        run_of(monitor, [lambda: weight(module, 1, "up").data.fill_(float("nan"))])
        run_of(monitor, [lambda: weight(module, 1, "up").data.copy_(weights)])
    there = [len(table(tmp_path, step, "weights", name="layers.1.up")) for step in range(3)]
    assert there == [1, 0, 1]
    assert len(table(tmp_path, 1, "weights", role="up")) == LAYERS - 1


# What it leaves alone


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_run_has_the_same_numbers_with_and_without_a_monitor(tmp_path, accumulate):
    """Reading this module runs it, some hundred times."""
    torch.manual_seed(0)
    alone, watched = Residual(), Residual()
    watched.load_state_dict(alone.state_dict())
    losses = trained(alone, accumulate=accumulate)
    drawn = torch.random.get_rng_state()
    modes = [inner.training for inner in watched.modules()]

    torch.manual_seed(8)
    before = torch.random.get_rng_state()
    monitor = Monitor(watched, tmp_path, every=2, rank=RANK, gradients=True, example=torch.zeros(2, 24))
    assert torch.equal(torch.random.get_rng_state(), before)
    gradients = []

    def watch():
        kept = [parameter.grad.clone() for parameter in watched.parameters()]
        monitor.step()
        gradients.append(all(map(torch.equal, kept, (parameter.grad for parameter in watched.parameters()))))

    assert trained(watched, watch, accumulate=accumulate) == losses
    monitor.close()
    assert steps_in(tmp_path) == [0, 2, 4, 6, 8]
    assert all(gradients)
    assert torch.equal(torch.random.get_rng_state(), drawn)
    assert [inner.training for inner in watched.modules()] == modes
    for name, tensor in alone.state_dict().items():
        assert torch.equal(tensor, watched.state_dict()[name]), name
    assert not any(inner._forward_hooks or inner._forward_pre_hooks for inner in watched.modules())


def test_a_compiled_module_is_read_inside(tmp_path):
    module = Residual()
    compiled = torch.compile(module, backend="eager")
    with Monitor(compiled, tmp_path, every=2, rank=RANK, example=torch.zeros(2, 24)) as monitor:
        trained(compiled, monitor.step, steps=4)
    (last,) = np.linalg.svd(module.inner[0].weight.detach().numpy(), compute_uv=False)[:1]
    rows = read_record(tmp_path, 4)["weights"]
    assert last == pytest.approx(rows[rows["layer"] == 0]["sigma_max"].iloc[0], rel=1e-5)


def test_a_monitor_keeps_no_module_alive(tmp_path):
    module = llama()
    monitor = Monitor(module, tmp_path, rank=RANK)
    gone = weakref.ref(module), weakref.ref(monitor)
    del module, monitor
    gc.collect()
    assert [one() for one in gone] == [None, None]


def tensors_alive():
    gc.collect()
    found = [one for one in gc.get_objects() if issubclass(type(one), torch.Tensor)]
    return len(found), sum(one.numel() for one in found)


def test_what_it_keeps_does_not_grow(tmp_path):
    module, generator = llama(), torch.Generator().manual_seed(0)

    def move():
        for parameter in module.parameters():
            parameter.data.add_(torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype), alpha=0.01)

    monitor = Monitor(module, tmp_path, every=1, rank=RANK)
    run_of(monitor, [move] * 3)
    before = tensors_alive()
    run_of(monitor, [move] * 12)
    assert tensors_alive() == before
    assert len(monitor.recorded) == 16


@pytest.mark.slow
def test_memory_is_constant_over_ten_thousand_steps(tmp_path):
    module, generator = llama(), torch.Generator().manual_seed(0)

    def move():
        for parameter in module.parameters():
            parameter.data.add_(torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype), alpha=1e-3)

    sizes = []
    with Monitor(module, tmp_path, every=100, rank=RANK) as monitor:
        for _ in range(10):
            run_of(monitor, [move] * 1000)
            gc.collect()
            sizes.append(psutil.Process().memory_info().rss)
    assert len(steps_in(tmp_path)) == 101
    # The first thousand steps warm the caches of the libraries.
    assert sizes[-1] - sizes[1] < 8 << 20


# Records and their end


def test_where_the_budget_is_used_up_every_second_record_goes(tmp_path):
    module = llama()
    probe = Monitor(module, tmp_path / "probe", rank=RANK, updates=False)
    probe.step()
    probe.close()
    numbers = disk.numbers_in(read_record(tmp_path / "probe", 1))
    monitor = Monitor(module, tmp_path / "run", every=1, rank=RANK, updates=False, budget=int(5.5 * numbers))
    with pytest.warns(UserWarning, match="every second record was removed, the next are 2 steps apart"):
        run_of(monitor, [lambda: None] * 5)
    assert monitor.recorded == steps_in(tmp_path / "run") == [0, 2, 4]
    with pytest.warns(UserWarning, match="4 steps apart"):
        run_of(monitor, [lambda: None] * 6)
    assert monitor.recorded == [0, 4, 8]
    monitor.close()
    assert steps_in(tmp_path / "run") == [0, 4, 8, 11]
    assert sum(disk.numbers_in(read_record(tmp_path / "run", step)) for step in (0, 4, 8, 11)) <= 5.5 * numbers


def test_it_shows_its_folder_and_what_it_has_recorded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Monitor(Residual(width=6), "run", every=2, rank=2) as monitor:
        assert repr(monitor) == "Monitor(folder='run', last_step=0, records=1)"
        run_of(monitor, 3 * [lambda: None])
    assert repr(monitor) == "Monitor(folder='run', last_step=3, records=3)"


def test_a_continued_run_keeps_its_numbers_and_drift_has_its_reference(tmp_path):
    module = llama()
    with Monitor(module, tmp_path, every=2, rank=RANK, start=100, reference=103) as monitor:
        run_of(monitor, [lambda: weight(module, 0, "up").data.mul_(-1)] * 5)
    assert steps_in(tmp_path) == [100, 102, 104, 105]
    first = [set(table(tmp_path, step, "drift", since="first")["since_step"]) for step in steps_in(tmp_path)]
    assert first == [set(), set(), {104}, {104}]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "at least 1 step"),
        ({"rank": 0}, "rank: expected a whole number of at least 1; got 0"),
        ({"roles": ["nonsense"]}, "roles: expected some of .*; got nonsense"),
        ({"budget": 1000}, r"budget: expected at least \d+ numbers, of 4 records; got 1000"),
        ({"pairs": [("layers.0.q.read", "layers.9.q.read")]}, "pairs: expected sides .*; got 'layers.9.q.read'"),
        ({"pairs": [("layers.0.up.write", "layers.1.q.read")]}, "in one space; .* layers.0.hidden and stream"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_written(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        Monitor(llama(), tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_a_folder_in_use_is_refused(tmp_path):
    Monitor(llama(), tmp_path, rank=RANK).close()
    with pytest.raises(FileExistsError, match="expected a new or empty folder"):
        Monitor(llama(), tmp_path, rank=RANK)


def test_missing_gradients_are_told_and_a_full_disk_ends_no_run(tmp_path, monkeypatch):
    module = llama()
    monitor = Monitor(module, tmp_path, every=1, rank=RANK, gradients=True)
    with pytest.warns(UserWarning, match="step 1: no weight has a gradient"):
        monitor.step()

    def full(*_):
        raise OSError(28, "No space left on device")

    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    with monkeypatch.context() as patch:
        patch.setattr(disk, "write_parquet", full)
        with pytest.warns(UserWarning, match="step 2: not recorded: .*No space left"):
            monitor.step()
    monitor.step()
    assert monitor.recorded == steps_in(tmp_path) == [0, 1, 3]
    monitor.close()
    monitor.step()
    assert steps_in(tmp_path) == [0, 1, 3]


def test_flat_numbers_are_logged_with_their_step(tmp_path):
    logged = {}
    module = module_of(checkpoint(SHARES[0]))
    pair = ("layers.0.up.read", "layers.1.up.read")
    with Monitor(
        module, tmp_path, every=1, rank=3, pairs=[pair], log=lambda numbers, step: logged.update({step: numbers})
    ) as monitor:
        run_of(monitor, [lambda: assign(module, checkpoint(SHARES[2]))])
    assert list(logged) == [0, 1]
    sine = np.sin(SHARES[2] * np.pi / 2) ** 2
    assert logged[1]["continuity/up.read"] == pytest.approx(sine, abs=1e-5)
    assert logged[1]["drift_degrees/up.read"] == pytest.approx(90 * SHARES[2] / 3**0.5, abs=1e-4)
    assert {"stable_rank/update.up", "imbalance/up-down", "commutator/gate-down"} <= logged[1].keys()
    assert f"overlap/{pair[0]}-{pair[1]}" in logged[1]
    assert all(isinstance(value, float) and np.isfinite(value) for value in logged[1].values())
    assert not any(name.startswith("continuity/up.write") for name in logged[1])


WATCHED = """
import sys, time
from flaggeo import Monitor
from tests.flaggeo.training.monitor.builders import llama
module = llama()
monitor = Monitor(module, sys.argv[1], every=2, rank=4)
for _ in range(int(sys.argv[2])):
    for parameter in module.parameters():
        parameter.data.mul_(0.999)
    monitor.step()
"""


def test_the_end_of_the_interpreter_closes_it(tmp_path):
    subprocess.run([sys.executable, "-c", WATCHED, str(tmp_path / "run"), "3"], check=True)
    assert steps_in(tmp_path / "run") == [0, 2, 3]
    assert read_provenance(tmp_path / "run")["ended"]


def test_a_killed_run_leaves_readable_records_and_goes_on(tmp_path):
    run = subprocess.Popen([sys.executable, "-c", WATCHED, str(tmp_path / "run"), "100000"])
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "run" / "monitor.json").exists() or len(steps_in(tmp_path / "run")) < 4:
            assert time.monotonic() < deadline, "no records"
            assert run.poll() is None
            time.sleep(0.01)
    finally:
        run.send_signal(signal.SIGKILL)
        run.wait()
    steps = steps_in(tmp_path / "run")
    assert steps[:4] == [0, 2, 4, 6]
    assert all(len(read_record(tmp_path / "run", step)["weights"]) for step in steps)
    assert "ended" not in json.loads((tmp_path / "run" / "monitor.json").read_text())["provenance"]

    module, shrink = llama(), 0.999
    for parameter in module.parameters():
        parameter.data.mul_(shrink**4)
    with Monitor(module, tmp_path / "run", every=2, rank=4, start=4) as monitor:
        run_of(monitor, [lambda: [parameter.data.mul_(shrink) for parameter in module.parameters()]] * 3)
    assert steps_in(tmp_path / "run") == [0, 2, 4, 6, 7]
    norms = [table(tmp_path / "run", step, "weights", name="layers.0.up")["sigma_max"].item() for step in (0, 4, 6, 7)]
    assert norms == pytest.approx([norms[0] * shrink**step for step in (0, 4, 6, 7)], rel=1e-9)


# Several processes


def _in_process(rank, folder, port):
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    torch.manual_seed(0)
    module = torch.nn.parallel.DistributedDataParallel(Residual())
    monitor = Monitor(module, folder, every=2, rank=RANK, gradients=True, example=torch.zeros(2, 24))
    trained(module, monitor.step, steps=4, seed=rank)
    recorded = monitor.recorded
    monitor.close()
    torch.save((recorded, module.module.state_dict()), f"{folder}-{rank}.pt")
    dist.destroy_process_group()


def test_of_two_processes_the_first_records(tmp_path):
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_in_process, args=(str(tmp_path / "run"), port), nprocs=2)
    (recorded, first), (nothing, second) = (torch.load(tmp_path / f"run-{rank}.pt") for rank in range(2))
    assert (recorded, nothing) == ([0, 2, 4], [])
    assert all(torch.equal(first[name], second[name]) for name in first if "running" not in name and "num" not in name)
    rows = read_record(tmp_path / "run", 4)["weights"]
    (largest,) = np.linalg.svd(first["inner.0.weight"].numpy(), compute_uv=False)[:1]
    assert rows[rows["layer"] == 0]["sigma_max"].iloc[0] == pytest.approx(largest, rel=1e-5)
    assert rows["name"].str.startswith("gradient.").sum() == 3


def test_sparse_gradients_are_passed_over(tmp_path):
    module = torch.nn.Sequential(torch.nn.Embedding(30, 12, sparse=True), torch.nn.Linear(12, 12))
    tokens = torch.arange(5)[None]
    monitor = Monitor(module, tmp_path, every=1, rank=RANK, gradients=True, example=tokens)
    module(tokens).sum().backward()
    monitor.step()
    names = read_record(tmp_path, 1)["weights"]["name"]
    assert names.str.startswith("gradient.").sum() == 1
    monitor.close()


def test_large_weights_are_followed(tmp_path, monkeypatch):
    """Of 560 by 640: one cold start a weight, and the numbers of NumPy all the same."""
    from flaggeo.numerics import following

    cold, original = [], following.leading_spectrum
    monkeypatch.setattr(following, "leading_spectrum", lambda *given: cold.append(given) or original(*given))
    generator = torch.Generator().manual_seed(0)
    left, right = torch.linalg.qr(torch.randn(2, 640, 6, generator=generator)).Q
    matrix = left[:560] * torch.tensor([9.0, 7, 5, 4, 3, 2]) @ right.mT + 0.01 * torch.randn(
        560, 640, generator=generator
    )
    module = module_of({"model.layers.0.mlp.up_proj.weight": matrix, "model.layers.0.mlp.down_proj.weight": matrix.mT})
    up = weight(module, 0, "up")
    with Monitor(module, tmp_path, every=1, rank=RANK, updates=False) as monitor:
        for _ in range(3):
            run_of(monitor, [lambda: up.data.add_(0.001 * torch.randn(560, 640, generator=generator))])
    assert len(cold) == 2
    _, values, now = np.linalg.svd(up.detach().double().numpy())
    _, _, before = np.linalg.svd(matrix.double().numpy())
    row = table(tmp_path, 3, "drift", name="layers.0.up", side="read", since="first").iloc[0]
    angles = np.rad2deg(scipy.linalg.subspace_angles(now[:RANK].T, before[:RANK].T))
    assert row["rms_angle"] == pytest.approx(np.sqrt(np.mean(angles**2)), abs=0.06)
    assert table(tmp_path, 3, "weights", name="layers.0.up")["sigma_max"].item() == pytest.approx(values[0], rel=1e-6)
