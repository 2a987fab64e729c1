import pytest
import torch

from flaggeo.alignment import norm_profile
from flaggeo.spectrum import leading_spectrum
from flaggeo.storage import Scratch, discard_scratch, replaced_at_once, require_replaceable


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


def test_only_a_result_of_flaggeo_is_ever_replaced(tmp_path):
    require_replaceable(tmp_path / "new", overwrite=False)
    require_replaceable(tmp_path, overwrite=False)  # empty
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match="choose another or overwrite"):
        require_replaceable(tmp_path, overwrite=False)
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(FileExistsError, match=r"nothing else to overwrite, found also 'thesis\.tex'"):
        require_replaceable(tmp_path, overwrite=True)
    with pytest.raises(FileExistsError, match="expected a folder, found a file"):
        require_replaceable(tmp_path / "thesis.tex", overwrite=True)
    (tmp_path / "thesis.tex").unlink()
    require_replaceable(tmp_path, overwrite=True)


def test_a_place_without_permission_is_refused_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, _: path != tmp_path)  # root may write everywhere
    with pytest.raises(PermissionError, match="expected a place to write to"):
        require_replaceable(tmp_path / "a" / "b", overwrite=False)


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


def test_scratch_recalls_bit_for_bit_what_it_kept(tmp_path):
    matrix = torch.randn(9, 7, generator=torch.Generator().manual_seed(0))
    spectra = {"w": leading_spectrum(matrix, 3), "w.heads.0": leading_spectrum(matrix[:4], 3)}
    profiles = {"w": norm_profile(matrix, 3)}
    Scratch(tmp_path, "run").keep("odd/../name", spectra, profiles)
    recalled = Scratch(tmp_path, "run").recall("odd/../name", list(spectra), torch.device("cpu"))
    assert recalled is not None
    found, found_profiles = recalled
    assert set(found_profiles) == {"w"}
    for part in ("row_norms", "column_norms", "equalised_left", "equalised_right"):
        assert torch.equal(getattr(found_profiles["w"], part), getattr(profiles["w"], part))
    for name, spectrum in spectra.items():
        for part in ("values", "left", "right", "gaps", "undetermined"):
            assert torch.equal(getattr(found[name], part), getattr(spectrum, part))
        assert (found[name].residual, found[name].frobenius_norm) == (spectrum.residual, spectrum.frobenius_norm)
    assert Scratch(tmp_path, "run").recall("another", ["w"], torch.device("cpu")) is None


def test_scratch_of_another_run_is_discarded_and_a_cut_file_is_not_believed(tmp_path):
    spectra = {"w": leading_spectrum(torch.eye(3), 2)}
    scratch = Scratch(tmp_path, "run")
    scratch.keep("t", spectra, {})
    file = next(tmp_path.rglob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-5])
    assert scratch.recall("t", ["w"], torch.device("cpu")) is None
    (tmp_path / "thesis.tex").write_text("years of work")
    Scratch(tmp_path, "other run")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_discarding_leaves_what_is_not_its_own(tmp_path):
    folder = tmp_path / "scratch"
    Scratch(folder, "run").keep("t", {"w": leading_spectrum(torch.eye(3), 2)}, {})
    discard_scratch(folder)
    assert not folder.exists()
    discard_scratch(folder)
    Scratch(folder, "run").keep("t", {"w": leading_spectrum(torch.eye(3), 2)}, {})
    (folder / "notes").mkdir()
    discard_scratch(folder)
    assert [path.name for path in folder.iterdir()] == ["notes"]
