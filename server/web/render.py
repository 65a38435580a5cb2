"""Pages from templates: Jinja with escaping on, and the words, shapes and times that the templates use."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context, select_autoescape
from jinja2.runtime import Context
from markupsafe import Markup, escape
from starlette.responses import HTMLResponse

from ...tools.proposal import ProposalState, StepState
from ...tools.tree import Health, Sync
from .diffs import write_diff
from .guard import HEADERS
from .masks import Masking, Masks
from .sessions import Session
from .words import isolate, reveal_clean, show_distance, show_duration, show_time

HERE = Path(__file__).parent
STATIC = HERE / "static"

# A tone is a colour and a shape together, so that neither is needed to tell them apart.
_TONES: Mapping[str, str] = {
    Health.DEGRADED: "bad",
    Health.MISSING: "bad",
    Health.UNKNOWN: "unsure",
    Health.PROGRESSING: "busy",
    Health.SUSPENDED: "idle",
    Health.HEALTHY: "good",
    Sync.OUT_OF_SYNC: "warn",
    Sync.SYNCED: "good",
    ProposalState.DRAFTED: "busy",
    ProposalState.PROPOSED: "asks",
    ProposalState.APPROVED: "busy",
    ProposalState.APPLYING: "busy",
    ProposalState.APPLIED: "good",
    ProposalState.FAILED: "bad",
    ProposalState.ROLLED_BACK: "bad",
    ProposalState.REFUSED: "bad",
    ProposalState.STALE: "unsure",
    StepState.STARTED: "busy",
    StepState.HEALTHY: "good",
    StepState.UNDOING: "busy",
    StepState.UNDONE: "unsure",
    StepState.STUCK: "bad",
}


class Renderer:
    """Renders a template as a response that no cache keeps.

    Whatever a template writes is masked, without a word in it: by `finalize`, through which every value goes on its way
    to the page. What stays says so: `|identity` is who somebody is, where the page is about just that; `|own` is what
    readers typed themselves, and the addresses that lead on from here; `masks.of(…)` is about one thing. A macro that
    was imported without the context does not know its reader, and shows nothing."""

    def __init__(
        self,
        masking: Masking,
        *,
        clock: Callable[[], float],
        demo: bool,
        passkeys: bool = False,
        notifies: bool = False,
    ) -> None:
        self._masking = masking
        self._clock = clock
        self._templates = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=select_autoescape(default=True, default_for_string=True),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            finalize=self._finalize,
        )
        self._templates.filters.update(
            clean=masking.clean,
            identity=lambda text: escape(isolate(reveal_clean(text, masking.clean))),
            own=escape,
            words=self._write_words,
            duration=show_duration,
            time=show_time,
            tone=lambda value: _TONES.get(value, "quiet"),
            spaced=lambda value: str(value).replace("_", " "),
        )
        self._templates.globals.update(demo=demo, signs=passkeys, notifies=notifies, static=_version_static())
        self._templates.globals["write_diff"] = write_diff

    def begin(self, session: Session | None, shows: bool = False) -> Masks:
        """The masks of one page; `shows` as for `Masking.begin`."""
        return self._masking.begin(session.caller if session else None, shows)

    def page(
        self,
        template: str,
        session: Session | None,
        *,
        status: int = 200,
        masks: Masks | None = None,
        **values: object,
    ) -> HTMLResponse:
        """A whole page. Every template sees `session` (None: nobody is logged in), `masks` (by default, all is masked) and
        `now`."""
        now = self._clock()
        values = {"distance": lambda seconds: show_distance(seconds, now), "now": now, **values}
        masks = masks or self.begin(session)
        body = self._templates.get_template(template).render(session=session, masks=masks, **values)
        return HTMLResponse(body, status, headers={**HEADERS, "Cache-Control": "no-store"})

    @pass_context
    def _finalize(self, context: Context, value: object) -> Markup | str:
        """Every value on its way to the page; markup is what was made of values that came by here before."""
        return value if isinstance(value, Markup) else self._masks_of(context).hide(str(value))

    @pass_context
    def _write_words(self, context: Context, text: str) -> str:
        return isolate(reveal_clean(text, self._masks_of(context).clean))

    def _masks_of(self, context: Context) -> Masks:
        found = context.get("masks")
        return found if isinstance(found, Masks) else self._masking.begin(None)


def _version_static() -> Mapping[str, str]:
    """The URL of each static file, which changes with its content, so that browsers may keep it for good."""
    return {
        file.name: f"/static/{file.name}?v={hashlib.sha256(file.read_bytes()).hexdigest()[:12]}"
        for file in sorted(STATIC.iterdir())
    }
