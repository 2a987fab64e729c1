import threading
import time

import pytest
import torch
from threadpoolctl import threadpool_info

from flaggeo.numerics.threads import Room, ahead, cached_property, single_threaded_blas, thread_count, workers


def blas_threads():
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def test_workers_are_as_many_as_torch_has_threads_and_each_works_alone():
    threads, before = torch.get_num_threads(), blas_threads()
    try:
        torch.set_num_threads(3)
        together = threading.Barrier(3, timeout=10)
        with workers() as pool:
            inside = [pool.submit(lambda: (together.wait(), torch.get_num_threads())[1]) for _ in range(3)]
            assert [future.result() for future in inside] == [1, 1, 1]
            assert set(blas_threads()) == {1}
            assert (torch.get_num_threads(), thread_count()) == (1, 3)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    assert blas_threads() == before


class Measured:
    def __init__(self, meet=None):
        self.meet, self.computed = meet, 0

    @cached_property
    def number(self):
        """What is measured."""
        self.computed += 1
        return self.meet() if self.meet else 42


def test_a_property_is_computed_once_for_each_object():
    one, other = Measured(), Measured()
    assert [one.number, one.number, other.number] == [42, 42, 42]
    assert (one.computed, other.computed) == (1, 1)
    assert Measured.number.__doc__ == "What is measured."


def test_threads_that_measure_different_objects_do_not_wait_for_each_other():
    """With the lock of functools in Python 3.11 the second would never reach the barrier."""
    together = threading.Barrier(2, timeout=10)
    threads = [threading.Thread(target=lambda: Measured(together.wait).number) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not together.broken


def test_a_block_inside_another_has_its_workers_unless_it_is_in_one_of_them():
    def inside():
        with workers() as pool:
            return pool

    with workers() as outer:
        assert inside() is outer
        assert outer.submit(inside).result() is not outer
        assert outer.submit(sum, [1, 2]).result() == 3  # the inner block has not ended it
    assert inside() is not outer


def test_nested_limits_end_where_they_began():
    before = blas_threads()
    with single_threaded_blas(), single_threaded_blas():
        assert set(blas_threads()) == {1}
    assert blas_threads() == before


def test_an_interruption_does_not_wait_for_what_has_not_begun():
    begun = []

    def interrupted():
        with workers() as pool:
            for index in range(1000):
                pool.submit(lambda index=index: (begun.append(index), time.sleep(0.01)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(begun) < 1000


def test_each_item_comes_when_the_next_has_been_begun():
    events = []

    def begun():
        for index in range(3):
            events.append(f"begin {index}")
            yield index

    for index in ahead(begun()):
        events.append(f"end {index}")
    assert events == ["begin 0", "begin 1", "end 0", "begin 2", "end 1", "end 2"]
    assert list(ahead([])) == []


def test_pieces_go_on_together_while_there_is_room_and_a_larger_one_alone():
    room, together, inside = Room(10), threading.Barrier(2, timeout=10), []

    def small():
        with room.holding(5):
            together.wait()  # which a piece that went alone would never pass
            inside.append("small")

    def large():
        with room.holding(100):
            assert room._taken == 100
            inside.append("large")

    pieces = [threading.Thread(target=piece) for piece in (small, small)]
    with room.holding(1):
        waiting = threading.Thread(target=large)
        waiting.start()
        waiting.join(timeout=0.1)
        assert waiting.is_alive()
        assert not inside
    for piece in pieces:
        piece.start()
    for piece in (waiting, *pieces):
        piece.join(timeout=10)
        assert not piece.is_alive()
    assert sorted(inside) == ["large", "small", "small"]


def test_a_piece_that_fails_leaves_its_room():
    room = Room(10)
    with pytest.raises(ValueError, match="failed"), room.holding(100):
        raise ValueError("failed")
    with room.holding(100):
        assert room._taken == 100
