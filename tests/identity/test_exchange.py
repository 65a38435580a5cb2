"""Token exchange: a controller gets less than it has, for one child app, and nobody else gets anything."""

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from arborgate.policies.errors import BadConfiguration, Refused, Unrecorded
from arborgate.policies.model import Action, ActionGroup, Channel
from arborgate.server.identity.child_tokens import ChildTokens
from arborgate.server.identity.exchange import ACCESS_TOKEN, EXCHANGE_PATH, GRANT_TYPE
from arborgate.server.identity.flaws import Flaw, Unauthenticated
from arborgate.server.identity.presenting import Presented, Scheme
from arborgate.server.identity.settings import ExchangeSettings, IssuerSettings
from arborgate.tools.record import Event, Record
from tests.identity.exchanging import CHILD, ROLES, SHOP, URL, Replica, open_replicas
from tests.identity.proving import Prover, encode
from tests.server.issuing import ISSUER
from tests.tools.world import make_app

pytestmark = pytest.mark.anyio

KEY = f"{ISSUER}#shop-controller"


@pytest.fixture
async def replica(tmp_path: Path, redis_url: str, anyio_backend: str) -> AsyncIterator[Replica]:
    async with open_replicas(tmp_path, redis_url) as (one,):
        yield one


@pytest.fixture
def prover() -> Prover:
    return Prover()


def claims_of(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    return dict(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))))


def exchanges(replica: Replica) -> list[Record]:
    return [record for record in replica.world.records.written if record.event is Event.TOKEN_EXCHANGED]


async def test_a_controller_gets_a_token_that_says_all_that_is_known_of_it(replica: Replica, prover: Prover) -> None:
    answer = await replica.exchange(replica.controller(), prover, scope="read propose")
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    told = answer.json()
    claims = claims_of(told.pop("access_token"))
    assert told == {
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "token_type": "DPoP",
        "expires_in": 300,
        "scope": "propose read",
    }
    begins = claims.pop("iat")
    assert claims.pop("exp") - begins == 300
    assert len(claims.pop("jti")) >= 16
    assert claims == {
        "iss": URL,
        "sub": KEY,
        "aud": f"{URL}/mcp",
        "client_id": "shop-controller",
        "act": {"sub": KEY},
        "cnf": {"jkt": prover.thumbprint},
        "scope": "propose read",
        "groups": ["shop-controllers"],
        "app": CHILD,
        "orig": {"iss": ISSUER, "sub": "shop-controller", "name": "Shop controller", "agent": "shop-controller"},
    }


async def test_the_exchange_is_on_record_with_the_policy_that_allowed_it(replica: Replica, prover: Prover) -> None:
    token = await replica.child_token(prover)
    (record,) = exchanges(replica)
    assert (record.caller, record.agent, record.action) == (KEY, "shop-controller", "token:exchange")
    assert (record.resource, record.decision, record.outcome) == (f"App::{CHILD}", "allow", "ok")
    assert record.policies == ("controllers-exchange-tokens",)
    assert f"jti {claims_of(token)['jti']}" in record.detail


async def test_an_exchange_on_record_names_the_question_that_was_decided(replica: Replica, prover: Prover) -> None:
    await replica.child_token(prover)
    await replica.exchange(replica.controller(groups=["viewers"]), prover)
    granted, denied = exchanges(replica)
    for record in (granted, denied):
        assert record.question is not None
        assert replica.world.engine.answer(record.question).policies == record.policies
    assert (granted.decision, denied.decision) == ("allow", "deny")


