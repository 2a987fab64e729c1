import pytest
from hypothesis import given
from hypothesis import strategies as st

from flaggeo.checkpoint.hub import Address, address_in


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("org/name", Address("org/name")),
        ("meta-llama/Llama-3.2-1B", Address("meta-llama/Llama-3.2-1B")),
        ("org/name@v1.0", Address("org/name", "v1.0")),
        ("org/name@refs/pr/3", Address("org/name", "refs/pr/3")),
        ("org/name/model-Q4_K_M.gguf", Address("org/name", None, "model-Q4_K_M.gguf")),
        ("org/name/sub/x.safetensors@main", Address("org/name", "main", "sub/x.safetensors")),
    ],
)
def test_addresses_are_read_and_written_alike(text, address):
    assert address_in(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "name",
            "./name",
            "../name",
            "/org/name",
            "~/name",
            "org/",
            "/name",
            "org//name",
            "org/name/",
            "org\\name",
        ),
        *("org/name/more", "org/../name", "../../x.gguf", "org/.hidden", ".hidden/name", "org/name..x", "org/na me"),
        *("folder/model.safetensors", "folder/x.gguf", "folder/config.json", "folder/pytorch_model.bin"),
        *(
            "org/name@",
            "org/name/../x.gguf",
            "org/name/a/../../../x.gguf",
            "org/name//x.gguf",
            "org/name/.x.gguf",
            "org/name@/main",
            "org/name@a@b",
            "@main",
            "org/name/@x.gguf",
            "org/name\n",
            "https://hub/org/name",
        ),
    ],
)
def test_whatever_else_is_a_path(text):
    assert address_in(text) is None


@given(st.text(max_size=40))
def test_an_address_never_leaves_its_repository(text):
    address = address_in(text)
    if address is not None:
        assert ".." not in address.repository
        assert ".." not in (address.file or "")
        assert address.repository.count("/") == 1
        assert str(address) == text
