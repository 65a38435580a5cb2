"""A real Git server over HTTP: Git's own `git http-backend`, behind a small CGI server on loopback that asks for a password.

The server side is Git itself, with bare repositories in a folder; only what a web server would do around it (basic
authentication, CGI) is written here.
"""

from __future__ import annotations

import base64
import gzip
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from .install import find_program
from .loopback import Loopback

READER, WRITER = ("reader", "only-reads-in-tests"), ("writer", "may-push-in-tests")
"""Names and passwords: one may fetch, the other may push too."""

_PUSH = "git-receive-pack"


@dataclass(frozen=True)
class Request:
    """What the server was asked: the method, the path with its query, and all headers."""

    method: str
    url: str
    headers: Mapping[str, str]


@dataclass
class GitServer(Loopback):
    """Repositories at `<url>/<name>.git`. `seen` are the requests in order; `before` runs before each is answered, and
    with `moved_to` each is sent there. `tls` is a certificate with its key."""

    folder: Path
    seen: list[Request] = field(default_factory=list)
    before: Callable[[Request], None] = lambda _: None
    moved_to: str = ""
    tls: tuple[Path, Path] | None = None

    def make_handler(self) -> type[BaseHTTPRequestHandler]:
        return _make_handler(self)

    def add(self, name: str, files: Mapping[str, str], *, branch: str = "main") -> str:
        """A new repository with one commit of these files; its URL."""
        bare = self.folder / f"{name}.git"
        self.git("init", "-q", "--bare", "--template=", f"--initial-branch={branch}", str(bare), at=self.folder)
        with (bare / "config").open("a") as config:
            config.write("[http]\n receivepack = true\n[uploadpack]\n allowFilter = true\n")
        self.commit(name, files, branch=branch, message="Begin")
        return f"{self.url}/{name}.git"

    def commit(
        self, name: str, files: Mapping[str, str | None], *, branch: str = "main", message: str = "Somebody else's"
    ) -> str:
        """A commit of somebody else's, straight into the repository: texts by path, None takes a file away. Its id."""
        bare, ref = self.folder / f"{name}.git", f"refs/heads/{branch}"
        first = not (bare / ref).exists() and not (bare / "packed-refs").exists()
        lines = [f"commit {ref}", f"committer Somebody Else <somebody@example.org> {int(time.time())} +0000"]
        lines += [_write_data(message), *([] if first else [f"from {ref}^0"])]
        for path, text in files.items():
            lines += [f"D {path}"] if text is None else [f"M 100644 inline {path}", _write_data(text)]
        self.git("fast-import", "--quiet", at=bare, text="\n".join((*lines, "")))
        return self.git("rev-parse", ref, at=bare)

    def read(self, name: str, path: str, *, branch: str = "main") -> str:
        """A file as it is at the head of the branch, with its last line feed."""
        return self.git("show", f"{branch}:{path}", at=self.folder / f"{name}.git", strip=False)

    def log(self, name: str, form: str, *, branch: str = "main") -> list[str]:
        """One text per commit of the branch, newest first, in a `--format` of `git log`."""
        out = self.git("log", f"--format={form}%x00", branch, at=self.folder / f"{name}.git")
        return [one.strip("\n") for one in out.split("\0") if one.strip("\n")]

    def git(
        self,
        *argv: str,
        at: Path,
        env: Mapping[str, str] | None = None,
        text: str = "",
        check: bool = True,
        strip: bool = True,
    ) -> str:
        """What a git command printed, run as somebody whose identity is fixed."""
        done = subprocess.run(
            (find_program("git"), *argv),
            cwd=at,
            env={**_ENVIRONMENT, **(env or {})},
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"git {argv[0]}: {done.stderr}")
        return done.stdout.strip() if strip else done.stdout


_ENVIRONMENT = {
    "PATH": os.environ.get("PATH", ""),
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Somebody Else",
    "GIT_AUTHOR_EMAIL": "somebody@example.org",
    "GIT_COMMITTER_NAME": "Somebody Else",
    "GIT_COMMITTER_EMAIL": "somebody@example.org",
}


def _write_data(text: str) -> str:
    return f"data {len(text.encode())}\n{text}"


def _make_handler(server: GitServer) -> type[BaseHTTPRequestHandler]:  # noqa: C901  # a handler is a class of its own
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # or each answer waits 40 ms for an acknowledgement

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def _answer(self) -> None:
            body = self._read_body()
            request = Request(self.command, self.path, dict(self.headers.items()))
            server.seen.append(request)
            server.before(request)
            path, _, query = self.path.partition("?")
            user = self._user()
            if server.moved_to:
                self._say(302, b"", {"Location": f"{server.moved_to}{self.path}"})
            elif user is None:
                self._say(401, b"", {"WWW-Authenticate": 'Basic realm="git"'})
            elif _PUSH in self.path and user != WRITER[0]:
                self._say(403, b"you may only read", {})
            else:
                self._run(path, query, body, user)

        def _user(self) -> str | None:
            scheme, _, value = self.headers.get("Authorization", "").partition(" ")
            given = base64.b64decode(value).decode() if scheme.lower() == "basic" else ""
            return next((name for name, password in (READER, WRITER) if given == f"{name}:{password}"), None)

        def _read_body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
                parts = []
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                body = b"".join(parts)
            else:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

        def _run(self, path: str, query: str, body: bytes, user: str) -> None:
            environment = {
                **_ENVIRONMENT,
                "GIT_PROJECT_ROOT": str(server.folder),
                "GIT_HTTP_EXPORT_ALL": "1",
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "REQUEST_METHOD": self.command,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "CONTENT_LENGTH": str(len(body)),
                "REMOTE_USER": user,
                "REMOTE_ADDR": "127.0.0.1",
            }
            argv = (find_program("git"), "http-backend")
            done = subprocess.run(argv, env=environment, input=body, capture_output=True, check=False)
            head, _, answer = done.stdout.partition(b"\r\n\r\n")
            headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
            self._say(int(headers.pop("Status", "200").split()[0]), answer, headers)

        def _say(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in ("content-length", "connection"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class calls it so
            pass

    return Handler
