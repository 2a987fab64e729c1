import sys

import pytest

from flaggeo.checkpoint.hub.address import Address
from flaggeo.checkpoint.hub.repository import HubError, Repository, UnreachableError
from tests.hub_server import COMMIT


@pytest.fixture
def repository(hub, tmp_path):
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 4000)
    hub.folders["org/name"] = folder
    return Repository(Address("org/name"))


def test_a_repository_knows_its_commit_and_files(repository):
    assert repository.commit == COMMIT
    assert repository.sizes == {"config.json": 2, "model.safetensors": 1_024_000}


def test_a_part_of_a_file_is_all_that_is_sent(hub, repository):
    assert repository.part("model.safetensors", 250, 260) == bytes([*range(250, 256), *range(4)])
    assert hub.sent() == 10
    assert repository.cached("model.safetensors") is None


def test_a_server_that_sends_whole_files_is_refused(hub, repository):
    hub.ranges = False
    with pytest.raises(HubError, match="sends whole files"):
        repository.part("model.safetensors", 0, 10)


def test_a_fetched_file_stays(hub, repository):
    arrived = []
    file = repository.fetched("model.safetensors", arrived.append)
    assert file.read_bytes() == bytes(range(256)) * 4000
    assert sum(arrived) == 1_024_000
    assert repository.cached("model.safetensors") == file
    asked = len(hub.requests)
    assert repository.fetched("model.safetensors") == file
    assert len(hub.requests) == asked


def test_a_connection_that_breaks_is_taken_up_where_it_broke(hub, repository, monkeypatch):
    """A second of this test is the client's pause; it keeps what arrived in whole pieces."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100_000)
    hub.cuts["model.safetensors"] = [300_000]
    arrived = []
    file = repository.fetched("model.safetensors", arrived.append)
    assert file.read_bytes() == bytes(range(256)) * 4000
    ranges = [request.range for request in hub.requests if request.method == "GET" and request.path.endswith("tensors")]
    assert ranges == [None, "bytes=300000-"]
    assert sum(arrived) == 1_024_000
    assert hub.sent("model.safetensors") == 1_024_000


@pytest.mark.parametrize(
    ("status", "headers", "words"),
    [
        (404, {"X-Error-Code": "RepoNotFound"}, ["a file or folder of this name, or a repository at", "found neither"]),
        (401, {}, ["a file or folder of this name, or a repository at", "'hf auth login'"]),
        (403, {"X-Error-Code": "GatedRepo"}, ["gated", "accept its terms at", "/org/name, then log in"]),
        (401, {"X-Error-Code": "GatedRepo"}, ["gated", "HF_TOKEN"]),
        (404, {"X-Error-Code": "RevisionNotFound"}, ["a branch, tag or commit 'x'"]),
        (401, {"X-Error-Message": "Invalid credentials in Authorization header"}, ["a token that http", "log in"]),
        (403, {}, ["the status 403", "log in"]),
        (500, {}, ["the status 500", "try again later"]),
    ],
)
def test_each_refusal_says_what_to_do_in_one_line(hub, status, headers, words):
    hub.refusals["org/name"] = (status, headers)
    with pytest.raises(HubError) as error:
        Repository(Address("org/name", "x"))
    assert str(error.value).startswith("org/name@x: expected ")
    assert len(str(error.value).splitlines()) == 1
    for word in words:
        assert word in str(error.value)


def test_a_gated_file_of_a_repository_that_is_shown_is_refused_alike(hub, repository):
    hub.refusals["org/name/config.json"] = (403, {"X-Error-Code": "GatedRepo"})
    with pytest.raises(HubError, match="gated repository, found none: accept its terms"):
        repository.fetched("config.json")
    hub.refusals["org/name/model.safetensors"] = (401, {"X-Error-Code": "GatedRepo"})
    with pytest.raises(HubError, match="gated repository, found none: accept its terms"):
        repository.part("model.safetensors", 0, 8)


@pytest.mark.usefixtures("hub")
def test_no_answer(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nothing listens to this port
    with pytest.raises(UnreachableError, match=r"org/name: expected a file or folder .*127\.0\.0\.1:9, found neither"):
        Repository(Address("org/name"))


def test_offline(monkeypatch, repository):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UnreachableError, match=r"found neither \(HF_HUB_OFFLINE is set\): check the path, or the conn"):
        Repository(Address("org/name"))
    with pytest.raises(HubError, match=r"download stopped \(HF_HUB_OFFLINE is set\): run the same command again"):
        repository.fetched("config.json")


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(HubError, match=r'org/name: expected a file or folder .* pip install "flaggeo\[hub\]"'):
        Repository(Address("org/name"))
