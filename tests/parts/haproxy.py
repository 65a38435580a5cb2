"""A real HAProxy with a statistics page: one backend whose servers a test can take away and bring back."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .install import find_program
from .process import Process, find_free_ports

USER, PASSWORD = "watcher", "stats-of-a-test"
BACKEND = "be_shop"


class Haproxy:
    """Its statistics at `url`. Server `n` of `BACKEND` is up while `server_up(n)` was called last, not `server_down(n)`."""

    def __init__(self, folder: Path, servers: int) -> None:
        self._folder = folder
        self._port, *self._ports = find_free_ports(servers + 1)
        self._listening: dict[int, socket.socket] = {}
        self._process: Process | None = None
        self.url = f"http://127.0.0.1:{self._port}/stats"
        self.password_file = folder / "stats-password"
        self.password_file.write_text(f"{PASSWORD}\n")

    def server_up(self, number: int) -> None:
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", self._ports[number]))
        listening.listen(64)
        self._listening[number] = listening

    def server_down(self, number: int) -> None:
        self._listening.pop(number).close()

    def start(self) -> None:
        config = self._folder / "haproxy.cfg"
        servers = [
            f"    server s{number} 127.0.0.1:{port} check inter 50ms fall 1 rise 1"
            for number, port in enumerate(self._ports)
        ]
        lines = (
            "global",
            "    maxconn 100",
            "defaults",
            "    mode http",
            "    timeout connect 1s",
            "    timeout client 5s",
            "    timeout server 5s",
            "frontend stats",
            f"    bind 127.0.0.1:{self._port}",
            "    stats enable",
            "    stats uri /stats",
            f"    stats auth {USER}:{PASSWORD}",
            f"backend {BACKEND}",
            *servers,
            "backend be_empty",
        )
        config.write_text("\n".join(lines) + "\n")
        self._process = Process("haproxy", (find_program("haproxy"), "-db", "-f", config), self._folder)
        self._process.wait_ready(self._listens)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
        for number in list(self._listening):
            self.server_down(number)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0


@contextmanager
def run_haproxy(folder: Path, *, servers: int = 3) -> Iterator[Haproxy]:
    """An HAProxy that answers, all of its servers listening."""
    haproxy = Haproxy(folder, servers)
    try:
        for number in range(servers):
            haproxy.server_up(number)
        haproxy.start()
        yield haproxy
    finally:
        haproxy.stop()
