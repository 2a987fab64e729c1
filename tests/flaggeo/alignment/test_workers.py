import torch

from flaggeo.alignment.workers import single_threaded_workers


def test_each_worker_is_alone_and_the_caller_keeps_its_threads():
    before = torch.get_num_threads()
    with single_threaded_workers() as pool:
        assert set(pool.map(lambda _: torch.get_num_threads(), range(8))) == {1}
    assert torch.get_num_threads() == before
