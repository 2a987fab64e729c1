"""Layers measured elsewhere: the same bytes from this process, from others, and from a Dask cluster."""

import os
import signal
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor
from dataclasses import replace

import pandas as pd
import pytest
import torch

from flaggeo import analyze, compare, load
from flaggeo.executors import executor_of
from flaggeo.results import Analysis
from tests.builders import related_llama, save_folder, tiny_llama

MEASURE = ("continuity", "pairs", "heads", "interfaces", "spectra")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_folder(tmp_path_factory.mktemp("model") / "model", related_llama())


@pytest.fixture(scope="module")
def alone(folder):
    return analyze(load(folder), rank=3, measure=MEASURE, draws=2)


def require_same(found, expected):
    for name in Analysis.table_names():
        pd.testing.assert_frame_equal(getattr(found, name), getattr(expected, name), check_exact=True)
    assert found.bases.keys() == expected.bases.keys()
    assert all(torch.equal(found.bases[name], expected.bases[name]) for name in found.bases)
    # The page shows when and how it was made; all else on it is the same.
    assert replace(found, provenance=expected.provenance).to_html() == expected.to_html()


def test_processes_give_the_same_bits(folder, alone):
    told = []
    with executor_of(2) as executor:
        found = analyze(
            load(folder), rank=3, measure=MEASURE, draws=2, executor=executor, progress=lambda *one: told.append(one)
        )
    require_same(found, alone)
    assert [done for _, done, _ in told] == list(range(len(told)))
    assert told[-1][1] == told[-1][2] - 1


def test_one_job_needs_no_executor():
    with executor_of(1) as executor:
        assert executor is None


class Killing(ThreadPoolExecutor):
    """Loses its workers with the second layer, as a pool of processes does."""

    begun = 0

    def submit(self, *arguments, **options):
        self.begun += 1
        if self.begun >= 2:
            lost = Future()
            lost.set_exception(BrokenExecutor("a process was killed"))
            return lost
        return super().submit(*arguments, **options)


def test_what_lost_workers_had_is_measured_here(folder, alone):
    with Killing(1) as executor:
        require_same(analyze(load(folder), rank=3, measure=MEASURE, draws=2, executor=executor), alone)


def test_a_killed_process_loses_nothing(folder, alone):
    """A real SIGKILL: the pool breaks, and the rest is measured here."""
    with executor_of(2) as executor:
        killed = executor.submit(os.kill, executor.submit(os.getpid).result(), signal.SIGKILL)
        with pytest.raises(BrokenExecutor):
            killed.result()
        require_same(analyze(load(folder), rank=3, measure=MEASURE, draws=2, executor=executor), alone)


def test_comparisons_take_an_executor_too(folder, tmp_path):
    other = save_folder(tmp_path / "other", tiny_llama())
    with executor_of(2) as executor:
        found = compare(folder, other, rank=3, executor=executor)
    expected = compare(folder, other, rank=3)
    pd.testing.assert_frame_equal(found.weights, expected.weights, check_exact=True)


@pytest.mark.slow
def test_a_dask_cluster_gives_the_same_bits(folder, alone):
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, memory_limit=0
        ) as cluster,
        executor_of(1, cluster.scheduler_address) as executor,
    ):
        require_same(analyze(load(folder), rank=3, measure=MEASURE, draws=2, executor=executor), alone)
