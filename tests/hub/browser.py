"""A real browser (Debian's chromium) and a real hub on a port of this machine."""

import os
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
from playwright.async_api import Browser, Page, async_playwright

from holdfast.hub.api import make_api
from holdfast.hub.door import Door
from holdfast.node.server import serving
from tests.hub.site import Site

#: A name that somebody else gives, and lets point to this machine.
REBOUND: Final = "evil.example"


def program() -> str:
    """The browser's program. Without one the test is skipped; in CI it fails."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        reason = "chromium is not installed: run scripts/servers, or apt-get install chromium"
        if os.environ.get("CI"):
            pytest.fail(f"{reason}; in CI that is a failure.")
        pytest.skip(reason)
    return found


@asynccontextmanager
async def browsing() -> AsyncIterator[Browser]:
    """A browser without a window."""
    path = program()
    arguments = ["--no-sandbox", "--disable-gpu", f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1"]
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=path, args=arguments)
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def served(app: Any) -> AsyncIterator[int]:
    """Serve an application on a free port of loopback."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        async with serving(app, bound):
            yield bound.getsockname()[1]


def door(site: Site, **policy: Any) -> Door:
    """The hub of a site, as a browser reaches it."""
    return Door(make_api(site.parts), site.policy(**policy))


async def press(page: Page, button: str) -> None:
    """Press a button, and wait for the page that it leads to."""
    async with page.expect_navigation():
        await page.click(button)


class Watched:
    """A page whose every sign of life is kept: dialogs, messages, and what it asked of whom."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.ran: list[str] = []
        self.asked: list[str] = []
        page.on("dialog", self._dialog)
        page.on("console", lambda message: self.ran.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.ran.append(f"error: {error}"))
        page.on("request", lambda request: self.asked.append(request.url))

    async def _dialog(self, dialog: Any) -> None:
        self.ran.append(f"dialog: {dialog.message}")
        await dialog.dismiss()

    async def nodes(self) -> list[str]:
        """The names of all elements, and of attributes that could act."""
        found: list[str] = await self.page.evaluate(
            """() => [...document.querySelectorAll('*')].flatMap(one => [one.localName,
                ...[...one.attributes].filter(a => /^on|^style$|^srcdoc$/.test(a.name)).map(a => '@' + a.name)])"""
        )
        return found
