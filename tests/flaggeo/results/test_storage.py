from math import nan

import pandas as pd
import pytest

from flaggeo.results.storage import altered_texts, load_tables, replaced_at_once, require_replaceable, save_tables

NAMES = frozenset({"result.json"})


def contents(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_appears_at_once_or_not_at_all(tmp_path):
    with replaced_at_once(tmp_path / "out") as temporary:
        (temporary / "a").write_text("1")
        assert not (tmp_path / "out").exists()
    assert contents(tmp_path) == ["out"]
    assert contents(tmp_path / "out") == ["a"]

    def fail_half_way():
        with replaced_at_once(tmp_path / "out") as temporary:
            (temporary / "b").write_text("2")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert contents(tmp_path) == ["out"]
    assert contents(tmp_path / "out") == ["a"]

    with replaced_at_once(tmp_path / "out") as temporary:
        (temporary / "c").write_text("3")
    assert contents(tmp_path) == ["out"]
    assert contents(tmp_path / "out") == ["c"]


def test_a_table_that_nobody_would_read_is_no_text(tmp_path):
    tables = {"short": pd.DataFrame({"a": range(5000)}), "long": pd.DataFrame({"a": range(5001)})}
    save_tables(tmp_path / "out", tables, {}, others={}, names=frozenset(), overwrite=False)
    assert contents(tmp_path / "out") == ["long.parquet", "short.csv", "short.parquet"]


def test_text_has_seven_digits_of_every_table_and_parquet_all(tmp_path):
    table = pd.DataFrame({"name": ["a,b", 'c"d'], "count": [2**40, 0], "share": [1 / 3, nan]})
    others = {"extra": lambda path: path.write_text("more")}
    save_tables(
        tmp_path / "out", {"one": table}, {"page": lambda: "text"}, others=others, names=frozenset(), overwrite=False
    )
    assert contents(tmp_path / "out") == ["extra", "one.csv", "one.parquet", "page"]
    assert (tmp_path / "out" / "one.csv").read_text().count("0.33333334") == 1
    text = pd.read_csv(tmp_path / "out" / "one.csv")
    pd.testing.assert_frame_equal(text, table.round({"share": 8}), check_dtype=False, rtol=1e-7)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "out" / "one.parquet"), table)


def test_a_text_that_is_not_what_its_table_gives_is_named(tmp_path):
    short = pd.DataFrame({"share": [1 / 3, nan], "name": ["=1+1", None], "count": pd.array([2, None], "Int64")})
    tables = {"short": short, "long": pd.DataFrame({"a": range(5001)}), "empty": short[:0]}
    out = tmp_path / "out"
    save_tables(out, tables, {}, others={}, names=frozenset(), overwrite=False)
    again = load_tables(out, tables)
    assert list(altered_texts(out, again)) == []
    text = (out / "short.csv").read_bytes()
    (out / "short.csv").write_bytes(text.replace(b"\n", b"\r\n"))
    assert list(altered_texts(out, again)) == []
    pd.read_csv(out / "short.csv").to_csv(out / "short.csv", index=False)
    assert list(altered_texts(out, again)) == []
    (out / "short.csv").write_bytes(text.replace(b"0.3333", b"0.3334"))
    (out / "long.csv").write_text("a\n")
    (out / "empty.csv").unlink()
    found = dict(altered_texts(out, again))
    assert found.keys() == {"short.csv", "long.csv", "empty.csv"}
    assert "row 2 " in found["short.csv"]


def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    def fail(*_):
        raise OSError("disk full")

    for texts, others in (({}, {"x": fail}), ({"page": fail}, {})):
        with pytest.raises(OSError, match="disk full"):
            save_tables(
                tmp_path / "out", {"one": pd.DataFrame()}, texts, others=others, names=frozenset(), overwrite=False
            )
        assert contents(tmp_path) == []


def test_only_a_result_of_flaggeo_is_ever_replaced(tmp_path):
    require_replaceable(tmp_path / "new", overwrite=False, names=NAMES)
    require_replaceable(tmp_path, overwrite=False, names=NAMES)  # empty
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match="choose another, or give overwrite=True"):
        require_replaceable(tmp_path, overwrite=False, names=NAMES)
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(FileExistsError, match=r"nothing else to overwrite, found also 'thesis\.tex'"):
        require_replaceable(tmp_path, overwrite=True, names=NAMES)
    with pytest.raises(FileExistsError, match="expected a folder, found a file"):
        require_replaceable(tmp_path / "thesis.tex", overwrite=True, names=NAMES)
    (tmp_path / "thesis.tex").unlink()
    require_replaceable(tmp_path, overwrite=True, names=NAMES)


def test_a_place_without_permission_is_refused_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, _: path != tmp_path)  # root may write everywhere
    with pytest.raises(PermissionError, match="expected a place to write to"):
        require_replaceable(tmp_path / "a" / "b", overwrite=False, names=NAMES)


def test_the_earlier_result_comes_back_if_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").write_text("1")
    rename = type(tmp_path).rename

    def fail_for_the_new(self, target):
        if self.name.startswith(".out.") and target == tmp_path / "out":
            raise OSError("disk")
        return rename(self, target)

    monkeypatch.setattr(type(tmp_path), "rename", fail_for_the_new)

    def replace():
        with replaced_at_once(tmp_path / "out"):
            pass

    with pytest.raises(OSError, match="disk"):
        replace()
    assert contents(tmp_path) == ["out"]
    assert contents(tmp_path / "out") == ["a"]


def test_places_where_no_folder_can_be_are_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    for folder, kind, message in (
        (tmp_path / "file" / "out", FileExistsError, "expected a place to write to, found the file"),
        (tmp_path / "link", FileExistsError, "expected a new folder, found a link to nothing"),
        (tmp_path / ("x" * 201), ValueError, "expected a name of at most 200 bytes, found 201"),
    ):
        with pytest.raises(kind, match=message):
            require_replaceable(folder, overwrite=True, names=NAMES)
    assert contents(tmp_path) == ["file", "link"]
