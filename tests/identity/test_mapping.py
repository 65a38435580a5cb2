"""From claims to callers: each issuer's own mapping, and no issuer speaks for another's people."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest
from joserfc.jwk import ECKey, KeySet
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Scope

from arborgate.policies.errors import BadConfiguration
from arborgate.policies.model import ActionGroup, Caller, Channel
from arborgate.server.audit import AuditLog
from arborgate.server.chain import read_records
from arborgate.server.http import Authenticator
from arborgate.server.identity.authentication import Identity
from arborgate.server.identity.callers import caller_of, find_claim, read_groups
from arborgate.server.identity.flaws import Flaw, Unauthenticated
from arborgate.server.identity.membership import GroupsFile
from arborgate.server.identity.roles import RoleMembers
from arborgate.server.identity.settings import Grant, IdentitySettings, IssuerSettings, PagesSettings
from arborgate.server.metrics import Metrics
from arborgate.server.protected import protect_approvals
from tests.server.issuing import AUDIENCE, ISSUER, Issuer

pytestmark = pytest.mark.anyio

OTHER = "https://other.test"
ROLES: RoleMembers = {
    "developer": ("developers", Grant(group="developers", at="live/argocd/shop")),
    "approver": ("approvers", "corp:approvers"),
}


def map_claims(claims: Mapping[str, Any], **settings: Any) -> Caller:
    mapped = {"iss": ISSUER, "sub": "ada", "client_id": "ide", **claims}
    mapped = {name: value for name, value in mapped.items() if value is not None}
    return caller_of(mapped, IssuerSettings.model_validate({"issuer": ISSUER, **settings}), ROLES, Channel.MCP)


def refuse_claims(claims: Mapping[str, Any], **settings: Any) -> str:
    with pytest.raises(Unauthenticated) as refused:
        map_claims(claims, **settings)
    assert refused.value.flaw is Flaw.CLAIMS
    return refused.value.detail


# Where claims are found.


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("plain", 1),
        ("nested.inner", 2),
        ("with.dots", 3),
        ("with.dots.deeper", None),
        ("https://example.test/groups", 4),
        ("https://sts.test/.tags.team.name", 5),
        ("kubernetes.io.namespace", 6),
        ("nested", {"inner": 2}),
        ("nested.nothing", None),
        ("plain.inner", None),
        (".", None),
        ("nothing", None),
    ],
)
def test_a_claim_is_found_by_its_name_or_nested(path: str, found: object) -> None:
    claims = {
        "plain": 1,
        "nested": {"inner": 2},
        "with.dots": 3,
        "https://example.test/groups": 4,
        "https://sts.test/": {"tags": {"team.name": 5}},
        "kubernetes.io": {"namespace": 6},
    }
    assert find_claim(claims, path) == found


def test_each_claim_is_read_where_the_settings_say() -> None:
    caller = map_claims(
        {"oid": "0-1", "person": {"called": "Ada"}, "app": {"id": "bot"}, "https://x.test/groups": ["developers"]},
        subject_claim="oid",
        name_claim="person.called",
        agent_claim="app.id",
        groups_claim="https://x.test/groups",
    )
    assert (caller.subject, caller.name, caller.agent) == ("0-1", "Ada", "bot")
    assert caller.roles == {"developer"}
    assert caller.grants == {("developer", "live/argocd/shop")}


@pytest.mark.parametrize("claim", ["client_id", "azp", "appid", "cid"])
def test_the_agent_is_found_by_the_claim_of_each_provider(claim: str) -> None:
    assert map_claims({"client_id": None, claim: "bot"}).agent == "bot"


def test_an_email_address_counts_only_when_it_is_verified(tmp_path: Path) -> None:
    file = tmp_path / "groups.yaml"
    file.write_text("approvers: [Ada@example.test, '117']\n")
    members, settings = GroupsFile(file), IssuerSettings(issuer=ISSUER)

    def groups(**claims: object) -> frozenset[str]:
        return read_groups({"sub": "x", **claims}, settings, members)

    assert groups(email="ada@example.test", email_verified=True) == {"approvers"}
    assert groups(email="ADA@example.test", email_verified=True) == {"approvers"}
    assert groups(sub="117") == {"approvers"}
    for verified in (None, False, "true", 1, [True]):
        assert groups(email="ada@example.test", email_verified=verified) == frozenset()
    assert groups(email="117", email_verified=True) == frozenset()
    assert groups(email=["ada@example.test"], email_verified=True) == frozenset()


def test_an_email_address_is_a_subject_only_when_it_is_verified() -> None:
    claims = {"email": "ada@example.test"}
    assert map_claims({**claims, "email_verified": True}, subject_claim="email").subject == "ada@example.test"
    assert refuse_claims(claims, subject_claim="email") == "email"
    assert refuse_claims({**claims, "email_verified": "true"}, subject_claim="email") == "email"


# Issuers and each other's people.


async def test_the_same_subject_of_two_issuers_is_two_people() -> None:
    one, other = Issuer(), Issuer()
    async with one.client, other.client:
        settings = IdentitySettings(issuers=(IssuerSettings(issuer=ISSUER),))
        first = await Identity(settings, ROLES, client=one.client).authenticate(one.token(), audience=AUDIENCE)
        other.metadata = {"issuer": OTHER, "jwks_uri": f"{OTHER}/jwks"}
        settings = IdentitySettings(issuers=(IssuerSettings(issuer=OTHER),))
        identity = Identity(settings, ROLES, client=other.client)
        second = await identity.authenticate(other.token(iss=OTHER), audience=AUDIENCE)
    assert first.subject == second.subject
    assert first.key != second.key


async def test_an_issuers_key_signs_for_no_other_issuer() -> None:
    """Both are trusted, and each has a key by the same name."""
    own = {name: ECKey.generate_key("P-256", {"kid": "k1"}) for name in (ISSUER, OTHER)}

    async def publish(request: Request) -> Response:
        key = own[f"https://{request.url.hostname}"]
        return JSONResponse(KeySet([key]).as_dict(private=False))

    app = Starlette(routes=[Route("/jwks", publish)])
    issuers = tuple(IssuerSettings(issuer=name, jwks_url=f"{name}/jwks") for name in own)
    signing = Issuer()
    async with signing.client, httpx2.AsyncClient(transport=httpx2.ASGITransport(app)) as client:
        identity = Identity(IdentitySettings(issuers=issuers), ROLES, client=client)
        for named in own:
            for signer, key in own.items():
                token = signing.sign(signing.claims(iss=named), key=key)
                if signer == named:
                    assert (await identity.authenticate(token, audience=AUDIENCE)).issuer == named
                    continue
                with pytest.raises(Unauthenticated) as refused:
                    await identity.authenticate(token, audience=AUDIENCE)
                assert refused.value.flaw is Flaw.SIGNATURE


def test_an_issuer_cannot_be_named_so_that_it_speaks_for_another() -> None:
    for name in (f"{ISSUER}#ada", f"{ISSUER}?x", "https://ada@issuer.test"):
        with pytest.raises(ValueError, match="no query, no fragment"):
            IdentitySettings(issuers=(IssuerSettings(issuer=name),))


@pytest.mark.parametrize("login", [ISSUER, OTHER])
async def test_the_approvals_open_to_the_issuer_alone_that_people_log_in_at(
    issuer: Issuer, tmp_path: Path, login: str
) -> None:
    settings = IdentitySettings(issuers=(IssuerSettings(issuer=ISSUER), IssuerSettings(issuer=OTHER)))
    approvals = protect_approvals("https://arborgate.test", settings, PagesSettings(issuer=login))
    token = issuer.token(aud=approvals.audience, client_id="arborgate-terminal")
    headers = [(b"authorization", f"Bearer {token}".encode())]
    scope: Scope = {"type": "http", "method": "GET", "path": "/approvals", "headers": headers}
    async with AuditLog.open(tmp_path, "serve-1") as log:
        identity = Identity(settings, ROLES, client=issuer.client)
        found = await Authenticator(identity, log, Metrics(), approvals).authenticate(scope)
        outcomes = [record.outcome for record, _ in read_records(log.path)]
    if login == ISSUER:
        assert isinstance(found, Caller)
    else:
        assert isinstance(found, Response)
        assert (found.status_code, outcomes[-1]) == (401, "issuer")


def test_a_prefix_keeps_the_groups_of_one_issuer_from_being_anothers() -> None:
    assert map_claims({"groups": ["approvers"]}).roles == {"approver"}
    assert map_claims({"groups": ["approvers"]}, group_prefix="lab:").roles == frozenset()
    caller = map_claims({"groups": ["approvers"]}, group_prefix="corp:")
    assert caller.groups == {"corp:approvers"}
    assert caller.roles == {"approver"}


def test_a_prefix_can_not_be_spoken_past() -> None:
    assert map_claims({"groups": ["corp:approvers"]}, group_prefix="lab:").roles == frozenset()


def test_the_groups_of_a_file_are_behind_the_prefix_too(tmp_path: Path) -> None:
    file = tmp_path / "groups.yaml"
    file.write_text("approvers: [ada]\n")
    settings = IssuerSettings(issuer=ISSUER, group_prefix="lab:")
    assert read_groups({"sub": "ada"}, settings, GroupsFile(file)) == {"lab:approvers"}


def test_the_callers_of_an_issuer_have_no_roles_but_those_it_may_give() -> None:
    both = {"groups": ["approvers", "developers"]}
    assert map_claims(both).roles == {"approver", "developer"}
    assert map_claims(both, roles=["approver"]).roles == {"approver"}
    assert map_claims(both, roles=["approver"]).grants == frozenset()
    assert map_claims(both, roles=[]).roles == frozenset()
    assert map_claims(both, roles=["unheard-of"]).roles == frozenset()


def test_an_issuer_named_elsewhere_in_the_token_changes_nothing() -> None:
    nested = {"act": {"sub": "bot", "iss": OTHER}, "original": {"iss": OTHER}, "may_act": {"iss": OTHER, "sub": "eve"}}
    assert map_claims(nested).key == f"{ISSUER}#ada"
    assert map_claims({**nested, "iss": OTHER}).key == f"{ISSUER}#ada"


# Who acts.


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": "ide"},
        {"client_id": "other", "azp": "ada"},
        {"client_id": None, "cid": "ada"},
        {"idtyp": "app"},
        {"gty": "client-credentials"},
        {"gty": ["client-credentials"]},
        {"client_id": None, "azp": "Shop-Bot", "preferred_username": "service-account-shop-bot"},
    ],
    ids=str,
)
def test_an_app_that_acts_for_itself_is_told_from_a_person(claims: dict[str, Any]) -> None:
    assert map_claims(claims).itself


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"client_id": None},
        {"idtyp": "user"},
        {"gty": "password"},
        {"preferred_username": "service-account-other"},
        {"client_id": None, "preferred_username": "service-account-"},
        {"sub": "ide", "act": {"sub": "bot"}},
    ],
    ids=str,
)
def test_a_person_is_no_app(claims: dict[str, Any]) -> None:
    assert not map_claims(claims).itself


def test_the_callers_of_an_issuer_of_services_are_never_people() -> None:
    assert map_claims({}, services=True).itself
    assert map_claims({"act": {"sub": "bot"}}, services=True).itself


def test_a_chain_of_actors_names_the_current_one_first() -> None:
    caller = map_claims({"act": {"sub": "desk", "act": {"client_id": "bot", "iss": OTHER}}, "may_act": {"sub": "eve"}})
    assert caller.actors == ("desk", "bot")


def chain(length: int) -> dict[str, Any]:
    act: dict[str, Any] = {}
    for number in range(length):
        act = {"act": {"sub": f"actor-{number}", **act}}
    return act


def test_a_chain_of_eight_actors_is_whole_and_one_of_nine_is_refused() -> None:
    assert len(map_claims(chain(8)).actors) == 8
    assert refuse_claims(chain(9)) == "act"


@pytest.mark.parametrize(
    "act",
    [
        *("bot", 7, [], [{"sub": "bot"}], {}, {"sub": ""}, {"sub": 7}, {"sub": ["bot"]}, {"sub": "b\nt"}),
        *({"sub": "bot", "act": "x"}, {"sub": "bot", "act": None}, {"act": {"sub": "bot"}}, {"sub": "b\u202et"}),
    ],
    ids=repr,
)
def test_a_malformed_actor_is_refused(act: object) -> None:
    assert refuse_claims({"act": act}) == "act"


@pytest.mark.parametrize("bad", ["a\nb", "a\x00b", "\x1b[31ma", "a\u202eb", "a\u200bb", "a" * 513], ids=repr)
def test_a_name_that_hides_something_is_refused_where_it_tells_people_apart(bad: str) -> None:
    assert refuse_claims({"sub": bad}) == "sub"
    assert refuse_claims({"client_id": bad}) == "client_id"
    assert refuse_claims({"groups": ["developers", bad]}) == "groups"
    assert refuse_claims({"act": {"sub": bad}}) == "act"
    assert map_claims({"acr": bad}).acr == ""


def test_an_agent_that_is_no_text_is_refused() -> None:
    assert refuse_claims({"client_id": ["ide"]}) == "client_id"
    assert refuse_claims({"client_id": None, "azp": {"a": 1}}) == "azp"


def test_a_name_for_showing_is_cleaned() -> None:
    assert map_claims({"name": "Ada\n\x1b[31mLove\u202elace\t!"}).name == "Ada Lovelace !"
    assert map_claims({"name": "\u200b"}).name == "ada"
    assert map_claims({"name": ["Ada"]}).name == "ada"


def test_groups_that_are_too_many_for_the_token_are_not_taken_for_none() -> None:
    assert refuse_claims({"_claim_names": {"groups": "src1"}}).startswith("groups")
    assert map_claims({"_claim_names": {"other": "src1"}}).groups == frozenset()


def test_a_login_is_as_strong_and_as_old_as_the_provider_says() -> None:
    caller = map_claims({"acr": "urn:mfa", "auth_time": 1_700_000_000})
    assert (caller.acr, caller.authenticated_at) == ("urn:mfa", 1_700_000_000)
    assert map_claims({"acr": ["urn:mfa"]}).acr == ""
    assert refuse_claims({"auth_time": "1700000000"}) == "auth_time"


@pytest.mark.parametrize(
    "claims",
    [{"scope": "openid read"}, {"scp": "openid read"}, {"scp": ["openid", "read"]}, {"scope": "x", "scp": ["read"]}],
    ids=str,
)
def test_a_scope_is_held_however_it_is_written(claims: dict[str, Any]) -> None:
    scopes = {"read": "read", "propose": "arborgate:propose"}
    assert map_claims(claims, scopes=scopes).withheld == ((ActionGroup.PROPOSE, "arborgate:propose"),)


def test_a_scope_is_not_held_by_being_part_of_another() -> None:
    assert map_claims({"scope": "read_all unread"}, scopes={"read": "read"}).withheld == ((ActionGroup.READ, "read"),)
    assert map_claims({"scope": 7}, scopes={"read": "read"}).withheld == ((ActionGroup.READ, "read"),)
    assert map_claims({}).withheld == ()


# Groups from a file.


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("- a\n", 1),
        ("a: [x]\nb: x\n", 2),
        ("a: [x]\na: [y]\n", 2),
        ("a:\n  - x\n  - [y]\n", 3),
        ("a:\n  - x\n  -\n", 3),
        ('a: ["x\\ny"]\n', 1),
        ("a: [x]\n? [b]\n: [x]\n", 2),
        ("a: [x\nb: [y]\n", 2),
    ],
    ids=repr,
)
def test_a_mistake_in_a_groups_file_is_told_with_its_line(tmp_path: Path, text: str, line: int) -> None:
    file = tmp_path / "groups.yaml"
    file.write_text(text)
    with pytest.raises(BadConfiguration) as told:
        GroupsFile(file)
    assert str(told.value).startswith(f"{file}:{line}: ")


@pytest.mark.parametrize("content", [b"\xff\xfe\xff", b"a: [\x00]\n", None])
def test_a_groups_file_that_can_not_be_read_refuses_to_start(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "groups.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(BadConfiguration):
        Identity(
            IdentitySettings(issuers=(IssuerSettings(issuer=ISSUER, groups_file=file),)), {}, client=Issuer().client
        )


def test_an_empty_groups_file_names_nobody(tmp_path: Path) -> None:
    file = tmp_path / "groups.yaml"
    file.write_text("# nobody yet\n")
    assert GroupsFile(file).groups_of("ada", "") == frozenset()


async def test_a_groups_file_is_read_again_when_it_changes_and_kept_on_a_mistake(tmp_path: Path) -> None:
    file = tmp_path / "groups.yaml"
    file.write_text("approvers: [ada]\n")
    members = GroupsFile(file)
    assert not await members.refresh()
    file.write_text("approvers: [ben, bea]\n")
    assert await members.refresh()
    assert members.groups_of("ada", "") == frozenset()
    assert members.groups_of("ben", "") == {"approvers"}
    file.write_text("approvers: nobody at all\n")
    assert not await members.refresh()
    assert members.groups_of("ben", "") == {"approvers"}
    file.unlink()
    assert not await members.refresh()
    assert members.groups_of("ben", "") == {"approvers"}


async def test_who_leaves_a_group_in_the_file_loses_it_with_the_token_they_have(
    issuer: Issuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arborgate.server.identity.membership._LOOK_SECONDS", 0.001)
    file = tmp_path / "groups.yaml"
    file.write_text("approvers: [ada]\n")
    settings = IdentitySettings(issuers=(IssuerSettings(issuer=ISSUER, groups_file=file),))
    identity = Identity(settings, ROLES, client=issuer.client)
    token = issuer.token(groups=None)
    watching = asyncio.create_task(identity.watch())
    try:
        assert (await identity.authenticate(token, audience=AUDIENCE)).roles == {"approver"}
        new = tmp_path / "new"
        new.write_text("approvers: []\n")
        new.replace(file)
        async with asyncio.timeout(5):
            while (await identity.authenticate(token, audience=AUDIENCE)).roles:
                await asyncio.sleep(0.005)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    assert issuer.fetches == 1
