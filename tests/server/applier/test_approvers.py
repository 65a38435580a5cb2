"""The file of approvers that the applier reads, and what it remembers of their passkeys."""

from pathlib import Path

import orjson
import pytest

from arborgate.policies.errors import BadConfiguration, Refused
from arborgate.server.approvers import Approver, Approvers, read_approvers, write_approvers
from arborgate.server.passkeys import RelyingParty
from arborgate.server.uses import Uses
from tests.parts.authenticator import Authenticator

PARTY = RelyingParty.of("https://arborgate.test")


def test_the_file_comes_back_as_it_was_written(tmp_path: Path) -> None:
    device = Authenticator(PARTY, "https://issuer.test#ana")
    ana = Approver(issuer="https://issuer.test", subject="ana", name="Ana É", passkeys=(device.passkey,))
    approvers = Approvers(approvers=(ana,))
    path = tmp_path / "approvers.yaml"
    path.write_text(write_approvers(approvers), encoding="utf-8")
    assert read_approvers(path) == approvers


@pytest.mark.parametrize("text", ["approvers: [{name: x}]", "approver: []", "[", "- 1"])
def test_a_file_that_says_something_else_starts_no_applier(tmp_path: Path, text: str) -> None:
    path = tmp_path / "approvers.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadConfiguration, match=r"approvers\.yaml"):
        read_approvers(path)


def test_a_passkey_with_two_owners_starts_no_applier(tmp_path: Path) -> None:
    device = Authenticator(PARTY, "https://issuer.test#ana")
    people = [
        Approver(issuer="https://issuer.test", subject=name, name=name, passkeys=(device.passkey,)).model_dump(
            mode="json"
        )
        for name in ("ana", "bob")
    ]
    path = tmp_path / "approvers.yaml"
    path.write_text(orjson.dumps({"approvers": people}).decode(), encoding="utf-8")
    with pytest.raises(BadConfiguration, match="is there twice"):
        read_approvers(path)


def test_no_passkeys_are_made_for_an_address() -> None:
    with pytest.raises(BadConfiguration, match="host name"):
        RelyingParty.of("http://127.0.0.1:8484")


def test_uses_that_can_not_be_read_start_no_applier(tmp_path: Path) -> None:
    (tmp_path / "uses.json").write_text("{", encoding="utf-8")
    with pytest.raises(BadConfiguration, match="can't be read"):
        Uses(tmp_path / "uses.json")


def test_two_uses_of_one_count_are_two_devices() -> None:
    device = Authenticator(PARTY, "a#b")
    uses = Uses()
    first, second = device.sign("one"), device.sign("two")
    uses.note(first, 5, 100.0)
    uses.note(first, 5, 100.0)
    for count, at in ((5, 101.0), (4, 101.0), (6, 99.0)):
        with pytest.raises(Refused, match="copied"):
            uses.note(second, count, at)
    uses.note(second, 6, 101.0)
