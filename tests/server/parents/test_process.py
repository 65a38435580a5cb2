"""`arborgate parent` as it is run: its own process, its own Redis user, its own look at a real API server."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import orjson
import pytest
import yaml
from redis import Redis
from redis.exceptions import NoPermissionError
from typer.testing import CliRunner

from arborgate.server.approvals import load_key
from arborgate.server.cli_keys import PARENT_PRIVATE, PARENT_PUBLIC, commands
from arborgate.server.parent_statements import parse_keys
from arborgate.server.parent_streams import STATEMENT, asked_key, said_key
from arborgate.tools.proposal import Proposal
from arborgate.tools.redis.acl import parent_rules
from tests.parts.kube import Identity, KubeApi
from tests.parts.process import Process
from tests.parts.redis import RedisServer, run_command
from tests.server.applier.world import PREFIX, until
from tests.server.parents.estate import BANK, SHOP, Estate
from tests.server.parents.office import TEMPLATE

pytestmark = pytest.mark.anyio

STATUS = ("health", "sync", "history", "resources")


@pytest.fixture
def parent_url(redis_server: RedisServer) -> Iterator[str]:
    """The URL of the Redis user that the shop's controller has."""
    password = secrets.token_hex(16)
    rules = parent_rules(SHOP, PREFIX)
    run_command(redis_server.admin, "ACL", "SETUSER", "parent-shop", "reset", "on", f">{password}", *rules)
    yield f"redis://parent-shop:{password}@{redis_server.host}:{redis_server.port}/0"
    run_command(redis_server.admin, "ACL", "DELUSER", "parent-shop")


@pytest.fixture
def cluster(kube_api: KubeApi, estate: Estate) -> Iterator[KubeApi]:
    """The estate's apps in a real API server, where the controller looks for itself."""
    kube_api.recover()
    kube_api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "argocd"}})
    for (kind, _, _), app in estate.world.cluster.objects.items():
        if kind == "Application":
            named = {name: app["metadata"][name] for name in ("name", "namespace", "labels", "annotations")}
            kept = {name: app["status"][name] for name in STATUS}
            kept["history"] = [{**one, "deployedAt": "2026-11-20T10:00:00Z"} for one in kept["history"]]
            compared = {"source": app["spec"]["source"], "destination": app["spec"]["destination"]}
            kept["sync"] = {**kept["sync"], "comparedTo": compared}
            kube_api.apply({**app, "metadata": named, "status": kept})
    yield kube_api
    kube_api.recover()
    kube_api._empty("argocd")


def start(folder: Path, url: str, kube: KubeApi, estate: Estate) -> Process:
    private = orjson.dumps(estate.key.as_dict(private=True))
    for name, content in (("parent.jwk", private), ("template.yaml", yaml.safe_dump(TEMPLATE).encode())):
        (folder / name).touch(mode=0o600)
        (folder / name).write_bytes(content)
    settings: dict[str, Any] = {
        "clusters": [{"name": "main", "kubeconfig": str(kube.kubeconfig(Identity.SERVE)), "namespaces": ["argocd"]}],
        "environments": [{"name": name, "labels": {"env": name}} for name in ("dev", "staging")],
        "state": {"url": url, "prefix": PREFIX, "timeout": 1},
        "controller": {
            "app": SHOP,
            "signing_key_file": str(folder / "parent.jwk"),
            "template_file": str(folder / "template.yaml"),
        },
    }
    (folder / "parent.yaml").write_text(yaml.safe_dump(settings))
    argv = (sys.executable, "-m", "arborgate.server.cli", "parent", "--config", folder / "parent.yaml")
    return Process("parent", argv, folder)


async def test_the_controller_decides_by_its_own_look_and_after_a_kill_goes_on(
    estate: Estate, cluster: KubeApi, parent_url: str, tmp_path: Path
) -> None:
    # The clocks of the test stand still elsewhere; here the controller's own is real, and so the estate's has to be.
    estate.world.clock.now = time.time()
    small = await estate.propose(estate.world.scale("api"))
    large = await estate.propose(estate.world.scale("web", 50))
    for proposal in (small, large):
        await estate.desk.ask(proposal)

    process = start(tmp_path, parent_url, cluster, estate)
    try:
        said = await hear(estate, process, 2)
        process.kill()
        late = await estate.propose(estate.world.restart("api"))
        await estate.desk.ask(late)
        process = start(tmp_path, parent_url, cluster, estate)
        again = await hear(estate, process, 3)
    finally:
        process.stop()

    assert again[:2] == said
    assert (await estate.get(small)).state == "approved"
    assert (await estate.get(large)).state == "proposed"
    assert [detail.split(":")[0] for _, _, detail in estate.answered()] == ["approve", "pass", "approve"]
    assert (await estate.apply(small)).state == "applied"
    assert "so many replicas are not in the budget" in process.output.read_text()


async def hear(estate: Estate, process: Process, count: int) -> list[str]:
    """What the controller has said, once it is so much; the applier hears it."""
    found: list[tuple[str, dict[str, str]]] = []

    async def enough() -> bool:
        assert process.running, process.output.read_text()
        entries = await estate.redis.xrange(said_key(estate.world.state, SHOP))
        found[:] = cast("list[tuple[str, dict[str, str]]]", entries)
        return len(found) >= count

    await until(enough, f"{count} statements of the controller")
    estate.world.clock.now = time.time()
    for entry, fields in found:
        await estate.desk.hear(SHOP, entry, fields[STATEMENT])
    return [fields[STATEMENT] for _, fields in found]


async def test_the_controllers_redis_user_reaches_its_two_streams_and_nothing_else(
    estate: Estate, redis_server: RedisServer, parent_url: str
) -> None:
    proposal: Proposal = await estate.propose(estate.world.scale("api"))
    await estate.desk.ask(proposal)
    state = estate.world.state
    asked, said = asked_key(state, SHOP), said_key(state, SHOP)

    with Redis.from_url(parent_url) as parent:
        assert parent.xread({asked: "0-0"})
        assert parent.xadd(said, {STATEMENT: "x"})
        assert parent.xrange(said)
        refused: list[tuple[str | int, ...]] = [
            ("XADD", asked, "*", "a", "b"),
            ("DEL", said),
            ("XTRIM", said, "MAXLEN", 0),
            ("XREAD", "STREAMS", asked_key(state, BANK), "0"),
            ("XADD", said_key(state, BANK), "*", "a", "b"),
            ("XADD", state.key("work"), "*", "proposal", proposal.id),
            ("HGETALL", state.key("proposal", proposal.id)),
            ("HSET", state.key("proposal", proposal.id), "state", "approved"),
            ("EVAL", "return 1", 0),
            ("KEYS", "*"),
            ("FLUSHALL",),
            ("CONFIG", "GET", "*"),
        ]
        for command in refused:
            with pytest.raises(NoPermissionError):
                run_command(parent, *command)


def test_a_parents_keys_are_made_as_the_applier_and_the_controller_read_them(tmp_path: Path) -> None:
    made = CliRunner().invoke(commands, ["parent", str(tmp_path)])

    key = load_key(tmp_path / PARENT_PRIVATE, "x")
    public = parse_keys((tmp_path / PARENT_PUBLIC).read_bytes(), "x")
    assert made.exit_code == 0
    assert (key.is_private, key.thumbprint() in public) == (True, True)
    assert (tmp_path / PARENT_PRIVATE).stat().st_mode & 0o077 == 0
    assert CliRunner().invoke(commands, ["parent", str(tmp_path)]).exit_code != 0
