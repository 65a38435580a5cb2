"""What the pages say, and to whom."""

import itertools
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from arborgate.server.web.words import Mark, read_diff, reveal, show_distance, show_duration
from arborgate.tools.change import Check
from arborgate.tools.probes import HaproxyProbe, RedisProbe
from arborgate.tools.risk import Risk
from arborgate.tools.tree import Health
from tests.server.web.world import World, make_caller, make_change, make_factor, open_world
from tests.tools.world import CLUSTER, make_app

pytestmark = pytest.mark.anyio

ATTACK = """</pre><script src=/static/refresh.js></script><img src=x onerror=alert(1)>"'&<b>bold</b>"""


class Outline(HTMLParser):
    """The parts of a page that assistive technology goes by."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, *names: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag in names]


async def test_every_page_can_be_used_by_ear_and_keyboard(world: World) -> None:
    visitor = await world.enter("april", "approver")
    proposal = await world.propose()
    await world.enter("april", "approver")
    for path in ("/login", "/proposals", f"/proposals/{proposal.id}", "/apps", "/sessions", "/proposals/p-none"):
        html = (await visitor.get(path)).text
        page = Outline(html)
        assert len(page.all("h1")) == 1, path
        assert [len(page.all(name)) for name in ("main", "header", "footer")] == [1, 1, 1], path
        assert page.all("html")[0]["lang"] == "en"
        assert page.all("body", "a")[1]["href"] == "#main", path
        labels = {label["for"] for label in page.all("label")}
        fields = [field for field in page.all("input", "select", "textarea") if field.get("type") != "hidden"]
        assert all(field["id"] in labels for field in fields), path
        ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
        assert len(ids) == len(set(ids)), path
        named = re.findall(r'aria-(?:labelledby|describedby)="([^"]+)"', html)
        assert set(named) <= set(ids), path
        headings = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
        assert all(after - before <= 1 for before, after in itertools.pairwise(headings)), path
        assert all("aria-label" in nav for nav in page.all("nav")), path


async def test_the_inbox_begins_with_what_waits_for_the_reader(world: World) -> None:
    mine = await world.propose(caller=make_caller("april", "approver"), title="My own")
    theirs = await world.propose(title="Somebody's")
    rejected = await world.propose(title="Rejected before")
    april, abel = await world.enter("april", "approver"), await world.enter("abel", "approver")
    await abel.decide(rejected, "reject")
    waiting, _, rest = (await april.get("/proposals")).text.partition("All others")
    assert [one.id in waiting for one in (mine, theirs, rejected)] == [False, True, False]
    assert [one.id in rest for one in (mine, theirs, rejected)] == [True, False, True]


async def test_the_inbox_filters_by_state_app_and_requester(world: World) -> None:
    orders = await world.propose(title="About orders")
    search = await world.propose(make_change("search"), title="About search", caller=make_caller("april", "approver"))
    april, abel = await world.enter("april", "approver"), await world.enter("abel", "approver")
    await abel.decide(orders, "reject")

    async def found(query: str) -> list[bool]:
        html = (await april.get(f"/proposals?{query}")).text
        return [one.id in html for one in (orders, search)]

    assert await found("state=rejected") == [True, False]
    assert await found("state=open") == [False, True]
    assert await found("state=nonsense") == [True, True]
    assert await found("app=orders-api") == [True, False]
    assert await found(f"app={CLUSTER}/argocd/search") == [False, True]
    assert await found("app=nothing") == [False, False]
    assert await found("mine=1") == [False, True]


async def test_a_long_list_goes_on_with_the_same_filters(world: World) -> None:
    for number in range(32):
        await world.propose(title=f"Number {number}")
    viewer = await world.enter("vera", "viewer")
    html = (await viewer.get("/proposals?state=open")).text
    assert html.count('<li class="row">') == 30
    (older,) = re.findall(r'href="(/proposals\?state=open&amp;before=[^"]+)"', html)
    assert (await viewer.get(older.replace("&amp;", "&"))).text.count('<li class="row">') == 2


async def test_a_proposal_shows_all_that_is_approved(world: World) -> None:
    change = make_change(undo=None, undo_note="its history was pruned", wave=3)
    proposal = await world.propose(change, factors=(make_factor("production is strict"),))
    html = (await (await world.enter("april", "approver")).get(f"/proposals/{proposal.id}")).text
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", html)).replace("&#39;", "'")
    for fact in (
        "Roll orders-api back to v2.13.4",
        "high risk",
        "production is strict",
        "The agent’s words",
        "Application argocd/orders-api in main",
        "removed: - targetRevision: v2.14.0",
        "added: + targetRevision: v2.13.4",
        "Can’t be undone: its history was pruned",
        "main/argocd/orders-api is Healthy, within 300 s",
        "wave 3",
        "accepted by the system",
        "Dev through the agent ide-copilot",
        proposal.digest,
        proposal.digest[:12],
        "0 of 1 approval",
        "approvers-decide",
        "Expires",
        "orders-api Degraded target environment production",
    ):
        assert fact in text.replace("  ", " "), fact


async def test_how_long_it_bakes_and_what_is_probed_is_shown(world: World) -> None:
    probes = (RedisProbe(source="cache", replicas=2), HaproxyProbe(endpoint="edge", backend="be_shop", up=3))
    check = Check(app="main/argocd/orders-api", bake=60, probes=probes)
    proposal = await world.propose(make_change(check=check))
    html = (await (await world.enter("april", "approver")).get(f"/proposals/{proposal.id}")).text
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", html))
    assert "within 300 s, and stays so for 60 s" in text
    assert "; the Redis cache answers, with 2 replicas at most 10 s behind" in text
    assert "; 3 servers of be_shop are up at the HAProxy edge" in text


async def test_the_apps_under_a_target_are_shown_as_far_as_the_reader_may_see(world: World) -> None:
    proposal = await world.propose(make_change("orders"))
    html = (await (await world.enter("april", "approver")).get(f"/proposals/{proposal.id}")).text
    under = html.partition('id="apps"')[2].partition("</section>")[0]
    assert re.findall(r'class="app-name">([^<]+)<', under) == ["orders", "orders-api", "orders-queue", "orders-worker"]


async def test_untrusted_text_is_text_wherever_it_appears(world: World) -> None:
    world.tree.put(make_app(f"x{ATTACK}", env="prod", health=Health.DEGRADED, health_message=ATTACK))
    change = make_change(summary=ATTACK, diff=f"@@\n-{ATTACK}\n+{ATTACK}", undo_note=ATTACK)
    requester = make_caller(ATTACK, "developer", agent=ATTACK)
    proposal = await world.propose(
        change, title=ATTACK, reason=ATTACK, environments=(ATTACK,), factors=(make_factor(ATTACK),), caller=requester
    )
    april = await world.enter("april", "approver")
    await april.decide(proposal, comment=ATTACK)
    for path in ("/proposals", f"/proposals/{proposal.id}", "/apps"):
        html = (await april.get(path)).text
        assert "&lt;img src=x onerror=alert(1)&gt;" in html, path
        assert "<img" not in html, path
        assert "<b>" not in html, path
        assert html.count("<script") == html.count('<script src="/static/'), path
    outline = Outline((await april.get(f"/proposals/{proposal.id}")).text)
    assert not any(name.startswith("on") for _, attributes in outline.tags for name in attributes)


async def test_a_filter_comes_back_as_text(world: World) -> None:
    april = await world.enter("april", "approver")
    for path in ("/apps?text=", "/proposals?app="):
        assert "<img" not in (await april.client.get(path + ATTACK.replace("&", "%26").replace("#", "%23"))).text


async def test_a_secret_never_reaches_a_page(world: World) -> None:
    token = "ghp_" + "a1B2c3D4e5F6g7H8i9J0" * 2
    change = make_change(summary=f"Use {token}", diff=f"@@\n-x\n+token: {token}")
    proposal = await world.propose(change, title=f"With {token}", reason=f"Because {token}")
    april = await world.enter("april", "approver")
    await april.decide(proposal, comment=f"Take {token}")
    for path in ("/proposals", f"/proposals/{proposal.id}"):
        assert token not in (await april.get(path)).text


def test_hidden_characters_are_written_out() -> None:
    assert reveal("plain\ttext\n") == "plain\ttext\n"
    assert reveal("grün ✓ 変更") == "grün ✓ 変更"
    assert reveal("user\u202egnp.exe") == "user⟨U+202E⟩gnp.exe"
    assert reveal("a\u200bb\u3164c\ufe0fd\x1b[31m\r") == "a⟨U+200B⟩b⟨U+3164⟩c⟨U+FE0F⟩d⟨U+001B⟩[31m⟨U+000D⟩"


async def test_a_diff_cannot_hide_what_it_changes(world: World) -> None:
    change = make_change(diff="@@\n-image: shop/api:v1\n+image: shop/api:v1\u200b")
    proposal = await world.propose(change)
    html = (await (await world.enter("april", "approver")).get(f"/proposals/{proposal.id}")).text
    assert "image: shop/api:v1⟨U+200B⟩" in re.sub(r"<[^>]+>", "", html)


def test_a_diff_is_read_line_by_line() -> None:
    lines = read_diff("--- a\n+++ b\n@@ -1 +1 @@\n same\n--- removed dashes\n+++ added pluses\n\\ No newline\n", str)
    assert [(line.mark, line.text) for line in lines] == [
        (Mark.HUNK, "@@ -1 +1 @@"),
        (Mark.SAME, "same"),
        (Mark.REMOVED, "-- removed dashes"),
        (Mark.ADDED, "++ added pluses"),
        (Mark.SAME, "\\ No newline"),
    ]
    assert read_diff("", str) == ()


def test_lengths_are_told_in_the_largest_unit_that_fits() -> None:
    lengths = [show_duration(seconds) for seconds in (900, 3_600, 7_200, 90, 86_400, 0)]
    assert lengths == ["15 minutes", "1 hour", "2 hours", "90 seconds", "1 day", "0 seconds"]


def test_times_are_told_from_now() -> None:
    assert [show_distance(at, 1_000.0) for at in (1_000.5, 940.0, 8_200.0)] == ["just now", "1m ago", "in 2h"]


async def test_the_tree_opens_where_something_fails(world: World) -> None:
    html = (await (await world.enter("vera", "viewer")).get("/apps")).text
    assert html.count("<details open>") == 3
    assert html.count("<details>") == 2
    assert "3 failing below" in html
    assert "Back-off pulling image" in html
    assert html.index(">production</h2>") < html.index(">staging</h2>")


async def test_a_filtered_tree_keeps_the_way_down(world: World) -> None:
    vera = await world.enter("vera", "viewer")
    html = (await vera.get("/apps?text=orders-queue")).text
    assert re.findall(r'class="app-name">([^<]+)<', html) == ["platform", "shop", "orders", "orders-queue"]
    troubled = (await vera.get("/apps?unhealthy=1&environment=staging")).text
    assert re.findall(r'class="app-name">([^<]+)<', troubled) == ["shop-staging", "payments-api-staging"]


async def test_a_target_that_is_no_app_hides_no_other_proposal(world: World) -> None:
    usual = make_change()
    posing = usual.model_copy(update={"target": usual.target.model_copy(update={"app": "orders-api"})})
    proposals = [await world.propose(usual), await world.propose(posing)]
    april = await world.enter("april", "approver")
    inbox = await april.get("/proposals")
    assert inbox.status_code == 200
    assert [one.id in inbox.text for one in proposals] == [True, True]
    assert (await april.get(f"/proposals/{proposals[1].id}")).status_code == 200


async def test_who_has_no_role_sees_no_tree(world: World) -> None:
    answer = await (await world.enter("nora")).get("/apps")
    assert (answer.status_code, "orders" in answer.text) == (403, False)


async def test_low_risk_looks_low(world: World) -> None:
    proposal = await world.propose(make_change("search"), risk=Risk.LOW)
    assert "low risk" in (await (await world.enter("vera", "viewer")).get(f"/proposals/{proposal.id}")).text


async def test_a_demo_says_so_on_every_page(tmp_path: Path, redis_url: str) -> None:
    async with open_world(tmp_path, redis_url, demo=True) as world:
        visitor = await world.enter("april", "approver")
        for path in ("/login", "/proposals", "/apps", "/proposals/p-none"):
            assert "<strong>Demo.</strong>" in (await visitor.get(path)).text


def test_every_test_that_the_guide_names_is_there() -> None:
    here = Path(__file__)
    guide = (here.parents[3] / "docs" / "approving.md").read_text()
    named = set(re.findall(r"`(test_\w+)`", guide))
    files = (*here.parent.glob("test_*.py"), *here.parents[1].glob("applier/test_*.py"))
    there = set(re.findall(r"def (test_\w+)", "".join(file.read_text() for file in files)))
    assert named
    assert named <= there
