"""A browser, and pages whose errors fail the test."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from tests.dashboard.browser import WAIT_S, serve

EXECUTABLES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium or Chrome of the system.

    Its scope is one module: while Playwright runs an event loop in this thread, `asyncio.run` fails.
    """
    found = next(filter(None, map(shutil.which, EXECUTABLES)), None)
    if found is None:
        reason = f"no browser: none of {', '.join(EXECUTABLES)} is installed"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    expect.set_options(timeout=WAIT_S * 1000)
    with sync_playwright() as playwright:
        # The sandbox of Chromium does not start as root, as which CI may run.
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def served() -> Iterator[Callable[..., str]]:
    """Function `served(store_uri)`: start a server that runs until the pages of the test are closed, return its URL."""
    with ExitStack() as servers:
        yield lambda store_uri, **environment: servers.enter_context(serve(store_uri, **environment))


@pytest.fixture
def page(browser: Browser, served: Callable[..., str]) -> Iterator[Page]:
    """Empty page of 1280 × 900 pixels. Console errors and exceptions of its scripts fail the test.

    It requests `served` so that the page closes before the server.
    """
    errors: list[str] = []
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(WAIT_S * 1000)
    context.on("console", lambda line: errors.append(f"{line.text} {line.location}") if _is_error(line) else None)
    context.on("weberror", lambda error: errors.append(str(error.error)))
    yield context.new_page()
    context.close()
    assert not errors, "errors in the browser:\n" + "\n".join(errors)


def _is_error(line: ConsoleMessage) -> bool:
    """Return whether the line is an error other than the 404 of Streamlit looking for its server below a page path."""
    is_search = "404" in line.text and line.location["url"].endswith(("/_stcore/health", "/_stcore/host-config"))
    return line.type == "error" and not is_search
