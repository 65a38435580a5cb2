"""A signature is over everything an approval says, and a digest over everything an approver sees."""

from pathlib import Path
from typing import Any

import orjson
import pytest
import rfc8785
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import OKPKey, RSAKey

from arborgate.policies.errors import BadConfiguration, Refused
from arborgate.server.approvals import (
    TYPE,
    load_signing_key,
    load_verify_key,
    new_signing_key,
    sign_approval,
    verify_approval,
)
from arborgate.tools.change import Change, ChangeKind, Check, Precondition, Rehearsal, Rehearsed, Target
from arborgate.tools.proposal import Approval, Assertion, Content, Requester, Verdict, digest_content
from arborgate.tools.risk import Factor, Risk, RiskFactor

PRIVATE, PUBLIC = (OKPKey.import_key(orjson.loads(text)) for text in new_signing_key())

ANA = Requester(
    key="https://issuer.test#ana",
    issuer="https://issuer.test",
    subject="ana",
    name="Ana",
    groups=("approvers",),
    roles=("approver",),
    agent="",
)
APPROVAL = Approval(
    proposal="p-1",
    digest="0" * 64,
    verdict=Verdict.APPROVE,
    approver=ANA,
    comment="Looks right.",
    at=1_800_000_000.25,
    authenticated_at=1_799_999_000.0,
    session="s",
    assertion=Assertion(credential="c", authenticator_data="a", client_data="d", signature="x", user_handle="h"),
)
CHANGE = Change(
    kind=ChangeKind.SCALE,
    target=Target(
        app="main/argocd/api", cluster="main", api="apps/v1", kind="Deployment", namespace="shop", name="api"
    ),
    summary="Scale api to 3",
    precondition=Precondition(uid="u", resource_version="7", fields=("/spec/replicas",), digest="1" * 64),
    patch={"spec": {"replicas": 3}},
    diff="-1\n+3",
    undo={"spec": {"replicas": 1}},
    check=Check(app="main/argocd/api"),
)
CONTENT = Content(
    id="p-1",
    title="More",
    reason="It is slow.",
    requester=ANA,
    created_at=1.5,
    expires_at=2.5,
    environments=("production",),
    risk=Risk.HIGH,
    factors=(RiskFactor.of(Factor.STRICT_ENVIRONMENT, "production"),),
    approvals_needed=1,
    changes=(CHANGE,),
    rehearsal=Rehearsal(changes=(Rehearsed(ok=True, warnings=("w",)),), at=2.0),
)


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The path of every value in plain JSON data that is not a mapping or a list, and of every empty one."""
    items = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    return [leaf for key, below in items for leaf in leaves(below, (*path, key))] or [path]


OTHER_WORDS = {"bearer": "dpop", "high": "low", "scale": "sync", "strict_environment": "downgrade"}
"""Of a closed vocabulary, another word."""


def altered(value: Any, path: tuple[str | int, ...]) -> Any:
    """A copy in which the one value at the path is another."""
    if path:
        changed = value.copy()
        changed[path[0]] = altered(value[path[0]], path[1:])
        return changed
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case list():
            return ["x"]
        case str() if value in OTHER_WORDS:
            return OTHER_WORDS[value]
        case _:
            return f"{value or ''}x"


@pytest.mark.parametrize("path", leaves(CONTENT.model_dump(mode="json")), ids=lambda path: ".".join(map(str, path)))
def test_whatever_changes_in_the_content_changes_the_digest(path: tuple[str | int, ...]) -> None:
    changed = altered(CONTENT.model_dump(mode="json"), path)
    assert digest_content(Content.model_validate(changed)) != digest_content(CONTENT)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(max_size=20), st.text(max_size=20), st.dictionaries(st.text(max_size=3), st.integers(0, 9), max_size=3))
def test_equal_contents_and_only_those_have_one_digest(title: str, reason: str, patch: dict[str, int]) -> None:
    change = CHANGE.model_copy(update={"patch": patch})
    update = {"title": title, "reason": reason, "changes": (change,)}
    changed = CONTENT.model_copy(update=update)
    assert (digest_content(changed) == digest_content(CONTENT)) == (changed == CONTENT)
    again = Content.model_validate_json(changed.model_dump_json())
    assert digest_content(again) == digest_content(changed)


def test_a_signed_approval_verifies_with_the_public_key() -> None:
    verify_approval(sign_approval(APPROVAL, PRIVATE), PUBLIC)


@pytest.mark.parametrize(
    "path",
    [path for path in leaves(APPROVAL.model_dump(mode="json")) if path not in (("signature",), ("verdict",))],
    ids=lambda path: ".".join(map(str, path)),
)
def test_whatever_changes_in_an_approval_breaks_its_signature(path: tuple[str | int, ...]) -> None:
    signed = sign_approval(APPROVAL, PRIVATE)
    forged = Approval.model_validate(altered(signed.model_dump(mode="json"), path))
    with pytest.raises(Refused, match="not validly signed"):
        verify_approval(forged, PUBLIC)


def test_a_rejection_does_not_become_an_approval() -> None:
    signed = sign_approval(APPROVAL.model_copy(update={"verdict": Verdict.REJECT}), PRIVATE)
    with pytest.raises(Refused):
        verify_approval(signed.model_copy(update={"verdict": Verdict.APPROVE}), PUBLIC)


def test_without_a_passkey_what_is_signed_is_what_it_always_was() -> None:
    plain = APPROVAL.model_copy(update={"assertion": None})
    payload = rfc8785.dumps(plain.model_dump(mode="json", exclude={"signature", "assertion"}))
    assert jws.extract_compact(sign_approval(plain, PRIVATE).signature.encode()).payload == payload
    verify_approval(sign_approval(plain, PRIVATE), PUBLIC)


def test_another_key_another_type_and_another_algorithm_sign_nothing() -> None:
    payload = rfc8785.dumps(APPROVAL.model_dump(mode="json", exclude={"signature"}))
    other = OKPKey.import_key(orjson.loads(new_signing_key()[0]))
    rsa = RSAKey.generate_key(2048)
    right = jws.serialize_compact({"alg": "Ed25519", "typ": TYPE}, payload, PRIVATE, algorithms=["Ed25519"])
    verify_approval(APPROVAL.model_copy(update={"signature": right}), PUBLIC)
    signatures = [
        sign_approval(APPROVAL, other).signature,
        jws.serialize_compact({"alg": "Ed25519", "typ": "JWT"}, payload, PRIVATE, algorithms=["Ed25519"]),
        jws.serialize_compact({"alg": "Ed25519"}, payload, PRIVATE, algorithms=["Ed25519"]),
        jws.serialize_compact({"alg": "RS256", "typ": TYPE}, payload, rsa),
        "",
        "..",
        "a.b.c",
        "eyJhbGciOiJub25lIn0." + sign_approval(APPROVAL, PRIVATE).signature.split(".")[1] + ".",
    ]
    for signature in signatures:
        with pytest.raises(Refused):
            verify_approval(APPROVAL.model_copy(update={"signature": signature}), PUBLIC)


def test_keys_are_read_from_files_and_each_process_takes_only_its_own(tmp_path: Path) -> None:
    private, public = tmp_path / "private.json", tmp_path / "public.json"
    texts = new_signing_key()
    private.write_text(texts[0])
    public.write_text(texts[1])
    verify_approval(sign_approval(APPROVAL, load_signing_key(private)), load_verify_key(public))
    with pytest.raises(BadConfiguration, match="holds a public key"):
        load_signing_key(public)
    with pytest.raises(BadConfiguration, match="holds a private key"):
        load_verify_key(private)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "not json", '{"kty":"oct","k":"AAAA"}', '{"kty":"OKP","crv":"Ed25519"}']
)
def test_a_file_that_holds_no_key_refuses_to_start(tmp_path: Path, text: str) -> None:
    path = tmp_path / "key.json"
    path.write_text(text)
    with pytest.raises(BadConfiguration, match=r"proposals\.verify_key_file"):
        load_verify_key(path)


def test_a_missing_key_file_and_a_missing_setting_refuse_to_start(tmp_path: Path) -> None:
    for path in (None, tmp_path / "none.json"):
        with pytest.raises(BadConfiguration, match=r"proposals\.signing_key_file"):
            load_signing_key(path)


def test_a_key_of_another_curve_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    path.write_text(orjson.dumps(OKPKey.generate_key("X25519").as_dict(private=True)).decode())
    with pytest.raises(BadConfiguration, match="not an Ed25519 key"):
        load_signing_key(path)
