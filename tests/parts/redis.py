"""Real redis-servers: one with an append-only file and ACL users, a Sentinel trio, a Cluster of three."""

import secrets
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self, cast
from urllib.parse import quote

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from arborgate.tools.redis.acl import READER_RULES, STATE_RULES

from .install import find_program
from .process import PartFailed, Process, find_free_ports, wait_until

USERS: Mapping[str, tuple[str, ...]] = {
    "admin": ("~*", "&*", "+@all"),
    "arborgate": ("~arborgate:*", *STATE_RULES),
    "reader": READER_RULES,
}
"""Each user and its ACL rules. `admin` is for the tests themselves; `default` is off."""


def make_passwords(users: Mapping[str, tuple[str, ...]] = USERS) -> dict[str, str]:
    """A fresh password for each user."""
    return {user: secrets.token_hex(16) for user in users}


class RedisServer:
    """One redis-server on a loopback port. Its data outlives `stop` and `kill`: `start` finds it again."""

    def __init__(
        self,
        folder: Path,
        *,
        name: str = "redis",
        users: Mapping[str, tuple[str, ...]] = USERS,
        passwords: Mapping[str, str] | None = None,
        port: int | None = None,
        appendfsync: str = "everysec",
        config: tuple[str, ...] = (),
    ) -> None:
        self.host = "127.0.0.1"
        self.port = port or find_free_ports(1)[0]
        self.passwords = dict(passwords or make_passwords(users))
        self._name = name
        self._folder = folder / name
        self._folder.mkdir(parents=True)
        self._config = self._folder / "redis.conf"
        self._config.touch(mode=0o600)
        self._config.write_text(
            "\n".join(
                (
                    f"bind {self.host}",
                    f"port {self.port}",
                    f"dir {self._folder}",
                    'save ""',
                    "appendonly yes",
                    f"appendfsync {appendfsync}",
                    # Off, yet allowed everything: the server loads its own append-only file as this user, and would
                    # pass over every transaction and script in it that the user may not run.
                    "user default off ~* &* +@all",
                    *(f"user {user} on >{self.passwords[user]} {' '.join(rules)}" for user, rules in users.items()),
                    "masteruser admin",
                    f"masterauth {self.passwords['admin']}",
                    "repl-diskless-sync-delay 0",
                    *config,
                )
            )
            + "\n"
        )
        self._process: Process | None = None
        self.admin = self.connect("admin")

    def url(self, user: str = "arborgate", *, database: int = 0) -> str:
        """`redis://user:password@host:port/database`."""
        return f"redis://{user}:{quote(self.passwords[user])}@{self.host}:{self.port}/{database}"

    def connect(self, user: str) -> Redis:
        """A blocking client of this user, to be closed by whoever asked for it; its answers are bytes."""
        return Redis(
            host=self.host,
            port=self.port,
            username=user,
            password=self.passwords[user],
            socket_timeout=5,
            retry=Retry(NoBackoff(), 1),  # once: a server that came back has closed its connections
        )

    def start(self) -> None:
        """Starts the server, or starts it again; returns when it answers."""
        if self._process is not None and self._process.running:
            return
        self._process = Process(self._name, (find_program("redis-server"), self._config), self._folder)
        self._process.wait_ready(self._answers)

    def stop(self) -> None:
        """Ends the server in order: what was written is on disk."""
        self._running_process().stop()

    def kill(self) -> None:
        """Ends the server as a crash would."""
        self._running_process().kill()

    def restart(self) -> None:
        self.stop()
        self.start()

    def pause(self) -> None:
        """Connections stay open and nothing answers, until `resume`."""
        self._running_process().pause()

    def resume(self) -> None:
        self._running_process().resume()

    def refuse_writes(self) -> None:
        """Writes fail with READONLY and reads go on, as after a demotion, until `accept_writes`."""
        run_command(self.admin, "REPLICAOF", self.host, 1)

    def accept_writes(self) -> None:
        run_command(self.admin, "REPLICAOF", "NO", "ONE")

    def recover(self) -> None:
        """Ends every fault above: the server runs, answers and accepts writes."""
        if self._process is not None and self._process.running:
            self._process.resume()
        self.start()
        self.accept_writes()

    def flush(self) -> None:
        """Forgets every key of every database, and every cached script."""
        self.admin.flushall()
        self.admin.script_flush()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.admin.close()
        if self._process is not None:
            self._process.stop()

    def _running_process(self) -> Process:
        if self._process is None:
            raise PartFailed(f"{self._name} was not started")
        return self._process

    def _answers(self) -> bool:
        try:
            return bool(self.admin.ping())
        except (RedisError, OSError):
            return False


