"""People choose what they are mailed of: for themselves alone, to the verified address of their login alone."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.async_api import Page, expect

from arborgate.policies.errors import Unrecorded
from arborgate.server.background import running
from arborgate.server.identity.flaws import Flaw, Unauthenticated
from arborgate.server.notifications.occasions import Occasion
from arborgate.server.notifications.people import WANTED, People, Preferences
from arborgate.server.notifications.settings import NotifySettings
from arborgate.server.web.login import read_mail
from arborgate.server.web.sessions import Person
from arborgate.tools.record import Event
from arborgate.tools.risk import Risk
from tests.parts.axe import find_faults
from tests.parts.oidc import OidcProvider, describe_pages
from tests.parts.process import find_free_ports
from tests.server.notifications.notifying import open_notifier
from tests.server.notifications.receivers import MailReceiver, receive_mail, wait_until
from tests.server.web.serving import serve
from tests.server.web.test_browser import log_in, press_until
from tests.server.web.world import DEV, ROLES, Visitor, World, make_caller, open_world

pytestmark = pytest.mark.anyio

IMAGE = Path(__file__).parents[3] / "docs" / "images" / "notifications.png"


def describe_smtp(receiver: MailReceiver) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": receiver.port, "security": "none", "sender": "arborgate@example.org"}


@pytest.fixture
async def office(tmp_path: Path, redis_url: str) -> AsyncIterator["Office"]:
    with receive_mail() as receiver:
        async with (
            open_world(tmp_path / "record", redis_url) as world,
            httpx2.AsyncClient(trust_env=False) as client,
        ):
            notify = NotifySettings.model_validate({"smtp": describe_smtp(receiver), "remind_after": []})
            world.change(notify=notify, environments=("production", "staging"))
            yield Office(world, receiver, client, notify)


class Office:
    """The pages, a notifier and a mail server."""

    def __init__(
        self, world: World, receiver: MailReceiver, client: httpx2.AsyncClient, notify: NotifySettings
    ) -> None:
        self.world = world
        self.receiver = receiver
        self.notify = notify
        self._client = client

    async def enter(self, subject: str, role: str = "approver", mail: str | None = None) -> Visitor:
        person = Person(
            issuer="https://issuer.test",
            subject=subject,
            sub=subject,
            name=subject.title(),
            groups=tuple(ROLES[role]) if role else (),
            authenticated_at=int(self.world.clock()),
            mail=f"{subject}@example.org" if mail is None else mail,
        )
        session_id, _ = await self.world.sessions.start(person, self.world.browser, issued_at=self.world.clock())
        visitor = self.world.visit()
        visitor.client.cookies.set("arborgate", session_id, domain="127.0.0.1")
        return visitor

    async def choose(self, visitor: Visitor, *events: str, **fields: str) -> httpx2.Response:
        form = await visitor.read_form("/notifications")
        chosen = {f"event-{event}": "1" for event in events}
        return await visitor.post("/notifications/save", {**form, "on": "1", "mute": "", **chosen, **fields})

    def notifying(self, **changes: Any) -> Any:
        return running(open_notifier(self.world, self.notify, self._client, **changes).run())

    async def told(self, *subjects: str) -> None:
        """Until just these have had mail."""
        wanted = sorted(f"{subject}@example.org" for subject in subjects)
        await wait_until(lambda: self.addresses() == wanted)

    def addresses(self) -> list[str]:
        return sorted(address for to, _ in self.receiver.letters for address in to)

    async def preferences(self, subject: str) -> Preferences:
        found = await People(self.world.state).read(f"https://issuer.test#{subject}")
        assert found is not None
        return found


async def test_who_chooses_nothing_is_mailed_nothing(office: Office) -> None:
    april = await office.enter("april")
    page = (await april.get("/notifications")).text
    assert "april@example.org" in page
    assert 'id="on" name="on" type="checkbox" value="1">' in page
    assert await People(office.world.state).all() == []


async def test_what_is_chosen_is_kept_shown_and_on_record_without_the_address(office: Office) -> None:
    april = await office.enter("april")
    answer = await office.choose(april, "proposed", "stuck", high="1", **{"environment-production": "1"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/notifications?saved=1")
    chosen = await office.preferences("april")
    assert (chosen.on, chosen.high_only, chosen.environments) == (True, True, ("production",))
    assert chosen.events == (Occasion.PROPOSED, Occasion.STUCK)
    page = (await april.get("/notifications?saved=1")).text
    assert "Saved." in page
    assert 'id="event-stuck" name="event-stuck" type="checkbox" value="1" checked' in page
    told = [
        (record.outcome, record.detail, record.caller_name)
        for record in office.world.records(Event.NOTIFICATION_CHOSEN)
    ]
    said = "mail of proposed, stuck; high risk only; in production"
    assert told == [("intended", said, "April"), ("ok", said, "April")]
    assert "example.org" not in office.world.audit.path.read_text()


async def test_people_are_mailed_what_they_want_and_may_see(office: Office) -> None:
    for subject in ("april", "alan", "amy", "ann"):
        await office.choose(await office.enter(subject), "proposed")
    await office.choose(await office.enter("alan"), "stuck")
    await office.choose(await office.enter("amy"), "proposed", **{"environment-staging": "1"})
    await office.choose(await office.enter("ann"), "proposed", high="1")
    await office.choose(await office.enter("nobody", role=""), "proposed")
    async with office.notifying():
        await office.world.propose(risk=Risk.LOW, factors=())
        await office.told("april")
        await office.world.propose()
        await office.told("april", "april", "ann")


async def test_who_asked_for_a_change_is_not_asked_to_decide_on_it(office: Office) -> None:
    await office.choose(await office.enter("april"), "proposed", "withdrawn")
    caller = make_caller("april", "developer", agent="ide-copilot")
    async with office.notifying():
        proposal = await office.world.propose(caller=caller)
        await office.world.book.withdraw(proposal.id, caller)
        await office.told("april")
    ((_, letter),) = office.receiver.letters
    assert str(letter["Subject"]).startswith("[Arborgate] Withdrawn")


async def test_an_escalation_to_a_group_mails_its_people_alone(office: Office) -> None:
    office.notify = office.notify.model_copy(
        update=dict(NotifySettings.model_validate({"escalation": [{"after": 60, "groups": ["arborgate-responders"]}]}))
        | {"smtp": office.notify.smtp}
    )
    await office.choose(await office.enter("april"), "escalation")
    await office.choose(await office.enter("rita", role="responder"), "escalation")
    async with office.notifying():
        await office.world.propose()
        office.world.clock.forward(61)
        await office.told("rita")


@pytest.mark.parametrize("muted", ["1h", "7d"])
async def test_muted_is_muted_until_its_time_is_over(office: Office, muted: str) -> None:
    april = await office.enter("april")
    await office.choose(april, "proposed", mute=muted)
    assert "Until it ends in" in (await april.get("/notifications")).text
    await office.choose(await office.enter("ann"), "proposed")
    async with office.notifying():
        await office.world.propose()
        await office.told("ann")
        office.world.clock.forward(3_600 if muted == "1h" else 7 * 86_400)
        await office.world.propose()
        await office.told("ann", "ann", "april")


async def test_a_choice_goes_on_as_muted_as_it_was(office: Office) -> None:
    april = await office.enter("april")
    await office.choose(april, "proposed", mute="8h")
    before = (await office.preferences("april")).muted_until
    office.world.clock.forward(60)
    await office.choose(april, "stuck", mute="keep")
    assert (await office.preferences("april")).muted_until == before


async def test_who_has_not_logged_in_for_long_or_was_shut_out_is_told_no_more(office: Office) -> None:
    class Denied:
        def check(self, caller: Any, token_id: str, issued_at: float) -> None:
            if caller.subject == "eve":
                raise Unauthenticated(Flaw.DENIED)

    await office.choose(await office.enter("april"), "proposed")
    await office.choose(await office.enter("eve"), "proposed")
    office.world.clock.forward(20 * 86_400)
    await office.choose(await office.enter("ann"), "proposed")
    office.world.clock.forward(11 * 86_400)
    async with office.notifying(denied=Denied()):
        await office.world.propose()
        await office.told("ann")


async def test_turning_it_off_also_stops_what_is_on_its_way(office: Office) -> None:
    april = await office.enter("april")
    await office.choose(april, "proposed")
    await office.choose(await office.enter("ann"), "proposed")
    office.receiver.refuses = "451 Later"
    async with office.notifying(pause=lambda _attempt, _wanted: 5.0):
        await office.world.propose()
        failed = Event.NOTIFICATION_FAILED
        await wait_until(lambda: len(office.world.records(failed)) == 2)
        form = await april.read_form("/notifications")
        await april.post("/notifications/save", {**form, "mute": ""})
        office.receiver.refuses = ""
        office.world.clock.forward(6)
        await office.told("ann")


async def test_a_test_goes_to_oneself_once_a_minute(office: Office) -> None:
    april = await office.enter("april")
    form = await april.read_form("/notifications")
    assert "Send me a test" not in (await april.get("/notifications")).text
    assert (await april.post("/notifications/test", form)).status_code == 409
    await office.choose(april, "proposed")
    async with office.notifying():
        assert (await april.post("/notifications/test", form)).headers["location"] == "/notifications?sent=1"
        assert (await april.post("/notifications/test", form)).status_code == 503
        await office.told("april")
        office.world.clock.forward(61)
        assert (await april.post("/notifications/test", form)).status_code == 303
        await office.told("april", "april")
    assert "This is a test" in office.receiver.letters[0][1].get_content()


async def test_without_a_verified_address_there_is_nowhere_to_send(office: Office) -> None:
    april = await office.enter("april", mail="")
    assert "did not give an address that it has verified" in (await april.get("/notifications")).text
    form = await april.read_form("/notifications")
    await office.choose(
        april, "proposed", mail="evil@evil.example", to="evil@evil.example", address="evil@evil.example"
    )
    assert (await office.preferences("april")).mail == ""
    assert (await april.post("/notifications/test", form)).status_code == 409


@pytest.mark.parametrize(
    "claims",
    [
        {"email": "april@example.org"},
        {"email": "april@example.org", "email_verified": False},
        {"email": "april@example.org", "email_verified": "true"},
        {"email": "april@example.org", "email_verified": 1},
        {"email": ["april@example.org"], "email_verified": True},
        {"email": "april@example.org\r\nBcc: all@example.org", "email_verified": True},
        {"email": "April <april@example.org>", "email_verified": True},
        {"email": "a@example.org, b@example.org", "email_verified": True},
        {"email": "a" * 300 + "@example.org", "email_verified": True},
        {"email_verified": True},
    ],
)
def test_an_address_that_is_not_verified_or_not_one_is_none(claims: dict[str, Any]) -> None:
    assert read_mail(claims) == ""


def test_a_verified_address_is_taken_as_it_is() -> None:
    assert read_mail({"email": "april.o'neil+ops@mail.example.org", "email_verified": True}) == (
        "april.o'neil+ops@mail.example.org"
    )


async def test_nobody_changes_anybody_elses_choice(office: Office) -> None:
    april, eve = await office.enter("april"), await office.enter("eve")
    await office.choose(april, "proposed")
    await office.choose(eve, "stuck", key="https://issuer.test#april", subject="april")
    assert (await office.preferences("april")).events == (Occasion.PROPOSED,)
    form = await eve.read_form("/notifications")
    for path in ("/notifications/save", "/notifications/test"):
        assert (await april.post(path, form)).status_code == 403
        own = await april.read_form("/notifications")
        assert (await april.post(path, own, Origin="https://evil.example")).status_code == 403
    assert (await office.world.visit().get("/notifications")).status_code == 303


async def test_without_a_mail_server_there_is_no_such_page(office: Office) -> None:
    office.world.change(notify=NotifySettings())
    april = await office.enter("april")
    assert (await april.get("/notifications")).status_code == 404
    assert "/notifications" not in (await april.get("/proposals")).text


async def test_a_choice_that_can_not_be_recorded_is_not_made(office: Office) -> None:
    april = await office.enter("april")
    form = await april.read_form("/notifications")

    class Full:
        async def write(self, entry: Any) -> Any:
            if entry.event is Event.NOTIFICATION_CHOSEN:
                raise Unrecorded("The log is full.")
            return await office.world.audit.write(entry)

    office.world.change(audit=Full())
    again = office.world.visit()
    again.client.cookies = april.client.cookies
    assert (await again.post("/notifications/save", {**form, "on": "1", "mute": ""})).status_code == 503
    assert await People(office.world.state).all() == []


def register_pages(provider: OidcProvider, url: str, secret: Path) -> dict[str, Any]:
    """Makes the pages a client of the provider; what their settings say of the login, with the address that it verified."""
    secret.write_text("a client secret")
    provider.add_client(describe_pages("arborgate-pages", "a client secret", f"{url}/login/callback"))
    return {"issuer": provider.issuer, "client_secret_file": secret, "scope": "openid profile email"}


async def test_in_a_browser_a_person_turns_mail_on_by_keyboard_and_gets_it(
    tmp_path: Path, redis_url: str, oidc_provider: OidcProvider, page: Page
) -> None:
    """With the address that a real provider has verified."""
    (port,) = find_free_ports(1)
    url = f"http://127.0.0.1:{port}"
    login = register_pages(oidc_provider, url, tmp_path / "secret")
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    with receive_mail() as receiver:
        async with (
            open_world(tmp_path / "record", redis_url, url=url, **login) as world,
            httpx2.AsyncClient() as client,
        ):
            notify = NotifySettings.model_validate({"smtp": describe_smtp(receiver), "remind_after": []})
            world.change(notify=notify, environments=("production", "staging"))
            async with serve(world), Office(world, receiver, client, notify).notifying():
                await log_in(page, world, "april")
                await page.get_by_role("link", name="Notifications").click()
                await expect(page.get_by_text("april@example.test")).to_be_visible()
                assert await find_faults(page) == []
                for name in ("on", "event-applied"):
                    await press_until(page, name)
                    await page.keyboard.press("Space")
                await press_until(page, "Save")
                await page.keyboard.press("Enter")
                await expect(page.get_by_role("status")).to_have_text("Saved.")
                await expect(page.get_by_label("Mail me")).to_be_checked()
                await expect(page.get_by_label("Applied")).to_be_checked()
                assert await find_faults(page) == []
                if os.environ.get("ARBORGATE_IMAGES") == "write":
                    await page.screenshot(path=IMAGE, full_page=True)
                proposal = await world.propose(caller=DEV)
                await wait_until(lambda: receiver.letters)
                to, letter = receiver.letters[0]
                assert to == ["april@example.test"]
                assert f"{url}/proposals/{proposal.id}" in letter.get_content()
                chosen = (await People(world.state).all())[0]
                assert set(chosen.events) == {*WANTED, Occasion.APPLIED}
                world.change(notify=notify)
                await page.get_by_role("button", name="Send me a test").click()
                await expect(page.get_by_role("status")).to_have_text("A test is on its way.")
                await wait_until(lambda: len(receiver.letters) == 2)
    assert complaints == []


async def test_a_login_brings_the_groups_and_the_address_up_to_date(
    tmp_path: Path, redis_url: str, oidc_provider: OidcProvider, page: Page
) -> None:
    (port,) = find_free_ports(1)
    url = f"http://127.0.0.1:{port}"
    login = register_pages(oidc_provider, url, tmp_path / "secret")
    with receive_mail() as receiver:
        async with open_world(tmp_path / "record", redis_url, url=url, **login) as world:
            world.change(notify=NotifySettings.model_validate({"smtp": describe_smtp(receiver)}))
            people = People(world.state)
            old = Preferences(
                issuer=oidc_provider.issuer,
                subject="april",
                name="April",
                groups=("gone",),
                mail="old@example.test",
                seen_at=1.0,
                on=True,
            )
            await people.put(old)
            async with serve(world):
                await log_in(page, world, "april")
            now = await people.read(old.key)
    assert now is not None
    assert (now.mail, "gone" in now.groups, now.on) == ("april@example.test", False, True)
    assert now.seen_at > 1.0
