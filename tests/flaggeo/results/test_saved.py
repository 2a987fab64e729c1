import json
from dataclasses import fields

import pandas as pd
import pytest

from flaggeo import (
    Analysis,
    ResultError,
    Settings,
    analyze,
    compare,
    load,
    render_comparison,
    render_report,
    render_trace,
    trace,
)
from flaggeo.findings import comparison_findings, findings, trace_findings
from flaggeo.results import kind_in
from flaggeo.results.storage import PageError
from tests.builders import CONFIG, save_folder, tiny_llama

SETTINGS = Settings(rank=2, roles=["q"], draws=1)


@pytest.fixture(scope="module")
def results():
    analyses = [analyze(load(tiny_llama(seed=seed), config=CONFIG), SETTINGS) for seed in (0, 1)]
    return {"analysis": analyses[0], "comparison": compare(*analyses), "trace": trace(analyses)}


@pytest.fixture(params=["analysis", "comparison", "trace"])
def result(request, results):
    return results[request.param]


def test_a_result_is_saved_with_its_page_and_loaded_whole(result, tmp_path):
    result.save(tmp_path / "out")
    assert {file.name for file in (tmp_path / "out").iterdir()} == result.file_names()
    assert (tmp_path / "out" / result.KIND.page_file).read_text() == result.to_html()
    assert kind_in(tmp_path / "out") is type(result)
    back = type(result).load(tmp_path / "out")
    assert back.provenance == json.loads(json.dumps(result.provenance))
    assert back.settings == SETTINGS
    assert back.findings == result.findings
    for name in result.table_names():
        pd.testing.assert_frame_equal(getattr(back, name), getattr(result, name))


def test_without_its_page_a_result_is_saved_whole(result, tmp_path, monkeypatch):
    def fail(_):
        raise PageError("no room")

    result.save(tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(type(result), "to_html", fail)
        with pytest.raises(PageError, match=r"out: saved without its page, which flaggeo report .*out makes: no room$"):
            result.save(tmp_path / "out", overwrite=True)
    assert {file.name for file in (tmp_path / "out").iterdir()} == result.file_names() - {result.KIND.page_file}
    assert type(result).load(tmp_path / "out").to_html() == result.to_html()
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_every_table_is_a_field_and_every_other_field_is_none(result):
    others = {field.name for field in fields(result)} - set(result.table_names())
    assert others in ({"provenance"}, {"provenance", "bases"})
    assert all(isinstance(getattr(result, name), pd.DataFrame) for name in result.table_names())


def test_the_public_functions_make_the_same_page_and_findings(results):
    for name, page, sentences in (
        ("analysis", render_report, findings),
        ("comparison", render_comparison, comparison_findings),
        ("trace", render_trace, trace_findings),
    ):
        assert results[name].to_html() == page(results[name])
        assert results[name].findings == sentences(results[name])


def test_a_result_replaces_its_own_kind_alone(results, tmp_path):
    for name, result in results.items():
        result.save(tmp_path / name)
        result.save(tmp_path / name, overwrite=True)
        for other in results.values():
            if other is not result:
                with pytest.raises(FileExistsError, match="nothing else to overwrite"):
                    other.save(tmp_path / name, overwrite=True)
                with pytest.raises(
                    FileNotFoundError, match=f"expected {other.KIND.name} .*, found {result.KIND.name}$"
                ):
                    type(other).load(tmp_path / name)


def test_what_is_there_in_place_of_a_result_is_said(tmp_path):
    save_folder(tmp_path / "checkpoint", tiny_llama())
    (tmp_path / "watched").mkdir()
    for name in ("monitor.json", "reference.safetensors"):
        (tmp_path / "watched" / name).touch()
    for path, found in (
        ("nowhere", "nothing at this path"),
        ("checkpoint/model.safetensors", "a file"),
        ("checkpoint", "a checkpoint"),
        ("watched", "the records of a run"),
        ("", r"none of result\.json, comparison\.json, trace\.json"),
    ):
        for ask in (kind_in, Analysis.load):
            with pytest.raises(FileNotFoundError, match=f"{path}: expected .*, found {found}"):
                ask(tmp_path / path)


def test_another_schema_is_named_with_what_to_do(result, tmp_path):
    result.save(tmp_path / "out")
    file, current = tmp_path / "out" / result.KIND.record_file, result.KIND.schema_version
    for found, words in (
        (current - 1, f"found {current - 1}, which an earlier flaggeo wrote: {result.KIND.remedy}"),
        (current + 1, f"found {current + 1}, which a later flaggeo wrote: update flaggeo"),
    ):
        file.write_text(json.dumps({"schema_version": found}))
        with pytest.raises(ResultError, match=f"expected schema version {current}, {words}"):
            type(result).load(tmp_path / "out")


def test_what_is_missing_or_damaged_is_named(result, tmp_path):
    for name in result.file_names():
        if name.endswith((".parquet", ".safetensors")):
            result.save(tmp_path / "out", overwrite=True)
            (tmp_path / "out" / name).unlink()
            with pytest.raises(ResultError, match=f"found the file {name} missing"):
                type(result).load(tmp_path / "out")
    record = tmp_path / "out" / result.KIND.record_file
    record.write_text(record.read_text()[:-9])
    with pytest.raises(ResultError, match=f"{result.KIND.record_file} is damaged"):
        type(result).load(tmp_path / "out")


def test_a_page_that_fails_leaves_nothing_behind(result, tmp_path, monkeypatch):
    def fail(_):
        raise RuntimeError("no")

    monkeypatch.setattr(f"flaggeo.page.{result.KIND.renderer}", fail)
    with pytest.raises(RuntimeError, match="no"):
        result.save(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
