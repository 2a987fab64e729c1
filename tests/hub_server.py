"""A small Hub on loopback for the real client: it counts what it sends, and can refuse, cut and wait."""

import json
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit


def commit_of(revision):
    """The commit that a revision names, which has the length of those of git."""
    return sha256((revision or "main").encode()).hexdigest()[:40]


COMMIT = commit_of("main")


@dataclass
class Request:
    """What was asked, and how many bytes of a body were sent."""

    method: str
    path: str
    range: str | None
    sent: int = 0


@dataclass
class Hub:
    """Repositories by name, each a folder; one at another revision than main is named ``org/name@revision``.

    Attributes
    ----------
    refusals : dict
        Status and headers of the answer to every request about a repository, or about a file in it.
    cuts : dict
        Bytes of a file after which the connection breaks, once for each number in the list.
    failing : set
        Files by commit and name that end too early, as some proxies let them.
    wait : float
        Seconds before each piece of a whole file.
    ranges : bool
        Whether parts of files are sent.
    """

    folders: dict[str, Path] = field(default_factory=dict)
    refusals: dict[str, tuple[int, dict[str, str]]] = field(default_factory=dict)
    cuts: dict[str, list[int]] = field(default_factory=dict)
    failing: set[tuple[str, str]] = field(default_factory=set)
    wait: float = 0.0
    ranges: bool = True
    requests: list[Request] = field(default_factory=list)
    url: str = ""

    def sent(self, suffix=""):
        """Bytes that were sent of files with this end of their name."""
        return sum(
            request.sent for request in self.requests if "/resolve/" in request.path and request.path.endswith(suffix)
        )


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_GET(self):
            self._answer(body=True)

        def do_HEAD(self):
            self._answer(body=False)

        def _answer(self, *, body):
            path = unquote(urlsplit(self.path).path)
            request = Request(self.command, path, self.headers.get("Range"))
            hub.requests.append(request)
            parts = path.removeprefix("/api/models").strip("/").split("/")
            repository = "/".join(parts[:2])
            if repository in hub.refusals:
                return self._refuse(*hub.refusals[repository])
            if not any(name.partition("@")[0] == repository for name in hub.folders):
                return self._refuse(404, {"X-Error-Code": "RepoNotFound"})
            revision = parts[3] if len(parts) > 3 else "main"
            of_commit = {
                commit_of(name.partition("@")[2]): folder
                for name, folder in hub.folders.items()
                if name.startswith(repository)
            }
            commit = revision if revision in of_commit else commit_of(revision)
            if commit not in of_commit:
                return self._refuse(404, {"X-Error-Code": "RevisionNotFound"})
            folder = of_commit[commit]
            if path.startswith("/api/"):
                return self._send_json(folder, repository, commit)
            name = "/".join(parts[4:])
            if f"{repository}/{name}" in hub.refusals:
                return self._refuse(*hub.refusals[f"{repository}/{name}"])
            if not (folder / name).is_file():
                return self._refuse(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
            return self._send_file(folder / name, name, request, commit, body=body)

        def _refuse(self, status, headers):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _send_json(self, folder, repository, commit):
            files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
            siblings = [
                {"rfilename": path.relative_to(folder).as_posix(), "size": path.stat().st_size} for path in files
            ]
            text = json.dumps({"id": repository, "sha": commit, "siblings": siblings}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def _send_file(self, path, name, request, commit, *, body):
            size = path.stat().st_size
            start, stop = 0, size
            if request.range and hub.ranges:
                first, _, last = request.range.removeprefix("bytes=").partition("-")
                start, stop = int(first), min(size, int(last) + 1 if last else size)
            partial = bool(request.range and hub.ranges)
            if (commit, name) in hub.failing and body and not partial:
                stop = size // 2
            self.send_response(206 if partial else 200)
            if partial:
                self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
            self.send_header("Content-Length", str(stop - start))
            self.send_header("ETag", f'"{sha256(f"{path}{size}".encode()).hexdigest()}"')
            self.send_header("X-Repo-Commit", commit)
            self.send_header("Accept-Ranges", "bytes")
            self.end_headers()
            if not body:
                return
            end = start + hub.cuts[name].pop(0) if hub.cuts.get(name) else stop
            with path.open("rb") as stream, suppress(ConnectionError):  # of a client that has enough
                stream.seek(start)
                while (at := stream.tell()) < min(stop, end):
                    if not partial:
                        time.sleep(hub.wait)
                    piece = stream.read(min(2**16, end - at, stop - at))
                    self.wfile.write(piece)
                    request.sent += len(piece)
            if end < stop:
                self.close_connection = True

    return Handler


@contextmanager
def serving():
    """A Hub without repositories, for as long as the block runs."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
