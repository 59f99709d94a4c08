"""Servers on this machine that play object store, web server, and a network that drops lines."""

import contextlib
import logging
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3
from moto.server import ThreadedMotoServer

HOST = "127.0.0.1"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing",
    "AWS_DEFAULT_REGION": "us-east-1",
}  # fmt: skip


@dataclass(frozen=True)
class Bucket:
    """A bucket of an S3-compatible server."""

    host: str
    port: int
    name: str

    @property
    def endpoint(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def client(self):  # type: ignore[no-untyped-def]  # boto3 has no types
        names = ("aws_access_key_id", "aws_secret_access_key", "region_name")
        said = dict(zip(names, CREDENTIALS.values(), strict=True))
        return boto3.client("s3", endpoint_url=self.endpoint, **said)

    def options(self, endpoint: str | None = None) -> dict[str, object]:
        """Storage options that reach it, through another endpoint if wanted."""
        return {
            "endpoint_url": endpoint or self.endpoint,
            "key": CREDENTIALS["AWS_ACCESS_KEY_ID"],
            "secret": CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        }

    def put(self, key: str, content: bytes) -> str:
        self.client.put_object(Bucket=self.name, Key=key, Body=content)
        return f"s3://{self.name}/{key}"

    def upload(self, folder: Path, prefix: str) -> str:
        for path in folder.rglob("*"):
            if path.is_file():
                self.put(f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())
        return f"s3://{self.name}/{prefix}"

    def read(self, key: str) -> bytes:
        content: bytes = self.client.get_object(Bucket=self.name, Key=key)["Body"].read()
        return content

    def keys(self, prefix: str = "") -> list[str]:
        found = self.client.list_objects_v2(Bucket=self.name, Prefix=prefix)
        return sorted(item["Key"] for item in found.get("Contents", []))


@contextmanager
def s3_bucket(name: str) -> Iterator[Bucket]:
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer(ip_address=HOST, port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        bucket = Bucket(host=host, port=port, name=name)
        bucket.client.create_bucket(Bucket=name)
        yield bucket
    finally:
        server.stop()


@dataclass
class FlakyLine:
    """A TCP line to a server that breaks ``drops`` times, each after ``after`` bytes came back.

    ``passed`` counts what came back altogether; ``during`` is told so of each connection, as it
    grows.
    """

    host: str
    port: int
    after: int = 1 << 62
    drops: int = 0
    during: Callable[[int], None] | None = None
    dropped: int = 0
    passed: int = 0
    _listener: socket.socket = field(default_factory=socket.socket)
    _open: list[socket.socket] = field(default_factory=list)

    def start(self) -> str:
        self._listener.bind((HOST, 0))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()
        return f"http://{HOST}:{self._listener.getsockname()[1]}"

    def stop(self) -> None:
        self._listener.close()
        for end in self._open:
            end.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection((self.host, self.port))
                self._open += [near, far]
                threading.Thread(target=self._up, args=(near, far), daemon=True).start()
                threading.Thread(target=self._down, args=(near, far), daemon=True).start()

    def _up(self, near: socket.socket, far: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while sent := near.recv(1 << 16):
                far.sendall(sent)
            far.shutdown(socket.SHUT_WR)

    def _down(self, near: socket.socket, far: socket.socket) -> None:
        here = 0
        with contextlib.suppress(OSError):
            while came := far.recv(1 << 14):
                here += len(came)
                if here > self.after and self.dropped < self.drops:
                    self.dropped += 1
                    break
                self.passed += len(came)
                if self.during is not None:
                    self.during(here)
                near.sendall(came)
        for end in (near, far):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def flaky(
    host: str, port: int, *, after: int = 1 << 62, drops: int = 0,
    during: Callable[[int], None] | None = None,
) -> Iterator[tuple[FlakyLine, str]]:  # fmt: skip
    line = FlakyLine(host=host, port=port, after=after, drops=drops, during=during)
    endpoint = line.start()
    try:
        yield line, endpoint
    finally:
        line.stop()


class _WithRanges(SimpleHTTPRequestHandler):
    """The standard library's file server, which also gives parts of files."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        path = Path(self.translate_path(self.path))
        if asked is None or not path.is_file():
            super().do_GET()
            return
        content = path.read_bytes()
        start, end = int(asked[1]), min(int(asked[2] or len(content)), len(content) - 1)
        part = content[start : end + 1]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{end}/{len(content)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)

    def log_message(self, *_: object) -> None:
        """The test's output stays clean."""


class _WithoutRanges(_WithRanges):
    """Gives whole files only."""

    def do_GET(self) -> None:
        SimpleHTTPRequestHandler.do_GET(self)


class _Refusing(_WithRanges):
    """Answers everything with one status."""

    status = 0

    def do_GET(self) -> None:
        self.send_error(self.status)

    do_HEAD = do_GET  # noqa: N815 # the standard library calls it so


@contextmanager
def web_server(
    folder: Path, *, ranges: bool = True, status: int | None = None
) -> Iterator[tuple[str, int]]:
    """Serves a folder, or refuses with a status; yields host and port."""
    kind: type[_WithRanges] = _WithRanges if ranges else _WithoutRanges
    if status is not None:
        kind = type("Refusing", (_Refusing,), {"status": status})
    handler = partial(kind, directory=str(folder))
    server = ThreadingHTTPServer((HOST, 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield HOST, server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
