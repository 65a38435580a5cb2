"""The browser of the person at this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping


def has_browser(environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> bool:
    """Whether a browser could open on this machine, for somebody to see."""
    shown = any(environ.get(name) for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY"))
    return shown or platform in ("darwin", "win32")


def open_browser(url: str) -> None:
    """Opens a URL. What the browser prints goes nowhere: standard output may be a conversation in MCP."""
    command = [sys.executable, "-m", "webbrowser", url]
    nothing = subprocess.DEVNULL
    # In a thread: some browsers hold on until they are closed, and we have to answer them before.
    run = threading.Thread(
        target=subprocess.run,
        args=(command,),
        kwargs={"stdin": nothing, "stdout": nothing, "stderr": nothing, "check": False},
        daemon=True,
    )
    run.start()
