"""Vega's bundle from the cache: the same as a fresh one, whatever has become of the file."""

from pathlib import Path

import pytest
import vl_convert

from flaggeo.page.vega_bundle import vega_bundle


@pytest.fixture(scope="module")
def fresh():
    return vl_convert.javascript_bundle(None)


@pytest.fixture
def made(fresh, monkeypatch):
    """How often the bundle was made; making it costs no time here."""
    calls = []

    def make(*arguments):
        calls.append(arguments)
        return fresh.encode()

    monkeypatch.setattr("flaggeo.page.vega_bundle.vega", make)
    return calls


@pytest.fixture
def cache(monkeypatch, tmp_path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "flaggeo"


def cached_file(cache) -> Path:
    (file,) = cache.iterdir()
    return file


def test_a_cached_bundle_is_the_fresh_one_and_made_once(cache, made, fresh):
    assert vega_bundle() == fresh
    assert vega_bundle() == fresh
    assert len(made) == 1
    assert cached_file(cache).read_bytes().endswith(fresh.encode())


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content[:64],
        lambda content: content[:0],
        lambda content: content.replace(b"function", b"functiom", 1),
        lambda content: b"0" + content,
        lambda content: content[:65] + b"\xff" * 1000,
    ],
)
def test_a_damaged_file_is_made_anew(cache, made, fresh, damage):
    vega_bundle()
    file = cached_file(cache)
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert vega_bundle() == fresh
    assert len(made) == 2
    assert cached_file(cache).read_bytes() == whole


@pytest.mark.usefixtures("cache")
def test_it_is_made_by_vl_convert_itself(fresh):
    assert vega_bundle() == fresh


def test_another_version_has_a_file_of_its_own(cache, made, monkeypatch):
    vega_bundle()
    monkeypatch.setattr("flaggeo.page.vega_bundle.version", {"vl-convert-python": "0.0.1"}.get)
    vega_bundle()
    assert len(made) == len(list(cache.iterdir())) == 2


def test_without_a_place_to_write_it_is_made_each_time(made, fresh, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert vega_bundle() == vega_bundle() == fresh
    assert len(made) == 2
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


@pytest.mark.usefixtures("made")
def test_a_folder_in_its_place_is_no_error(cache, fresh):
    vega_bundle()
    file = cached_file(cache)
    file.unlink()
    file.mkdir()
    assert vega_bundle() == fresh
    assert cached_file(cache) == file


@pytest.mark.usefixtures("made")
@pytest.mark.parametrize("named", [None, "", "relative/folder"])
def test_without_a_named_cache_it_lies_below_the_home_folder(monkeypatch, tmp_path, named):
    monkeypatch.delenv("XDG_CACHE_HOME")
    if named is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", named)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    vega_bundle()
    assert len(list((tmp_path / ".cache" / "flaggeo").iterdir())) == 1


def test_a_user_without_a_home_folder_has_no_cache(made, fresh, monkeypatch):
    def no_home():
        raise RuntimeError

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    assert vega_bundle() == vega_bundle() == fresh
    assert len(made) == 2
