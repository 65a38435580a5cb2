"""A headless Chromium, driven by Playwright's asynchronous API, that can reach loopback and nothing else."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, Page, async_playwright, expect

from .install import find_program

FLAGS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)
PATIENCE_MILLISECONDS = 20_000


@asynccontextmanager
async def run_chromium() -> AsyncIterator[Browser]:
    """Debian's Chromium with a profile of its own, without a sandbox: tests run as root, on pages of ours."""
    expect.set_options(timeout=PATIENCE_MILLISECONDS)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=find_program("chromium"), args=FLAGS, chromium_sandbox=False
        )
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def open_page(browser: Browser) -> AsyncIterator[Page]:
    """A page in a context of its own: no cookies, no cache, nothing from the page before it."""
    context = await browser.new_context(locale="en-US", timezone_id="UTC")
    context.set_default_timeout(PATIENCE_MILLISECONDS)
    try:
        yield await context.new_page()
    finally:
        await context.close()
