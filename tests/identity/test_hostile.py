"""Every hostile token and proof is refused, in the right words, on record, and without asking anybody but its issuer."""

from collections.abc import AsyncIterator

import pytest

from arborgate.policies.model import Channel
from arborgate.server.audit import AuditLog
from arborgate.server.chain import read_records
from arborgate.server.identity.authentication import Safeguards
from arborgate.server.identity.nonces import Nonces
from arborgate.server.identity.proofs import Proofs
from arborgate.server.identity.replays import Replays
from arborgate.server.identity.settings import DpopSettings
from arborgate.server.state import State
from arborgate.tools.record import Event
from arborgate.tools.redis.connection import connect
from tests.parts.redis import RedisServer

from .attacks import ATTACKS, Attack
from .proof_attacks import PROOF_ATTACKS
from .scene import HOME, NEIGHBOUR, STRICT, Scene, bearer, dpop, open_scene

pytestmark = pytest.mark.anyio

CONFIGURED = tuple(f"{issuer}/" for issuer in (HOME, NEIGHBOUR, STRICT))
ALL = (*ATTACKS, *PROOF_ATTACKS)


@pytest.fixture(scope="module")
async def log(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AuditLog]:
    async with AuditLog.open(tmp_path_factory.mktemp("record"), "serve-1") as log:
        yield log


@pytest.fixture(scope="module")
async def scene(log: AuditLog, redis_server: RedisServer) -> AsyncIterator[Scene]:
    settings = DpopSettings()
    state = State(connect(redis_server.url()), "arborgate:hostile:")
    proofs = Proofs(settings, Replays(state, settings), Nonces(state, settings))
    async with open_scene(log, Safeguards(proofs=proofs)) as scene:
        yield scene
    await state.redis.aclose()


def test_each_attack_has_a_name_of_its_own_and_there_are_many() -> None:
    names = [attack.name for attack in ALL]
    assert len(set(names)) == len(names) >= 80


@pytest.mark.parametrize("attack", ALL, ids=lambda attack: attack.name)
async def test_an_attack_is_refused_with_the_right_challenge(scene: Scene, log: AuditLog, attack: Attack) -> None:
    scene.asked.clear()
    answer = await scene.knock(attack.send(scene))
    challenges = [value for name, value in answer.headers.multi_items() if name == "www-authenticate"]
    assert answer.status_code == attack.status
    assert challenges[0].startswith(f"{attack.scheme} ")
    assert [f'error="{attack.error}"' in told for told in challenges] == [True] if attack.error else True
    assert ("error=" in challenges[0]) == bool(attack.error)
    assert all(url.startswith(CONFIGURED) for url in scene.asked)
    assert (answer.headers.get("dpop-nonce") is not None) == (attack.error == "use_dpop_nonce")


async def test_what_the_attacks_imitate_gets_in(scene: Scene) -> None:
    token = scene.bound()
    assert (await scene.knock(bearer(scene.token()))).status_code == 200
    assert (await scene.knock(dpop(token, scene.proof(token)))).status_code == 200


async def test_a_replayed_proof_is_refused(scene: Scene) -> None:
    token = scene.bound()
    once = dpop(token, scene.proof(token))
    assert (await scene.knock(once)).status_code == 200
    again = await scene.knock(once)
    assert (again.status_code, 'error="invalid_dpop_proof"' in again.headers["www-authenticate"]) == (401, True)


async def test_with_the_nonce_of_the_challenge_the_same_caller_gets_in(scene: Scene) -> None:
    token = scene.token({"kid": "s1"}, scene.strict, iss=STRICT, cnf={"jkt": scene.holder.thumbprint()})
    asked = await scene.knock(dpop(token, scene.proof(token)))
    proof = scene.proof(token, nonce=asked.headers["dpop-nonce"])
    assert (await scene.knock(dpop(token, proof))).status_code == 200


async def test_attacks_are_on_record_without_the_token(scene: Scene, log: AuditLog) -> None:
    await scene.knock(bearer(scene.token(sub="mallory-the-subject", exp=1)))
    records = [record for record, _ in read_records(log.path) if record.event is Event.CALLER_REJECTED]
    assert {record.channel for record in records} == {Channel.MCP}
    assert "mallory" not in log.path.read_text()


async def test_a_refusal_says_nothing_of_the_token(scene: Scene) -> None:
    token = scene.token(sub="mallory-the-subject", exp=1)
    answer = await scene.knock(bearer(token))
    assert answer.status_code == 401
    for told in (answer.text, str(answer.headers)):
        assert "mallory" not in told
        assert token.split(".")[1][:20] not in told


async def test_a_token_in_the_query_or_the_body_is_not_even_looked_at(scene: Scene) -> None:
    token = scene.token()
    assert (await scene.door.post("/mcp", params={"access_token": token})).status_code == 401
    assert (await scene.door.post("/mcp", data={"access_token": token})).status_code == 401
