"""An HTTP server on loopback, in a thread of its own, for parts that are spoken to over HTTP."""

from __future__ import annotations

import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self


class Loopback:
    """A context in which it serves at `url`; what derives from it says what answers. `tls` is a certificate with its key."""

    tls: tuple[Path, Path] | None = None

    def make_handler(self) -> type[BaseHTTPRequestHandler]:
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._http = _Quiet(("127.0.0.1", 0), self.make_handler())
        if self.tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self.tls)
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self._http.server_address[1]}"


class _Quiet(ThreadingHTTPServer):
    """A connection that a test breaks is no news."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        pass
