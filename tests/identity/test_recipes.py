"""The pages about providers: their settings are settings, and their example tokens are the callers that they promise."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from joserfc import jws
from joserfc.jwk import ECKey, KeySet, RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from arborgate.policies.model import AgentTrust, Caller
from arborgate.server.identity.authentication import Identity, Safeguards
from arborgate.server.identity.callers import identify
from arborgate.server.identity.flaws import Flaw, Unauthenticated
from arborgate.server.identity.membership import GroupsFile
from arborgate.server.identity.presenting import BEARER, Presented, Scheme
from arborgate.server.settings import Settings, parse_settings

pytestmark = pytest.mark.anyio

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted([DOCS / "identity.md", *DOCS.glob("identity/*.md")])
NOW = 1_795_000_001
TESTED = re.compile(r"\ATested: .*`tests/|\ANot tested here: written from .* documentation \(\w+ 20\d\d\)")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its language and the word behind it, which says what the block is."""

    page: str
    kind: str
    text: str


@cache
def blocks(page: Path) -> tuple[Block, ...]:
    found = re.findall(r"^( *)```([a-z ]+)\n(.*?)^\1```", page.read_text(), re.MULTILINE | re.DOTALL)
    return tuple(Block(page.name, kind, textwrap.dedent(text)) for _, kind, text in found)


def of_kind(kind: str, *pages: Path) -> list[Block]:
    return [block for page in pages or PAGES for block in blocks(page) if block.kind == kind]


@dataclass(frozen=True)
class Example:
    """A documented token with the settings of its page, the groups file if it has one, and who the page says it is."""

    settings: Settings
    groups: str
    claims: Mapping[str, Any]
    caller: Mapping[str, Any]


def examples() -> list[Any]:
    found = []
    for page in PAGES:
        claims, callers = of_kind("json claims", page), of_kind("yaml caller", page)
        assert len(claims) == len(callers), page.name
        if not claims:
            continue
        settings = parse_settings(yaml.safe_load(of_kind("yaml", page)[0].text))
        groups = "".join(block.text for block in of_kind("yaml groups", page))
        for number, (said, caller) in enumerate(zip(claims, callers, strict=True)):
            example = Example(settings, groups, json.loads(said.text), yaml.safe_load(caller.text))
            found.append(pytest.param(example, id=f"{page.stem}-{number}"))
    return found


def each_example() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("example", examples())


class Impostor:
    """Answers as whatever issuer is asked for, with its own keys; what it signs is only as good as the claims."""

    def __init__(self) -> None:
        self.keys: dict[str, ECKey | RSAKey] = {
            "RS256": RSAKey.generate_key(2048, {"kid": "RS256", "use": "sig", "alg": "RS256"}),
            "ES256": ECKey.generate_key("P-256", {"kid": "ES256", "use": "sig", "alg": "ES256"}),
            "ES384": ECKey.generate_key("P-384", {"kid": "ES384", "use": "sig", "alg": "ES384"}),
        }

    async def answer(self, request: Request) -> Response:
        base, _, asked = str(request.url).partition("/.well-known/")
        if asked:
            return JSONResponse({"issuer": base, "jwks_uri": f"{base}/jwks"})
        return JSONResponse(KeySet(list(self.keys.values())).as_dict(private=False))

    def sign(self, claims: Mapping[str, Any], algorithm: str, kind: str) -> str:
        header = {"alg": algorithm, "kid": algorithm, "typ": kind}
        return jws.serialize_compact(header, json.dumps(claims), self.keys[algorithm], algorithms=[algorithm])


IMPOSTOR = Impostor()


class Trusting:
    """Takes every proof for one by the key that the token is bound to."""

    async def check(self, presented: Presented, token: str, *, bound_to: str | None, nonce: bool) -> str:
        return bound_to or ""


async def judge(example: Example, folder: Path, **changes: Any) -> Caller:
    """The caller of the example's token, with some claims changed, by the page's own settings."""
    groups = folder / "groups.yaml"
    groups.write_text(example.groups)
    identity = example.settings.identity
    issuers = tuple(
        one.model_copy(
            update={
                "ca_file": None,
                "jwks_token_file": None,
                "groups_file": groups if one.groups_file else None,
            }
        )
        for one in identity.issuers
    )
    named = {one.issuer: one for one in issuers}
    issuer = named[example.claims["iss"]]
    kind = "at+jwt" if issuer.tokens == "at+jwt" else "JWT"
    algorithm = "ES256" if "ES256" in issuer.algorithms else issuer.algorithms[0]
    token = IMPOSTOR.sign({**example.claims, **changes}, algorithm, kind)
    app = Starlette(routes=[Route("/{path:path}", IMPOSTOR.answer)])
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app)) as client:
        judging = Identity(
            identity.model_copy(update={"issuers": issuers}),
            example.settings.roles,
            client=client,
            safeguards=Safeguards(proofs=Trusting()),
            clock=lambda: NOW,
        )
        url = f"{example.settings.http.url}/mcp"
        presented = Presented(Scheme.DPOP, "proof", "POST", url) if "cnf" in example.claims else BEARER
        return await judging.authenticate(token, audience=url, presented=presented)


