import pytest

from flaggeo.tracing.run import numbers_in, steps_of
from tests.builders import save_folder, tiny_llama


def folders(parent, *names):
    return [save_folder(parent / name, tiny_llama(layers=1)) for name in names]


def order(steps):
    return [(step.number, step.label) for step in steps]


def test_numbered_subfolders_are_checkpoints_in_the_order_of_their_numbers(tmp_path):
    folders(tmp_path, "checkpoint-1000", "checkpoint-900", "best")
    (tmp_path / "checkpoint-950-logs").mkdir()
    expected = [(900, "checkpoint-900"), (1000, "checkpoint-1000")]
    assert order(steps_of(tmp_path)) == order(steps_of(str(tmp_path))) == order(steps_of([tmp_path])) == expected


def test_checkpoints_of_any_format_are_found(tmp_path):
    for number in (1, 2, 3):
        (tmp_path / f"step{number}").mkdir()
    (tmp_path / "step1" / ".metadata").write_bytes(b"")
    (tmp_path / "step2" / "pytorch_model.bin").write_bytes(b"")
    (tmp_path / "step3" / "optimizer.pt").write_bytes(b"")
    assert order(steps_of(tmp_path)) == [(1, "step1"), (2, "step2")]


def test_checkpoints_named_one_by_one_are_sorted_too(tmp_path):
    late, early = folders(tmp_path, "step1000-70m", "step900-70m")
    assert order(steps_of([late, early])) == [(900, "step900-70m"), (1000, "step1000-70m")]
    assert [step.source for step in steps_of([late, early])] == [early, late]


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path):
    files = [folder / "model.safetensors" for folder in folders(tmp_path, "20", "100")]
    assert order(steps_of(files)) == [(20, "20"), (100, "100")]


def test_without_numbers_the_order_is_the_one_given(tmp_path):
    after, before = folders(tmp_path, "after", "before")
    assert order(steps_of([after, before])) == [(0, "after"), (1, "before")]
    states = [tiny_llama(layers=1)] * 3
    assert order(steps_of(states)) == [(0, "checkpoint 0"), (1, "checkpoint 1"), (2, "checkpoint 2")]
    assert order(steps_of(states, [70, 7, 700]))[0] == (7, "checkpoint 1")


def test_labels_are_unique(tmp_path):
    same = folders(tmp_path, "a/x", "b/y", "c/x")
    assert order(steps_of(same)) == [(0, "x (0)"), (1, "y (1)"), (2, "x (2)")]


@pytest.mark.parametrize(
    ("names", "numbers"),
    [
        (["a-1-step-10", "a-2-step-20"], [10, 20]),  # the last number that tells them apart
        (["step-10-7b", "step-20-7b"], [10, 20]),
        (["checkpoint-1", "checkpoint-1"], None),
        (["a-1", "b-2"], None),
        (["base", "checkpoint-0", "checkpoint-2"], None),  # two would be step 0
        (["base", "tuned-5"], None),
    ],
)
def test_numbers_are_read_where_they_tell_the_checkpoints_apart(names, numbers):
    assert numbers_in(names) == numbers


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([{}],), "expected at least 2 checkpoints, .*; found 1"),
        (([{}, {}], [1]), "expected 2 different steps, one a checkpoint; found 1"),
        (([{}, {}], [3, 3]), "expected 2 different steps, one a checkpoint; found 3, 3"),
    ],
)
def test_what_makes_no_run_is_said(arguments, words):
    with pytest.raises(ValueError, match=words):
        steps_of(*arguments)


def test_a_folder_without_a_run_is_named(tmp_path):
    for given in (tmp_path, [tmp_path]):
        with pytest.raises(ValueError, match=f"found none in {tmp_path}"):
            steps_of(given)
    (only,) = folders(tmp_path, "only")
    with pytest.raises(ValueError, match=r"found 1$"):
        steps_of([only / "model.safetensors"])
