"""What axe-core, the rules that browsers' own accessibility tools go by, finds wrong with a page."""

from functools import cache

from playwright.async_api import Page

from .install import find_axe

_RUN = """
() => axe.run(document, { resultTypes: ["violations"] }).then(({ violations }) => violations.flatMap(
  ({ id, impact, nodes }) => nodes.map((node) => `${impact} ${id}: ${node.html.slice(0, 160)} ${node.failureSummary}`)
))
"""


async def find_faults(page: Page) -> list[str]:
    """Each violation of the page as it is now: how bad, which rule, and where."""
    await page.evaluate(_read_axe())
    faults: list[str] = await page.evaluate(_RUN)
    return faults


@cache
def _read_axe() -> str:
    return find_axe().read_text()
