"""Masking through a real gate: who may not see personal data reads numbers in its place, in data, text and errors."""

from pathlib import Path
from typing import Any

import pytest

from arborgate.policies.engine import Engine
from arborgate.policies.loader import read_policies
from arborgate.policies.model import Caller
from arborgate.server.masking import Masker, PersonalSettings
from arborgate.tools.fields import Fields, find_fields
from arborgate.tools.proposals.results import ProposalDetail
from arborgate.tools.record import Event, Record
from arborgate.tools.tree import Health
from tests.tools.test_proposal_tools import make_approval, make_proposal
from tests.tools.world import ADA, AUDITOR, POLICIES, World, make_app, make_caller, make_condition, make_deploy

pytestmark = pytest.mark.anyio

FIELDS = Fields(frozenset({"rows"}), frozenset({"fields"}), frozenset({"message"}), frozenset({"who"}))
SEES = """
@id("auditors-read-personal-data")
permit (principal in Role::"auditor", action == Action::"personal:read", resource);

@id("some-read-personal-data-of-one-app")
permit (principal in Role::"owner", action == Action::"personal:read", resource in App::"main/argocd/api");
"""
SAID = "login of alice@example.com from 203.0.113.9 failed; alice@example.com has /home/alice, bob@example.com has not"


def make_world(folder: Path) -> World:
    world = World(
        folder,
        make_app("api", health=Health.DEGRADED, health_message=SAID, history=(make_deploy(1, "abc", ""),)),
        make_app("web", conditions=(make_condition(SAID),)),
    )
    (folder / "policies.cedar").write_text(POLICIES + SEES)
    world.engine = Engine(read_policies(folder)[0])
    return world


async def test_who_lacks_it_reads_numbers_that_tell_the_same_from_another(tmp_path: Path) -> None:
    answer = await make_world(tmp_path).call("app_get", ADA, app="api")
    assert answer.structured is not None
    told = "login of [mail:1] from [ip:1] failed; [mail:1] has /home/[name:1], [mail:2] has not"
    assert answer.structured["message"] == told
    assert told in answer.text
    assert "alice" not in str(answer)


def test_an_address_is_the_same_one_however_it_is_written() -> None:
    text = "ada@example.com ada%40example.com GRACE%40example.com grace@example.com"
    assert Masker().mask_text(text, ["Ada@example.com"]) == "ada@example.com ada%40example.com [mail:1] [mail:1]"


async def test_who_has_it_reads_what_is_there(tmp_path: Path) -> None:
    answer = await make_world(tmp_path).call("app_get", AUDITOR, app="api")
    assert answer.structured is not None
    assert answer.structured["message"] == SAID
    assert "alice@example.com" in answer.text


async def test_it_is_asked_of_all_that_a_call_is_about(tmp_path: Path) -> None:
    world, owner = make_world(tmp_path), make_caller("otto", "owner")
    assert "alice@example.com" in str(await world.ask("app_get", owner, app="api"))
    assert "alice" not in str(await world.ask("app_get", owner, app="web"))
    assert "alice" not in str(await world.ask("app_list", owner))


async def test_one_part_that_is_not_for_them_masks_the_whole(tmp_path: Path) -> None:
    world, owner = make_world(tmp_path), make_caller("otto", "owner")
    approvals = (make_approval("p1", "as dan@example.com asked"),)
    world.proposals.kept += [
        make_proposal(1, "api", approvals=approvals),
        make_proposal(2, "api", "web", approvals=approvals),
    ]
    assert "dan@example.com" in str(await world.ask("proposal_get", owner, proposal="p1"))
    assert "dan@example.com" not in str(await world.ask("proposal_get", owner, proposal="p2"))


async def test_callers_read_their_own_address(tmp_path: Path) -> None:
    alice = make_caller("Alice@example.com")
    told = (await make_world(tmp_path).ask("app_get", alice, app="api"))["message"]
    assert "login of alice@example.com from [ip:1]" in told
    assert "bob" not in told


