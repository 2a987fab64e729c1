"""A repository on the Hub at one commit, through the library's client; its errors in one line that says what to do."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..protocol import CheckpointError
from .address import Address

_LOGIN = "log in with 'hf auth login' or set HF_TOKEN"


class HubError(CheckpointError):
    """A repository on the Hub that cannot be had; the message says what to do."""


class UnreachableError(HubError):
    """The Hub does not answer."""


class Repository:
    """A repository at the commit that its revision names now.

    Parameters
    ----------
    address : Address

    Attributes
    ----------
    address : Address
    commit : str
    sizes : dict of str to int
        Bytes of each file, by its path in the repository.

    Raises
    ------
    HubError
        If there is none, it may not be read, or the Hub does not answer.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        with _explained(address):
            from huggingface_hub import HfApi

            info = HfApi().model_info(address.repository, revision=address.revision, files_metadata=True)
        self.commit = str(info.sha)
        self.sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}

    def cached(self, file: str) -> Path | None:
        """Where a file is on this machine, if it is."""
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(self.address.repository, file, revision=self.commit)
        return Path(found) if isinstance(found, str) else None

    def fetched(self, file: str, told: Callable[[int], None] | None = None) -> Path:
        """Where a file is on this machine, once it is there.

        Parameters
        ----------
        file : str
        told : callable, optional
            Is told of every number of bytes that arrived; by default the library shows a bar of its own.
        """
        if (cached := self.cached(file)) is not None:
            return cached
        with _explained(self.address, file):
            from huggingface_hub import hf_hub_download

            bar = None if told is None else _counting(told)
            # By the name of the revision, so that the file can be found under it without the Hub.
            for revision in (self.address.revision, self.commit):
                path = hf_hub_download(self.address.repository, file, revision=revision, tqdm_class=bar)
                if self.commit in Path(path).parts:  # which the name may have ceased to mean
                    break
            return Path(path)

    def part(self, file: str, start: int, stop: int) -> bytes:
        """Bytes of a file from start to stop, without the rest."""
        with _explained(self.address):
            from huggingface_hub import hf_hub_url
            from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, http_stream_backoff

            url = hf_hub_url(self.address.repository, file, revision=self.commit)
            # Compressed, a range would be one of other bytes.
            headers = build_hf_headers() | {"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}
            with http_stream_backoff("GET", url, headers=headers) as response:
                hf_raise_for_status(response)
                if response.status_code != 206:  # the whole file would come
                    raise HubError(f"{self.address}: expected a part of {file}, found a server that sends whole files")
                return bytes(response.read())


def cached_snapshot(address: Address) -> Path | None:
    """The folder of a repository that is on this machine from an earlier time, or the file in it."""
    from huggingface_hub import try_to_load_from_cache

    for name in (address.file,) if address.file else ("config.json", "model.safetensors"):
        found = try_to_load_from_cache(address.repository, name, revision=address.revision)
        if isinstance(found, str):
            return Path(found) if address.file else Path(found).parent
    return None


def _counting(told: Callable[[int], None]) -> type[Any]:
    """A bar that shows nothing and tells what arrives."""
    from huggingface_hub.utils import tqdm

    class Counting(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs | {"disable": True})  # type: ignore[no-untyped-call]
            told(self.n)

        def update(self, n: float | None = 1) -> None:
            told(int(n or 0))

        def update_transfer(self, n: float) -> None:
            """Xet tells apart what arrives and what is written: the latter is counted."""

        def set_transfer_postfix_str(self, *args: Any, **kwargs: Any) -> None:
            """Belongs to the former."""

    return Counting


@contextmanager
def _explained(address: Address, downloaded: str | None = None) -> Iterator[None]:
    """Raise what goes wrong as `HubError`.

    Parameters
    ----------
    address : Address
    downloaded : str, optional
        The file that is being downloaded.
    """
    try:
        from huggingface_hub import constants, errors
    except ImportError as error:
        raise HubError(
            f"{address}: expected a file or folder of this name, found none; for a repository of this name on the "
            'Hugging Face Hub: pip install "flaggeo[hub]"'
        ) from error
    hub = constants.ENDPOINT
    nowhere = (
        f"expected a file or folder of this name, or a repository at {hub}, found neither: check the spelling, and for "
        f"a private repository {_LOGIN}"
    )
    try:
        yield
    except CheckpointError:
        raise
    except errors.GatedRepoError as error:
        raise HubError(
            f"{address}: expected access to this gated repository, found none: accept its terms at "
            f"{hub}/{address.repository}, then {_LOGIN}"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise HubError(f"{address}: {nowhere}") from error
    except errors.RevisionNotFoundError as error:
        raise HubError(
            f"{address}: expected a branch, tag or commit {address.revision!r} of {hub}/{address.repository}, found "
            "none: check the spelling"
        ) from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status == 401:  # also for what is not there, as long as nobody is logged in
            refused = "Invalid credentials" in error.response.headers.get("X-Error-Message", "")
            token = f"expected a token that {hub} accepts, found another one: {_LOGIN} to a new one, or unset it"
            raise HubError(f"{address}: {token if refused else nowhere}") from error
        remedy = _LOGIN if status == 403 else "try again later"
        raise HubError(f"{address}: expected an answer of {hub}, found the status {status}: {remedy}") from error
    except Exception as error:  # the client's transport and storage raise errors of several libraries
        cause = error.__cause__ if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ else error
        reason = "HF_HUB_OFFLINE is set" if constants.is_offline_mode() else str(cause).strip().partition("\n")[0]
        if downloaded is not None:
            raise HubError(
                f"{address}: expected all of {downloaded}, found that its download stopped ({reason}): run the same "
                "command again, files that are complete are kept"
            ) from error
        raise UnreachableError(
            f"{address}: expected a file or folder of this name, or an answer of {hub}, found neither ({reason}): "
            "check the path, or the connection"
        ) from error