async def test_a_token_leaves_only_once_it_is_on_record(
    replica: Replica, prover: Prover, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(_entry: object) -> Record:
        raise Unrecorded("The disk is full.")

    monkeypatch.setattr(replica.world.records, "write", refuse)
    answer = await replica.exchange(replica.controller(), prover)
    assert (answer.status_code, answer.json()["error"]) == (503, "temporarily_unavailable")
    assert "access_token" not in answer.json()


async def test_the_token_opens_its_child_and_nothing_else(replica: Replica, prover: Prover) -> None:
    token = await replica.child_token(prover)
    inside = await replica.call(token, prover, app=CHILD)
    assert inside.json()["result"]["structuredContent"]["app"] == CHILD
    for other in (SHOP, "main/argocd/payments", "main/argocd/bank"):
        outside = await replica.call(token, prover, app=other)
        assert outside.json()["result"]["isError"], other
    listed = await replica.call(token, prover, "app_list")
    assert [row["app"] for row in listed.json()["result"]["structuredContent"]["apps"]] == [CHILD]
    calls = [record for record in replica.world.records.written if record.tool == "app_get"]
    assert {(record.caller, record.agent, record.actors) for record in calls} == {(KEY, "shop-controller", (KEY,))}
    assert [record.decision for record in calls] == ["allow", "deny", "deny", "deny"]


async def test_the_caller_is_the_same_one_with_less(replica: Replica, prover: Prover) -> None:
    token = await replica.child_token(prover)
    caller = await replica.authenticate(token, prover)
    assert (caller.key, caller.within, caller.itself, caller.channel) == (KEY, CHILD, True, Channel.MCP)
    assert (caller.name, caller.agent, caller.actors) == ("Shop controller", "shop-controller", (KEY,))
    assert caller.grants == {(role, SHOP) for role in ROLES}
    assert {group for group, _ in caller.withheld} == set(ActionGroup) - {ActionGroup.READ}
    assert caller.binding.bound


async def test_the_token_is_of_no_use_without_its_key(replica: Replica, prover: Prover) -> None:
    token = await replica.child_token(prover)
    stolen = await replica.call(token, Prover(), app=CHILD)
    bare = await replica.http.post("/mcp", headers={"Authorization": f"Bearer {token}"}, content=b"{}")
    assert (stolen.status_code, bare.status_code) == (401, 401)
    assert 'error="invalid_dpop_proof"' in stolen.headers["www-authenticate"]


async def test_the_token_opens_mcp_and_never_the_approvals(replica: Replica, prover: Prover) -> None:
    token = await replica.child_token(prover)
    for audience in (f"{URL}/approvals", f"{URL}/mcp"):
        with pytest.raises(Unauthenticated) as refused:
            await replica.authenticate(token, prover, audience=audience, channel=Channel.TERMINAL)
        assert refused.value.flaw is Flaw.AUDIENCE


async def test_a_proof_is_good_for_one_exchange(replica: Replica, prover: Prover) -> None:
    proof = replica.prove(prover, EXCHANGE_PATH)
    first, second = [await replica.exchange(replica.controller(), prover, proof=proof) for _ in range(2)]
    assert (first.status_code, second.status_code) == (200, 400)
    assert second.json()["error"] == "invalid_dpop_proof"


@pytest.mark.parametrize("path", ["/mcp", "/token", "/token/exchange/"])
async def test_a_proof_for_another_place_is_none(replica: Replica, prover: Prover, path: str) -> None:
    answer = await replica.exchange(replica.controller(), prover, proof=replica.prove(prover, path))
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_dpop_proof")


async def test_without_a_proof_there_is_no_token(replica: Replica, prover: Prover) -> None:
    answer = await replica.exchange(replica.controller(), prover, proof="")
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_dpop_proof")
    assert replica.world.records.written[-1].event is Event.CALLER_REJECTED


@pytest.mark.parametrize("first", ["", "another"])
async def test_two_proofs_are_none(replica: Replica, prover: Prover, first: str) -> None:
    form = {"grant_type": GRANT_TYPE, "subject_token": replica.controller(), "audience": CHILD}
    form |= {"subject_token_type": ACCESS_TOKEN}
    headers = [("DPoP", first), ("DPoP", replica.prove(prover, EXCHANGE_PATH))]
    answer = await replica.http.post(EXCHANGE_PATH, data=form, headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_dpop_proof")


async def test_a_token_that_is_bound_to_a_certificate_needs_it(replica: Replica, prover: Prover) -> None:
    certificate = b"any bytes will do"
    x5t = encode(hashlib.sha256(certificate).digest())
    token = replica.controller(cnf={"x5t#S256": x5t})
    answer = await replica.exchange(token, prover)
    assert (answer.status_code, replica.world.records.written[-1].outcome) == (400, "certificate")
    proof = replica.prove(prover, EXCHANGE_PATH)
    presented = Presented(Scheme.DPOP, proof, "POST", f"{URL}{EXCHANGE_PATH}", certificate)
    vouched = await replica.identity.vouch(token, audience=f"{URL}/mcp", presented=presented)
    assert vouched.thumbprint == prover.thumbprint


async def test_a_bound_token_is_exchanged_by_the_holder_of_its_key_alone(replica: Replica, prover: Prover) -> None:
    token = replica.controller(cnf={"jkt": prover.thumbprint})
    other = await replica.exchange(token, Prover())
    assert (other.status_code, other.json()["error"]) == (400, "invalid_dpop_proof")
    assert (await replica.exchange(token, prover)).status_code == 200


async def test_a_nonce_is_asked_for_where_the_issuer_asks_for_one(tmp_path: Path, redis_url: str) -> None:
    prover = Prover()
    async with open_replicas(tmp_path, redis_url, issuer={"dpop_nonce": True}) as (replica,):
        asked = await replica.exchange(replica.controller(), prover)
        assert (asked.status_code, asked.json()["error"]) == (400, "use_dpop_nonce")
        proof = replica.prove(prover, EXCHANGE_PATH, nonce=asked.headers["dpop-nonce"])
        made = await replica.exchange(replica.controller(), prover, proof=proof)
        refused = await replica.call(made.json()["access_token"], prover, app=CHILD)
    assert 'error="use_dpop_nonce"' in refused.headers["www-authenticate"]  # the new token is no way round it


async def test_before_the_tree_is_read_the_controller_is_told_to_come_again(replica: Replica, prover: Prover) -> None:
    replica.world.tree.replace("main", [])
    answer = await replica.exchange(replica.controller(), prover)
    assert (answer.status_code, answer.json()["error"]) == (503, "temporarily_unavailable")


async def test_an_unbound_token_is_not_taken_where_the_issuer_binds(tmp_path: Path, redis_url: str) -> None:
    prover = Prover()
    async with open_replicas(tmp_path, redis_url, issuer={"require_dpop": True}) as (replica,):
        refused = await replica.exchange(replica.controller(), prover)
        assert (refused.status_code, refused.json()["error"]) == (400, "invalid_request")
        bound = replica.controller(cnf={"jkt": prover.thumbprint})
        assert (await replica.exchange(bound, prover)).status_code == 200


async def test_a_child_token_can_not_be_exchanged_again(replica: Replica, prover: Prover) -> None:
    token = await replica.child_token(prover)
    answer = await replica.exchange(token, prover)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert exchanges(replica)[-1].decision == "deny"


async def test_the_token_ends_with_the_one_it_was_made_of(replica: Replica, prover: Prover) -> None:
    now = int(replica.clock())
    answer = await replica.exchange(replica.controller(exp=now + 40), prover)
    assert 38 <= answer.json()["expires_in"] <= 40
    token = answer.json()["access_token"]
    assert (await replica.call(token, prover, app=CHILD)).status_code == 200
    replica.clock.ahead = 52
    ended = await replica.call(token, prover, app=CHILD)
    assert (ended.status_code, replica.world.records.written[-1].outcome) == (401, "expired")


@pytest.mark.parametrize("changes", [{"exp": 1}, {"aud": f"{URL}/approvals"}, {"iss": "https://evil.test"}])
async def test_a_subject_token_that_opens_nothing_is_exchanged_for_nothing(
    replica: Replica, prover: Prover, changes: dict[str, Any]
) -> None:
    answer = await replica.exchange(replica.controller(**changes), prover)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert (answer.headers["cache-control"], answer.headers["pragma"]) == ("no-store", "no-cache")
    assert replica.world.records.written[-1].event is Event.CALLER_REJECTED


async def test_a_token_in_its_leeway_is_exchanged_for_nothing(replica: Replica, prover: Prover) -> None:
    answer = await replica.exchange(replica.controller(exp=int(replica.clock()) - 5), prover)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


async def test_scope_gets_narrower_and_never_wider(tmp_path: Path, redis_url: str) -> None:
    prover = Prover()
    scopes = {"scopes": {"read": "arborgate.read", "propose": "arborgate.propose"}}
    async with open_replicas(tmp_path, redis_url, issuer=scopes) as (replica,):
        reads = replica.controller(scope="arborgate.read")
        wider = await replica.exchange(reads, prover, scope="read propose")
        assert (wider.status_code, wider.json()["error"]) == (400, "invalid_scope")
        assert (await replica.exchange(reads, prover, scope="read")).json()["scope"] == "read"
        assert (await replica.exchange(replica.controller(scope=""), prover)).json()["error"] == "invalid_scope"


@pytest.mark.parametrize("scope", ["approve", "apply", "delegate", "read  propose", "read everything", "READ"])
async def test_a_scope_that_no_child_token_has_is_invalid(replica: Replica, prover: Prover, scope: str) -> None:
    answer = await replica.exchange(replica.controller(), prover, scope=scope)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scope")


async def test_a_token_for_reading_does_not_propose(replica: Replica, prover: Prover) -> None:
    child, decide = replica.world.tree.named(CHILD)[0].resource, replica.world.engine.decide
    caller = await replica.authenticate(await replica.child_token(prover, scope="read"), prover)
    assert decide(caller, Action.APP_READ, child).allowed
    assert not decide(caller, Action.ROLLOUT_PROPOSE, child).allowed
    caller = await replica.authenticate(await replica.child_token(prover, scope="read propose"), prover)
    assert decide(caller, Action.ROLLOUT_PROPOSE, child).allowed
    assert not decide(caller, Action.TOKEN_EXCHANGE, child).allowed


async def test_a_persons_copilot_gets_none(replica: Replica, prover: Prover) -> None:
    token = replica.controller(sub="ada", client_id="ide-copilot", groups=["platform-controllers", "viewers"])
    answer = await replica.exchange(token, prover)
    assert (answer.status_code, answer.json()["error"]) == (400, "unauthorized_client")
    assert [record.decision for record in exchanges(replica)] == ["deny"]


async def test_who_was_passed_a_token_on_acts_for_somebody_and_gets_none(replica: Replica, prover: Prover) -> None:
    answer = await replica.exchange(replica.controller(act={"sub": "scheduler"}), prover)
    assert (answer.status_code, answer.json()["error"]) == (400, "unauthorized_client")


async def test_the_chain_of_actors_gets_one_longer(tmp_path: Path, redis_url: str) -> None:
    prover = Prover()
    async with open_replicas(tmp_path, redis_url, issuer={"services": True}) as (replica,):
        act = {"sub": "scheduler", "act": {"sub": "deployer"}}
        token = await replica.child_token(prover, replica.controller(act=act))
        assert claims_of(token)["act"] == {"sub": KEY, "act": act}
        assert (await replica.authenticate(token, prover)).actors == (KEY, "scheduler", "deployer")


async def test_an_app_without_the_role_gets_none(replica: Replica, prover: Prover) -> None:
    answer = await replica.exchange(replica.controller(groups=["viewers"]), prover)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_target")
    assert exchanges(replica)[-1].detail.endswith("denied: no_permit")


async def test_an_app_without_a_parent_is_no_target(replica: Replica, prover: Prover) -> None:
    answer = await replica.exchange(replica.controller(), prover, audience=SHOP)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_target")


async def test_an_app_that_is_hidden_and_one_that_is_not_there_look_the_same(replica: Replica, prover: Prover) -> None:
    hidden = await replica.exchange(replica.controller(), prover, audience="vault")
    absent = await replica.exchange(replica.controller(), prover, audience="nothing")
    assert (hidden.status_code, hidden.json()) == (absent.status_code, absent.json())
    assert hidden.json()["error"] == "invalid_target"
    assert [record.resource for record in exchanges(replica)] == ["App::main/argocd/vault", ""]


async def test_a_name_that_could_be_several_apps_is_no_target(replica: Replica, prover: Prover) -> None:
    assert (await replica.exchange(replica.controller(), prover, audience="orders-api")).status_code == 200
    twin = make_app("orders-api", parent="shop")
    replica.world.tree.put(replace(twin, id=twin.id._replace(namespace="team"), tracking_id=""))
    controller = replica.controller(groups=["platform-controllers", "viewers"])
    answer = await replica.exchange(controller, prover, audience="orders-api")
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_target")
    assert (await replica.exchange(controller, prover, audience=CHILD)).status_code == 200


async def test_exchanges_count_against_the_callers_limit(tmp_path: Path, redis_url: str) -> None:
    prover = Prover()
    async with open_replicas(tmp_path, redis_url, burst=5) as (replica,):
        malformed = [await replica.exchange(replica.controller(), prover, scope="nothing") for _ in range(6)]
        assert {answer.status_code for answer in malformed} == {400}  # nobody's token was looked at
        answers = [await replica.exchange(replica.controller(), prover) for _ in range(8)]
    assert [answer.status_code for answer in answers[:5]] == [200] * 5
    assert (answers[-1].status_code, answers[-1].json()["error"]) == (429, "slow_down")
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 2


async def test_a_token_of_one_replica_is_good_at_the_other_while_keys_rotate(tmp_path: Path, redis_url: str) -> None:
    prover = Prover()
    async with open_replicas(tmp_path, redis_url, 2, rotate=60, life=300) as (one, other):
        kids = set()
        tokens = []
        for _ in range(4):
            for replica in (one, other):
                tokens.append(await replica.child_token(prover, replica.controller(exp=int(one.clock()) + 290)))
                kids.add(tokens[-1].split(".")[0])
            answers = await asyncio.gather(
                *(place.call(token, prover, app=CHILD) for token in tokens for place in (one, other))
            )
            assert {answer.status_code for answer in answers} == {200}
            one.clock.ahead += 61
        assert len(kids) == 8


async def test_a_caller_whose_issuer_is_no_longer_trusted_holds_no_child_token(
    replica: Replica, prover: Prover
) -> None:
    token = await replica.child_token(prover)
    tokens = ChildTokens(URL, ExchangeSettings(), (), ROLES, replica.keys)
    with pytest.raises(Unauthenticated) as refused:
        tokens.trusted.caller(claims_of(token), Channel.MCP)
    assert refused.value.flaw is Flaw.ISSUER


async def test_an_issuers_roles_bound_its_child_tokens_too(replica: Replica, prover: Prover) -> None:
    claims = claims_of(await replica.child_token(prover))
    issuer = IssuerSettings(issuer=ISSUER, roles=("viewer",))
    tokens = ChildTokens(URL, ExchangeSettings(), (issuer,), ROLES, replica.keys)
    assert tokens.trusted.caller(claims, Channel.MCP).grants == {("viewer", SHOP)}


@pytest.mark.parametrize("change", [{"app": None}, {"app": ""}, {"orig": None}, {"groups": "all"}, {"groups": [1]}])
async def test_a_token_of_ours_that_lacks_what_narrows_it_is_refused(
    replica: Replica, prover: Prover, change: dict[str, Any]
) -> None:
    claims = claims_of(await replica.child_token(prover))
    signed = await replica.keys.sign({**claims, **change}, ends=claims["exp"])
    answer = await replica.call(signed, prover, app=CHILD)
    assert (answer.status_code, replica.world.records.written[-1].outcome) == (401, "claims")


async def test_a_token_of_ours_without_a_key_is_refused(replica: Replica, prover: Prover) -> None:
    claims = claims_of(await replica.child_token(prover))
    signed = await replica.keys.sign({**claims, "cnf": None}, ends=claims["exp"])
    bare = await replica.http.post("/mcp", headers={"Authorization": f"Bearer {signed}"}, content=b"{}")
    assert (bare.status_code, replica.world.records.written[-1].outcome) == (401, "unbound")


def test_an_issuer_by_our_own_name_refuses_to_start(replica: Replica) -> None:
    with pytest.raises(BadConfiguration, match="is Arborgate itself"):
        ChildTokens(URL, ExchangeSettings(), (IssuerSettings(issuer=URL),), ROLES, replica.keys)


async def test_a_caller_whom_no_token_can_hold_is_told(replica: Replica, prover: Prover) -> None:
    caller = await replica.authenticate(await replica.child_token(prover), prover)
    crowd = frozenset(f"{number}{'x' * 100}" for number in range(200))
    for one, why in ((replace(caller, groups=crowd), "groups"), (replace(caller, actors=("a",) * 8), "passed")):
        with pytest.raises(Refused, match=why):
            await replica.tokens.make(one, CHILD, {ActionGroup.READ}, thumbprint="x", ends=replica.clock() + 60)