async def test_who_asked_and_who_approved_is_told_to_whoever_may_read_the_proposal(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    asker = make_caller("carol@example.com")
    kept = make_proposal(1, "api", by=asker, approvals=(make_approval("p1", "as dan@example.com asked"),))
    world.proposals.kept.append(kept)
    told = await world.ask("proposal_get", proposal="p1")
    assert told["requester"] == "Carol@Example.Com"
    assert told["approvals"][0]["comment"] == "as [mail:1] asked"
    assert told["approvals"][0]["approver"] == "Bob"
    assert find_fields(ProposalDetail).identities == {"approvals.approver", "requester"}


async def test_callers_read_who_they_are_themselves(tmp_path: Path) -> None:
    alice = make_caller("alice@example.com")
    told = await make_world(tmp_path).ask("whoami", alice)
    assert (told["person"], told["key"]) == ("Alice@Example.Com", "https://issuer.test#alice@example.com")


async def test_records_name_everybody_only_to_who_may_see_it(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    someone = Record(
        event=Event.CALLER_DENIED,
        caller="https://issuer.test#carol@example.com",
        caller_name="carol@example.com",
        resource="person:https://issuer.test#carol@example.com",
        agent="terminal",
        seq=1,
        time="2025-11-22T08:00:00Z",
        replica="r",
        prev="",
        hash="",
    )
    world.records.written.append(someone)
    row = (await world.ask("record_search", AUDITOR))["records"][0]
    assert (row["person"], row["resource"]) == ("carol@example.com", "person:https://issuer.test#carol@example.com")
    (tmp_path / "policies.cedar").write_text(POLICIES)
    world.engine = Engine(read_policies(tmp_path)[0])
    rows = (await world.ask("record_search", AUDITOR))["records"]
    row = next(row for row in rows if row["event"] == Event.CALLER_DENIED)
    assert (row["person"], row["resource"]) == ("[mail:1]", "person:https://issuer.test#[mail:1]")
    assert world.records.written[0].caller == "https://issuer.test#carol@example.com"


@pytest.mark.parametrize(("caller", "seen"), [(ADA, False), (AUDITOR, True)])
async def test_an_error_is_masked_alike_whether_the_thing_is_there_or_not(
    tmp_path: Path, caller: Caller, seen: bool
) -> None:
    error = await make_world(tmp_path).fail("app_get", caller, app="x 203.0.113.9 y")
    assert ("203.0.113.9" in error.message, "[ip:1]" in error.message) == (seen, not seen)


def test_an_answer_without_personal_data_passes_as_the_same_object() -> None:
    masker = Masker()
    clean: dict[str, Any] = {"rows": [{"message": "all is well", "who": "x"}], "n": 1}
    assert not masker.suspects(clean)
    spared = {"message": "127.0.0.1 and git@github.com:a/b"}
    assert masker.suspects(spared)
    assert masker.mask(spared, FIELDS, ()) is spared


def test_fields_of_who_somebody_is_and_what_we_seal_stay_and_names_of_maps_do_not() -> None:
    data = {
        "who": "a@example.com",
        "cursor": "b@example.com",
        "fields": {"c@example.com": "d@example.com"},
        "rows": [{"message": "c@example.com", "count": 3, "known": True, "none": None}],
    }
    assert Masker().mask(data, FIELDS, ()) == {
        "who": "a@example.com",
        "cursor": "b@example.com",
        "fields": {"[mail:1]": "[mail:2]"},
        "rows": [{"message": "[mail:1]", "count": 3, "known": True, "none": None}],
    }
    assert data["fields"] == {"c@example.com": "d@example.com"}


def test_addresses_of_own_networks_stay() -> None:
    masker = Masker(PersonalSettings.model_validate({"own_networks": ["10.42.0.0/16", "fd00::/8"]}))
    text = "10.42.3.7 and fd00:1::2 but 10.43.0.1 and 2001:db8::1"
    assert masker.mask_text(text, ()) == "10.42.3.7 and fd00:1::2 but [ip:1] and [ip:2]"
