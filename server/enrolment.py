"""The passkeys that people have enrolled on the pages: kept in Redis, each with one owner, every change on record."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import cast

import orjson
from pydantic import ValidationError
from webauthn import base64url_to_bytes, generate_registration_options, options_to_json, verify_registration_response
from webauthn.helpers import bytes_to_base64url
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from ..policies.errors import ArborgateError, Conflict, Invalid, NotThere, Refused
from ..policies.model import Caller
from ..tools.cuts import shorten
from ..tools.proposal import Approval, Assertion, Content, Verdict
from ..tools.record import Entry, Event, name_caller
from ..tools.risk import Risk
from .approvers import Approver, Approvers
from .gate import Recorder
from .leases import read_script
from .passkeys import Passkey, RelyingParty, check_assertion, find_handle
from .settings import PasskeyUse
from .state import State, reaching_state

ENROLLING_SECONDS = 300
"""How recent the login has to be for passkeys to be added or removed, and how long adding one may take."""

NAME_LIMIT = 60
"""The most characters of a passkey's name."""

_MOST = 10
"""How many passkeys one person can have."""


class Enrolment:
    """The registry of passkeys. Nobody but their owner adds or removes them; every method raises `Unavailable` when Redis
    does not answer, and those that change something `Unrecorded` when that can't be put on record."""

    def __init__(
        self, state: State, party: RelyingParty, use: PasskeyUse, recorder: Recorder, *, clock: Callable[[], float]
    ) -> None:
        self._state = state
        self._party = party
        self._use = use
        self._recorder = recorder
        self._clock = clock
        self._enrol = state.redis.register_script(read_script("enrol_passkey"))
        self._remove = state.redis.register_script(read_script("remove_passkey"))
        self._count = state.redis.register_script(read_script("use_passkey"))

    @property
    def party(self) -> RelyingParty:
        return self._party

    async def find(self, person: str) -> list[Passkey]:
        """Those of the person with this key, the oldest first."""
        return await _read_passkeys(self._state, person)

    async def begin(self, caller: Caller, session: str) -> str:
        """What a browser needs to make a passkey (JSON of `PublicKeyCredentialCreationOptions`), good once, for the
        session of this name."""
        mine = [PublicKeyCredentialDescriptor(id=base64url_to_bytes(one.id)) for one in await self.find(caller.key)]
        challenge = secrets.token_bytes(32)
        with reaching_state():
            await self._state.redis.set(self._challenge(session), challenge.hex(), ex=ENROLLING_SECONDS)
        options = generate_registration_options(
            rp_id=self._party.id,
            rp_name="Arborgate",
            user_name=caller.name,
            user_id=find_handle(caller.key),
            challenge=challenge,
            exclude_credentials=mine,
            authenticator_selection=AuthenticatorSelectionCriteria(
                resident_key=ResidentKeyRequirement.PREFERRED, user_verification=UserVerificationRequirement.REQUIRED
            ),
        )
        return options_to_json(options)

    async def enrol(self, caller: Caller, session: str, name: str, answer: str) -> Passkey:
        """Keeps the passkey that the caller's browser made (`answer`: JSON of its `PublicKeyCredential`).

        Raises `Invalid` (name), `Refused` for what does not answer `begin`, and `Conflict` for one that has an owner, or
        one too many."""
        name = " ".join(name.split())
        if not 0 < len(name) <= NAME_LIMIT:
            raise Invalid(f"Give it a name of at most {NAME_LIMIT} characters.", field="name")
        with reaching_state():
            challenge = await self._state.redis.getdel(self._challenge(session))
        passkey = self._read_new(name, answer, bytes.fromhex(str(challenge or "")))
        who = Approver(
            issuer=caller.issuer, subject=caller.subject, name=caller.name, groups=tuple(sorted(caller.groups))
        )

        async def keep() -> None:
            keys = [self._state.key("passkey-owners"), self._state.key("passkey-people"), self._mine(caller.key)]
            told: list[str | int] = [passkey.id, caller.key, who.model_dump_json(), passkey.model_dump_json(), _MOST]
            with reaching_state():
                kept = await self._enrol(keys=keys, args=told)
            if kept != 1:
                raise Conflict("This passkey has an owner." if kept == 0 else f"You have {_MOST} passkeys already.")

        await self._do(Event.PASSKEY_ENROLLED, caller, passkey.id, name, keep)
        return passkey

    async def remove(self, caller: Caller, passkey_id: str) -> None:
        """Forgets one of the caller's own. Raises `NotThere`."""

        async def forget() -> None:
            names = ("passkey-owners", "passkey-people")
            keys = [*map(self._state.key, names), self._mine(caller.key), self._state.key("passkey-counts")]
            with reaching_state():
                if not await self._remove(keys=keys, args=[passkey_id, caller.key]):
                    raise NotThere("You have no such passkey.")

        await self._do(Event.PASSKEY_REMOVED, caller, shorten(passkey_id, 100), "", forget)

    def needs(self, risk: Risk, passkeys: list[Passkey]) -> bool:
        """Whether somebody with these passkeys has to sign an approval of this risk with one."""
        if self._use is PasskeyUse.REQUIRED or (self._use is PasskeyUse.REQUIRED_HIGH and risk is Risk.HIGH):
            return True
        return bool(passkeys)

    async def accept(self, approval: Approval, content: Content) -> None:
        """Raises `Refused` unless the approval is signed with a passkey of its approver, or needs none: to stop something
        takes less than to let it happen."""
        passkeys = await self.find(approval.approver.key)
        if approval.assertion is None:
            if approval.verdict is not Verdict.REJECT and self.needs(content.risk, passkeys):
                raise Refused(
                    "This has to be signed with your passkey.",
                    hint="Decide on its page in the browser; passkeys are enrolled under /passkeys.",
                )
            return
        passkey = next((one for one in passkeys if one.id == approval.assertion.credential), None)
        if passkey is None:
            raise Refused("This passkey is not one of yours.")
        count = check_assertion(approval, content, approval.digest, passkey, self._party)
        with reaching_state():
            in_order = await self._count(keys=[self._state.key("passkey-counts")], args=[passkey.id, count])
        if not in_order:
            raise Refused(
                "This passkey seems to have been copied: it was used more often than it says.",
                hint="Remove it under /passkeys, and tell the platform team.",
                detail=f"passkey {passkey.id}, count {count}",
            )

    def _read_new(self, name: str, answer: str, challenge: bytes) -> Passkey:
        if not challenge:
            raise Refused("Adding a passkey was not begun here, or took too long.", hint="Try again.")
        try:
            made = verify_registration_response(
                credential=answer,
                expected_challenge=challenge,
                expected_rp_id=self._party.id,
                expected_origin=self._party.origin,
                require_user_verification=True,
            )
            return Passkey(
                id=bytes_to_base64url(made.credential_id),
                name=name,
                public_key=bytes_to_base64url(made.credential_public_key),
                enrolled_at=round(self._clock(), 3),
            )
        except (WebAuthnException, ValueError, TypeError, KeyError) as error:
            raise Refused("This is no new passkey of yours.", detail=f"{type(error).__name__}: {error}") from error

    async def _do(
        self, event: Event, caller: Caller, passkey_id: str, name: str, change: Callable[[], Awaitable[None]]
    ) -> None:
        """On record before it is done, and with its outcome after."""
        entry = Entry(event=event, **name_caller(caller), resource=f"passkey:{passkey_id}", detail=name)
        await self._recorder.write(replace(entry, outcome="intended"))
        try:
            await change()
        except ArborgateError as error:
            await self._recorder.write(replace(entry, outcome=error.reason, detail=error.detail or error.message))
            raise
        await self._recorder.write(replace(entry, outcome="ok"))

    def _mine(self, person: str) -> str:
        return _key(self._state, person)

    def _challenge(self, session: str) -> str:
        return self._state.key("passkey-challenge", session)


