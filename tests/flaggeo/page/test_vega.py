"""Vega in a process of its own: what it makes is the same, and what befalls it befalls nobody else."""

import sys

import pytest
import vl_convert

from flaggeo.page.vega import vega, vega_all
from flaggeo.results.storage import PageError

SPEC = {"$schema": "https://vega.github.io/schema/vega/v5.json", "width": 20, "height": 10, "title": "ä"}


@pytest.mark.parametrize(("function", "options"), [("vega_to_svg", {}), ("vega_to_png", {"scale": 2})])
def test_what_it_makes_is_what_vl_convert_makes_here(function, options):
    expected = getattr(vl_convert, function)(SPEC, **options)
    assert vega(function, SPEC, **options) == (expected.encode() if isinstance(expected, str) else expected)


def test_several_are_what_each_is_alone():
    wide = SPEC | {"width": 50}
    assert vega_all("vega_to_svg", [SPEC, wide]) == [vl_convert.vega_to_svg(one).encode() for one in (SPEC, wide)]


def test_nothing_runs_that_lies_in_the_working_folder(tmp_path, monkeypatch):
    (tmp_path / "vl_convert.py").write_text("raise SystemExit('foreign')")
    (tmp_path / "json.py").write_text("raise SystemExit('foreign')")
    monkeypatch.chdir(tmp_path)
    assert vega("vega_to_svg", SPEC).startswith(b"<svg")


def test_an_error_has_the_last_line_of_what_it_said():
    with pytest.raises(PageError, match=r"^Vega cannot be run: .*poem") as error:
        vega("poem", SPEC)
    assert len(str(error.value).splitlines()) == 1


def test_a_process_that_cannot_start_is_an_error_of_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))
    with pytest.raises(PageError, match=r"^Vega cannot be run: .*nothing"):
        vega("vega_to_svg", SPEC)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of children are those of Linux")
def test_an_abort_for_want_of_memory_is_an_error_of_one_line(monkeypatch, tmp_path):
    limited = tmp_path / "python"
    limited.write_text(f'#!/bin/sh\nulimit -v 4000000\nexec {sys.executable} "$@"\n')
    limited.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(limited))
    with pytest.raises(PageError, match=r"^Vega was ended by signal \d+, as where too little memory is allowed$"):
        vega("vega_to_svg", SPEC)
