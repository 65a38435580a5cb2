"""The loader: what is wrong in a policy file is refused, with its file and line, its text and what was probably meant."""

import os
import re
from pathlib import Path

import pytest

from arborgate.policies.engine import Engine
from arborgate.policies.errors import BadConfiguration
from arborgate.policies.loader import SCHEMA, SHIPPED, load_policies, read_policies
from arborgate.policies.model import Action, Channel
from tests.policies.writing import TRUSTING, app, change, copy_shipped, environment, person, proposal, write_policies


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return copy_shipped(tmp_path / "set")


def refusal(folder: Path) -> str:
    with pytest.raises(BadConfiguration) as caught:
        load_policies(folder)
    return str(caught.value)


def line_of(file: Path, policy: str) -> int:
    return file.read_text().splitlines().index(f'@id("{policy}")') + 1


def test_every_mistake_is_told_at_once(folder: Path) -> None:
    wrong = 'permit (principal, action == Action::"app:raed", resource);'
    (folder / "own.cedar").write_text(f'{wrong}\n@id("x") {wrong}\n')

    lines = [line for line in refusal(folder).splitlines() if line.startswith(str(folder))]

    assert [line.split(": ")[0].removeprefix(f"{folder}/") for line in lines] == [
        "own.cedar:1:1",
        "own.cedar:1:30",
        "own.cedar:2:39",
    ]


def test_an_id_used_twice_is_refused_naming_both_places(folder: Path) -> None:
    (folder / "own.cedar").write_text('\n@id("anyone-asks-who-they-are")\nforbid (principal, action, resource);')

    told = refusal(folder)

    line = line_of(folder / "readers.cedar", "anyone-asks-who-they-are")
    assert (
        f'{folder}/readers.cedar:{line}:1: @id("anyone-asks-who-they-are") is already the id of the policy at' in told
    )
    assert f"{folder}/own.cedar:2:1" in told


def test_a_policy_without_a_case_is_refused(folder: Path) -> None:
    (folder / "own.cedar").write_text('@id("idle") permit (principal in Role::"x", action, resource);')

    assert refusal(folder) == f"{folder}/own.cedar:1:1: no case is decided by the policy 'idle'"


def test_an_action_without_a_case_is_refused(folder: Path) -> None:
    change(folder / "cases/readers.yaml", lambda text: text.replace("[redis:list, redis:read]", "redis:list"))
    change(folder / "cases/always.yaml", lambda text: text.replace("redis:read,", ""))

    assert refusal(folder) == f"{folder}/cases: no case asks for redis:read"


def test_a_case_that_fails_is_refused_with_its_line_and_what_decided(folder: Path) -> None:
    change(folder / "developers.cedar", lambda text: text.replace("unless { context.strict }", "when { true }"))

    told = refusal(folder)

    where, case = "cases/developers.yaml:36:5", "dana (mcp, copilot) may not redis:read_value on Keyspace::main:shop:"
    assert f"{where}: {case}" in told
    assert "but allowed by developers-read-values" in told


def test_a_case_decided_by_another_policy_than_it_says_is_refused(folder: Path) -> None:
    change(
        folder / "cases/readers.yaml", lambda text: text.replace("by: auditors-search-all-records", "by: readers-read")
    )

    told = refusal(folder)

    assert "by readers-read, but it is by auditors-search-all-records" in told


def test_a_case_that_says_nothing_decides_is_refused_where_a_policy_forbids(folder: Path) -> None:
    change(folder / "cases/always.yaml", lambda text: text.replace("by: only-people-decide", "by: nothing"))

    assert "by nothing, but it is by only-people-decide" in refusal(folder)


def test_what_is_always_in_force_holds_beside_every_folder(tmp_path: Path) -> None:
    folder = write_policies(tmp_path, '@id("all") permit (principal, action, resource);')
    engine = Engine(read_policies(folder)[0], surroundings=TRUSTING)
    asked = proposal(app("shop", environment("dev", strict=False)), person("dana"))

    assert engine.decide(person("amy"), Action.APP_READ, asked.parents[0]).allowed
    assert engine.decide(person("amy"), Action.PROPOSAL_APPROVE, asked).policies == ("only-people-decide",)
    assert engine.decide(person("amy"), Action.PROPOSAL_APPLY, asked).policies == ("only-the-applier-applies",)
    assert engine.decide(person("amy"), Action.TOKEN_EXCHANGE, asked.parents[0]).policies == ("only-apps-delegate",)
    assert engine.decide(person("dana", channel=Channel.PAGES), Action.PROPOSAL_REJECT, asked).policies == (
        "nobody-decides-on-their-own",
    )