async def read_enrolled(state: State) -> Approvers:
    """Everybody who has a passkey, with the groups that they had when they enrolled their last; raises `Unavailable`, and
    `Refused` for what no Arborgate wrote."""
    with reaching_state():
        people = cast("dict[str, str]", await state.redis.hgetall(state.key("passkey-people")))
    try:
        found = [Approver.model_validate_json(text) for text in people.values()]
        passkeys = [tuple(await _read_passkeys(state, one.key)) for one in found]
        pairs = sorted(zip(found, passkeys, strict=True), key=lambda pair: pair[0].key)
        return Approvers(approvers=tuple(one.model_copy(update={"passkeys": mine}) for one, mine in pairs))
    except ValidationError as error:
        raise Refused("The passkeys in the state Redis can't be read.", detail=str(error)) from error


def read_assertion(text: str) -> Assertion | None:
    """What a form sends (JSON of a `PublicKeyCredential`), None for nothing; raises `Invalid`."""
    if not text:
        return None
    try:
        sent = orjson.loads(text)
        said = sent["response"]
        return Assertion(
            credential=sent["id"],
            authenticator_data=said["authenticatorData"],
            client_data=said["clientDataJSON"],
            signature=said["signature"],
            user_handle=said.get("userHandle") or "",
        )
    except (ValueError, KeyError, TypeError, AttributeError, ValidationError) as error:
        raise Invalid("What the passkey signed can't be read.", field="credential") from error


async def _read_passkeys(state: State, person: str) -> list[Passkey]:
    with reaching_state():
        kept = cast("dict[str, str]", await state.redis.hgetall(_key(state, person)))
    return sorted(map(Passkey.model_validate_json, kept.values()), key=lambda one: (one.enrolled_at, one.id))


def _key(state: State, person: str) -> str:
    return state.key("passkeys", find_handle(person).hex())