@dataclass(frozen=True)
class RedisSentinel:
    """A primary, its replica and the three sentinels that watch them; the sentinels ask for no password."""

    master_name: str
    servers: tuple[RedisServer, RedisServer]
    sentinel_ports: tuple[int, int, int]
    passwords: Mapping[str, str]
    host: str = "127.0.0.1"

    @property
    def sentinels(self) -> tuple[tuple[str, int], ...]:
        """Host and port of each sentinel."""
        return tuple((self.host, port) for port in self.sentinel_ports)

    def find_primary(self) -> RedisServer:
        """The server that all three sentinels call the primary; PartFailed while they do not agree."""
        named = {self._ask(port, "GET-MASTER-ADDR-BY-NAME") for port in self.sentinel_ports}
        for server in self.servers:
            if named == {(server.host.encode(), server.port)}:
                return server
        raise PartFailed(f"the sentinels name {named}")

    def fail_over(self) -> RedisServer:
        """Kills the primary and returns the new one, once every sentinel names it and it takes writes."""
        old = self.find_primary()
        new = next(server for server in self.servers if server is not old)
        wait_until(lambda: _is_in_step(new), "the replica is in step")
        old.kill()
        wait_until(lambda: self._agree_on(new), "the sentinels promote the replica")
        return new

    def recover(self) -> None:
        """Both servers run and answer, and whoever is not the primary is a replica in step with it."""
        for server in self.servers:
            server.start()
        wait_until(lambda: any(map(self._agree_on, self.servers)), "the sentinels agree on a primary")
        wait_until(
            lambda: self._is_whole() and all(map(self._sees_everyone, self.sentinel_ports)),
            "the replica is in step and every sentinel sees the others",
            seconds=60,  # sentinels look at each other anew every 10 s, and two rounds may be needed
        )

    def _is_whole(self) -> bool:
        """Whether the one that is not the primary follows it, in step; it is told to, as the sentinels would in 10 s. Who
        the primary is may change meanwhile, where a promotion was under way."""
        try:
            primary = self.find_primary()
            replica = next(server for server in self.servers if server is not primary)
            if _read_replication(replica)["role"] == "master" and self._agree_on(primary):
                run_command(replica.admin, "REPLICAOF", primary.host, primary.port)
        except PartFailed:
            return False
        return _is_in_step(replica)

    def _agree_on(self, server: RedisServer) -> bool:
        try:
            return self.find_primary() is server and _read_replication(server)["role"] == "master"
        except PartFailed:
            return False

    def _sees_everyone(self, sentinel: int) -> bool:
        facts = cast("dict[str, object]", self._ask(sentinel, "MASTER"))
        return (facts["num-slaves"], facts["num-other-sentinels"], facts["flags"]) == (1, 2, "master")

    def _ask(self, sentinel: int, question: str) -> object:
        with Redis(host=self.host, port=sentinel, socket_timeout=5) as client:
            return run_command(client, f"SENTINEL {question}", self.master_name)