@each_example()
async def test_the_agents_of_a_documented_token_are_ones_that_its_page_trusts(example: Example, tmp_path: Path) -> None:
    caller = await judge(example, tmp_path)

    assert example.settings.agents.trust(caller.agent, caller.actors, direct=False) is AgentTrust.TRUSTED


@each_example()
async def test_a_documented_token_is_the_caller_that_its_page_promises(example: Example, tmp_path: Path) -> None:
    caller = await judge(example, tmp_path)
    assert {
        "key": caller.key,
        "name": caller.name,
        "agent": caller.agent,
        "actors": list(caller.actors),
        "groups": sorted(caller.groups),
        "roles": sorted(caller.roles),
        "itself": caller.itself,
        "binding": str(caller.binding),
    } == example.caller


@pytest.mark.parametrize("page", [page for page in PAGES if of_kind("json login", page)], ids=lambda page: page.stem)
def test_who_logs_in_at_the_pages_is_who_asks_through_an_agent(page: Path) -> None:
    settings = parse_settings(yaml.safe_load(of_kind("yaml", page)[0].text)).identity
    (login,), caller = of_kind("json login", page), yaml.safe_load(of_kind("yaml caller", page)[0].text)
    assert settings.pages
    claims = json.loads(login.text)
    found = identify(claims, settings.pages_issuer(settings.pages))
    assert (claims["aud"], f"{claims['iss']}#{found.subject}") == (settings.pages.client_id, caller["key"])
    assert (sorted(found.groups), found.name) == (caller["groups"], "Ada Lovelace")


@each_example()
async def test_a_documented_token_for_somebody_else_is_refused(example: Example, tmp_path: Path) -> None:
    with pytest.raises(Unauthenticated) as refused:
        await judge(example, tmp_path, aud="https://another.example.com/mcp")
    assert refused.value.flaw is Flaw.AUDIENCE


@each_example()
@pytest.mark.parametrize("suffix", ["/", ".evil.example.com", "?", "#"])
async def test_an_issuer_that_is_named_nearly_like_it_is_refused(example: Example, tmp_path: Path, suffix: str) -> None:
    with pytest.raises(Unauthenticated) as refused:
        await judge(example, tmp_path, iss=f"{example.claims['iss']}{suffix}")
    assert refused.value.flaw is Flaw.ISSUER


@each_example()
async def test_a_documented_token_that_lives_longer_than_its_page_allows_is_refused(
    example: Example, tmp_path: Path
) -> None:
    with pytest.raises(Unauthenticated) as refused:
        await judge(example, tmp_path, exp=NOW + 86_400 * 3)
    assert refused.value.flaw is Flaw.LIFETIME


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_settings_of_a_page_are_settings(page: Path) -> None:
    found = of_kind("yaml", page)
    assert found
    for block in found:
        parse_settings(yaml.safe_load(block.text), origin=block.page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_other_blocks_of_a_page_are_what_they_say(page: Path, tmp_path: Path) -> None:
    for block in of_kind("yaml groups", page):
        (tmp_path / "groups.yaml").write_text(block.text)
        GroupsFile(tmp_path / "groups.yaml")
    for block in of_kind("yaml kubernetes", page):
        assert all(manifest["apiVersion"] for manifest in yaml.safe_load_all(block.text))
    kinds = {"yaml", "yaml groups", "yaml kubernetes", "yaml caller", "json claims", "json login", "sh", "text"}
    assert {block.kind for block in blocks(page)} <= kinds


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent.name == "identity"], ids=lambda page: page.stem)
def test_a_page_says_first_whether_it_was_tested(page: Path) -> None:
    said = page.read_text().split("\n\n")[1].replace("\n", " ")
    assert TESTED.match(said), said
    assert "tests/identity/test_recipes.py" in said


def test_the_thumbprint_of_the_example_is_one_of_a_key() -> None:
    """RFC 7638: 32 bytes in base64url without padding."""
    for block in of_kind("json claims"):
        bound = json.loads(block.text).get("cnf", {}).get("jkt")
        assert bound is None or len(base64.urlsafe_b64decode(f"{bound}=")) == hashlib.sha256().digest_size
