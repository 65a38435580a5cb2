"""A secret planted in a random place of a random world never leaves: not in an answer, an error, a record, a log line or
a page, and not in what is kept in Redis, in any encoding that the sources produce.

What can be known for a secret, and so counts, is said in `planting.py`: by its shape, by what stands around it, or by
the name of its place. Two things are no leak: what a request says comes back to its own sender where the protocol
wants it whole (the id of a JSON-RPC request, the address that a login leads back to), and what somebody wrote into
settings and policy files stays in those files.

`ARBORGATE_WORLDS=200` looks at that many random worlds, other ones each time; otherwise the few that CI looks at are
always the same.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import arborgate.server.app as composition
from arborgate.server.redaction import Redactor
from arborgate.tools.all import TOOLS
from arborgate.tools.secrets import Detector, Found
from tests.parts.redis import RedisServer
from tests.redaction import visiting, worlds
from tests.redaction.planting import (
    CUTS,
    ENCODINGS,
    KINDS,
    Form,
    Oracle,
    Planted,
    encodings_of,
    plant,
)
from tests.redaction.product import open_product
from tests.redaction.questions import TEMPLATES

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(3_600)]

PLACES: Mapping[str, Form] = worlds.list_places(
    [rest for *_, rest in worlds.MANIFESTS], worlds.COMMANDS, worlds.WARNINGS, worlds.AWAY, TEMPLATES
)
WORLDS = int(os.environ.get("ARBORGATE_WORLDS", "0"))

NEVER_SHOWN = frozenset(
    {
        "application.annotation",
        "application.condition.at",
        "application.helm.object",
        "application.helm.values",
        "application.last_applied",
        "application.plugin.env",
        "application.source_type",
        "application_set.error",
        "arguments.change.app",
        "arguments.cursor",
        "arguments.environment",
        "arguments.event",
        "arguments.health",
        "arguments.image",
        "arguments.key.foreign",
        "arguments.kind",
        "arguments.label",
        "arguments.limit",
        "arguments.person",
        "arguments.prefix",
        "arguments.since",
        "arguments.source",
        "arguments.tool",
        "arguments.workload",
        "bodies.params",
        "bodies.unfinished",
        "faults.cause",
        "headers.bearer",
        "headers.cookie",
        "headers.dpop",
        "headers.host",
        "headers.origin",
        "headers.proof",
        "headers.scheme",
        "kubeconfig.line",
        "kubeconfig.token",
        "kubeconfig.user",
        "pages.before",
        "pages.code",
        "pages.environment",
        "pages.error",
        "pages.next",
        "pages.path",
        "pages.state",
        "policies.id",
        "policies.text",
        "project.description",
        "refusal.annotation",
        "requests.completion",
        "requests.level",
        "requests.prompt",
        "rollout.condition",
        "settings.number",
        "settings.redis_url",
        "settings.replica",
        "settings.url",
        "settings.value",
        "workload.annotation",
        "workload.args",
        "workload.env",
        "workload.env.text",
        "workload.image",
        "workload.reason",
    }
)
"""Places of which nothing leaves, with redaction or without: they are not read, or refused, or not repeated. They are
planted all the same: who begins to show one of them finds its secrets already there."""


def plants(place: str, form: Form) -> st.SearchStrategy[tuple[str, str, int]]:
    """Kind, encoding and lead of what is planted in a place."""
    return st.tuples(st.sampled_from(sorted(KINDS[form])), st.sampled_from(encodings_of(form)), st.sampled_from(CUTS))


class Plan(dict[str, Planted]):
    """What is planted in each place; said in short when a test fails."""

    def __repr__(self) -> str:
        return f"<{len(self)} planted secrets>"


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """A secret of some kind in some encoding in every place."""
    seed = draw(st.integers(0, 2**32 - 1))
    found = Plan()
    for place, form in PLACES.items():
        kind, encoding, lead = draw(plants(place, form))
        found[place] = plant(place, form, kind, encoding, seed=seed, lead=lead)
    return found


class Untouched(Redactor):
    """Redaction switched off."""

    def clean(self, value: object) -> tuple[object, int]:
        return value, 0

    def clean_text(self, text: str) -> str:
        return text


class Blind(Detector):
    """Finds nothing."""

    def find(self, data: bytes) -> list[Found]:
        return []


@contextmanager
def without_redaction() -> Iterator[None]:
    """All of it is switched off: the engine, and what tools look at by themselves."""
    blind = Blind()
    with (
        patch("arborgate.server.foundation.Redactor", Untouched),
        patch("arborgate.server.redaction.Redactor", Untouched),
        patch("arborgate.tools.secrets.default_detector", lambda: blind),
    ):
        yield


async def find_leaks(
    folder: Path, redis: RedisServer, planted: Mapping[str, Planted], clean: Callable[[str], str]
) -> dict[str, set[str]]:
    """The places whose secret left, and by which channels, after one visit of the world."""
    listed = next(tool for tool in TOOLS if tool.name == "app_list")
    tools = (*TOOLS, visiting.make_broken(listed, planted))
    with patch.object(composition, "TOOLS", tools), visiting.logged(clean) as log:
        async with open_product(folder, redis, planted) as product:
            await visiting.visit(product, planted)
        seen = [*product.seen, *await visiting.start_badly(folder, planted), *visiting.read_kept(folder, redis.admin)]
    seen.append(("log", log.getvalue()))
    assert {"log", "record serve", "record serve-applier", "page /apps"} <= {channel for channel, _ in seen}
    oracle, leaks = Oracle(planted), dict[str, set[str]]()
    for text in {text for _, text in seen}:
        for place in oracle.find(text):
            leaks.setdefault(place, set()).update(channel for channel, other in seen if other == text)
    return leaks


def tell(leaks: Mapping[str, set[str]], planted: Mapping[str, Planted]) -> str:
    return "\n".join(
        f"{place}: {planted[place].kind}, {planted[place].encoding}: {planted[place].text[-300:]!r} left by "
        + ", ".join(sorted(channels)[:6])
        for place, channels in sorted(leaks.items())
    )


@settings(
    max_examples=WORLDS or 6,
    derandomize=not WORLDS,
    deadline=None,
    phases=(Phase.generate,),  # every leak is told with all there is to it: nothing is left to be made smaller
    suppress_health_check=(HealthCheck.data_too_large, HealthCheck.large_base_example, HealthCheck.too_slow),
    database=None,
)
@given(planted=plans())
async def test_a_planted_secret_leaves_by_no_way(
    tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer, planted: Plan
) -> None:
    redis_server.recover()
    leaks = await find_leaks(tmp_path_factory.mktemp("world"), redis_server, planted, Redactor().clean_text)
    assert not leaks, "\n" + tell(leaks, planted)


async def test_without_redaction_every_place_that_is_shown_leaks(tmp_path: Path, redis_server: RedisServer) -> None:
    redis_server.recover()
    planted = {
        place: plant(place, form, "opaque" if form is Form.NAMED else "aws_key_id", "plain", seed=1)
        for place, form in PLACES.items()
    }
    with without_redaction():
        leaks = await find_leaks(tmp_path, redis_server, planted, str)
    assert set(PLACES) - set(leaks) == NEVER_SHOWN
    by_kind = {channel.split()[0] for channels in leaks.values() for channel in channels}
    assert {"mcp", "page", "record", "state", "log", "cli", "terminal", "door"} <= by_kind


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_oracle_reads_every_encoding(encoding: str) -> None:
    planted = {kind: plant(kind, Form.TEXT, kind, encoding, seed=7) for kind in KINDS[Form.TEXT]}
    oracle = Oracle(planted)
    for kind, one in planted.items():
        for text in (one.text, json.dumps({"said": [f"before {one.text} after"]})):
            assert oracle.find(text) == {kind}


def test_the_oracle_finds_six_tenths_of_a_secret_and_less_is_no_leak() -> None:
    planted = {"here": plant("here", Form.WORD, "aws_key_id", "plain", seed=7)}
    (token,), oracle = planted["here"].needles, Oracle(planted)
    for start in range(9):
        assert oracle.find(f"« {token[start : start + 12]} »") == {"here"}
        assert oracle.find(f"« {token[start : start + 11]} »") == set()