@contextmanager
def run_sentinel(folder: Path, *, master_name: str = "arborgate") -> Iterator[RedisSentinel]:
    """A RedisSentinel, ready: all see each other and the replica is in step."""
    passwords = make_passwords()
    ports = find_free_ports(5)
    with ExitStack() as running:
        primary = running.enter_context(RedisServer(folder, name="primary", passwords=passwords, port=ports[0]))
        replica = running.enter_context(
            RedisServer(
                folder,
                name="replica",
                passwords=passwords,
                port=ports[1],
                config=(f"replicaof {primary.host} {primary.port}",),
            )
        )
        for index, port in enumerate(ports[2:]):
            place = folder / f"sentinel-{index}"
            place.mkdir()
            config = place / "sentinel.conf"
            config.touch(mode=0o600)
            config.write_text(
                f"bind {primary.host}\nport {port}\ndir {place}\n"
                f"sentinel monitor {master_name} {primary.host} {primary.port} 2\n"
                f"sentinel auth-user {master_name} admin\n"
                f"sentinel auth-pass {master_name} {passwords['admin']}\n"
                f"sentinel down-after-milliseconds {master_name} 1000\n"
                f"sentinel failover-timeout {master_name} 3000\n"
            )
            sentinel = Process(f"sentinel-{index}", (find_program("redis-server"), config, "--sentinel"), place)
            running.callback(sentinel.stop)
            sentinel.wait_ready(partial(_listens, primary.host, port))
        trio = RedisSentinel(master_name, (primary, replica), (ports[2], ports[3], ports[4]), passwords)
        trio.recover()
        yield trio


@dataclass(frozen=True)
class RedisCluster:
    """Three primaries that share the slots; the users are the same on each."""

    nodes: tuple[RedisServer, ...]
    passwords: Mapping[str, str] = field(repr=False)

    def url(self, user: str = "arborgate") -> str:
        """URL of the first node, from which a client finds the others."""
        return self.nodes[0].url(user)

    def flush(self) -> None:
        for node in self.nodes:
            node.flush()


@contextmanager
def run_cluster(folder: Path) -> Iterator[RedisCluster]:
    """A RedisCluster, ready: every node knows every slot."""
    passwords = make_passwords()
    ports, bus_ports = find_free_ports(3), find_free_ports(3)
    bounds = (0, 5461, 10923, 16384)
    with ExitStack() as running:
        nodes = tuple(
            running.enter_context(
                RedisServer(
                    folder,
                    name=f"node-{index}",
                    passwords=passwords,
                    port=port,
                    config=("cluster-enabled yes", f"cluster-port {bus}", "cluster-node-timeout 2000"),
                )
            )
            for index, (port, bus) in enumerate(zip(ports, bus_ports, strict=True))
        )
        for index, node in enumerate(nodes):
            run_command(node.admin, "CLUSTER ADDSLOTSRANGE", bounds[index], bounds[index + 1] - 1)
            run_command(node.admin, "CLUSTER SET-CONFIG-EPOCH", index + 1)
            run_command(nodes[0].admin, "CLUSTER MEET", node.host, node.port, bus_ports[index])
        wait_until(lambda: all(map(_is_whole, nodes)), "every node of the cluster knows every slot")
        yield RedisCluster(nodes, passwords)


def run_command(client: Redis, *words: str | int) -> object:
    """What a command without a method of its own answers."""
    untyped: Any = client  # redis-py has no types for it
    answer: object = untyped.execute_command(*words)
    return answer


def _is_whole(node: RedisServer) -> bool:
    state = cast("dict[str, str]", run_command(node.admin, "CLUSTER INFO"))
    return (state["cluster_state"], state["cluster_known_nodes"], state["cluster_size"]) == ("ok", "3", "3")


def _is_in_step(replica: RedisServer) -> bool:
    return _read_replication(replica).get("master_link_status") == "up"


def _read_replication(server: RedisServer) -> dict[str, object]:
    return dict(server.admin.info("replication"))


def _listens(host: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0