def test_a_folder_may_leave_out_what_is_always_in_force_or_hold_a_copy_of_it(folder: Path) -> None:
    whole = load_policies(folder)
    change(
        folder / "always.cedar", lambda text: text.replace("\n", "\n\n").replace("// Separation", "// The separation")
    )
    copied = load_policies(folder)
    (folder / "always.cedar").unlink()
    (folder / "cases/always.yaml").unlink()
    bare = load_policies(folder)

    assert whole.locations == copied.locations == bare.locations
    assert bare.location("only-people-decide")[0] == str(SHIPPED / "always.cedar")
    assert len({whole.digest, copied.digest, bare.digest}) == 3


def test_another_policy_by_the_name_of_one_that_is_always_in_force_is_refused(folder: Path) -> None:
    change(
        folder / "always.cedar",
        lambda text: text.replace("context.interactive && !context.itself", "context.interactive"),
    )

    told = refusal(folder)

    assert re.match(
        rf"{folder}/always\.cedar:\d+:1: @id\(\"only-people-decide\"\) is the name of a policy that is", told
    )
    assert len(told.splitlines()) == 3


def test_a_set_needs_no_cases_for_what_is_always_in_force_but_for_the_actions_that_it_forbids(folder: Path) -> None:
    (folder / "cases/always.yaml").unlink()
    load_policies(folder)
    change(folder / "cases/controllers.yaml", lambda text: text.replace("token:exchange", "app:read"))
    change(folder / "cases/agents.yaml", lambda text: text.replace("token:exchange", "app:read"))

    assert f"{folder}/cases: no case asks for token:exchange" in refusal(folder)


def test_a_folder_without_policies_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"{tmp_path}: holds no *.cedar file, so nobody could do anything"


def test_a_folder_that_is_not_there_is_told_from_one_without_policies(folder: Path) -> None:
    assert refusal(folder / "typo") == f"{folder}/typo: there is no such folder"
    assert refusal(folder / "readers.cedar") == f"{folder}/readers.cedar: is no folder; name the one that it is in"


@pytest.mark.parametrize("place", ["teams/own.cedar", "own.CEDAR", "cases/own.cedar"])
def test_policies_where_none_are_read_are_refused(folder: Path, place: str) -> None:
    (folder / place).parent.mkdir(exist_ok=True)
    (folder / place).write_text('@id("nothing-goes") forbid (principal, action, resource);')

    assert refusal(folder).startswith(f"{folder}/{place}: is not read, so it would be in force for nobody")


def test_what_a_mounted_configmap_keeps_beside_the_policies_is_left_alone(folder: Path) -> None:
    (folder / "..2026_11_21").mkdir()
    (folder / "readers.cedar").rename(folder / "..2026_11_21/readers.cedar")
    (folder / "readers.cedar").symlink_to("..2026_11_21/readers.cedar")

    load_policies(folder)


def test_a_byte_order_mark_is_no_mistake(folder: Path) -> None:
    for file in (folder / "readers.cedar", folder / "cases/readers.yaml"):
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())

    load_policies(folder)


def test_a_schema_of_ones_own_is_refused_and_a_copy_of_ours_is_not(folder: Path) -> None:
    (folder / "schema.cedarschema").write_bytes(SCHEMA.read_bytes())
    load_policies(folder)

    change(folder / "schema.cedarschema", lambda text: text + "entity Room;")

    assert "can't be replaced" in refusal(folder)


def test_a_file_that_is_not_text_or_cannot_be_read_is_refused(folder: Path) -> None:
    (folder / "own.cedar").write_bytes(b"// one\n\xff")
    assert f"{folder}/own.cedar:2: is not UTF-8" in refusal(folder)

    (folder / "own.cedar").unlink()
    (folder / "own.cedar").mkdir()
    assert f"{folder}/own.cedar: cannot be read" in refusal(folder)


def test_a_policy_is_found_by_file_and_line(folder: Path) -> None:
    line = line_of(folder / "readers.cedar", "anyone-asks-who-they-are")
    assert load_policies(folder).location("anyone-asks-who-they-are") == (f"{folder}/readers.cedar", line)


def test_the_digest_changes_with_every_file_and_with_nothing_else(folder: Path, tmp_path: Path) -> None:
    before = load_policies(folder).digest
    assert load_policies(copy_shipped(tmp_path / "elsewhere")).digest == before
    os.utime(folder / "readers.cedar", (1, 1))
    assert load_policies(folder).digest == before

    change(folder / "readers.cedar", lambda text: text + "// one more line\n")
    policies_changed = load_policies(folder).digest
    change(folder / "cases/readers.yaml", lambda text: text + "# one more line\n")

    assert len({before, policies_changed, load_policies(folder).digest}) == 3
