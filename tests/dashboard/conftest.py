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
    """The system's Chromium or Chrome, without a window.

    For one module, since as long as it is there this thread has an event loop that runs, and `asyncio.run` fails.
    """
    found = next(filter(None, map(shutil.which, EXECUTABLES)), None)
    if found is None:
        reason = f"no browser: none of {', '.join(EXECUTABLES)} is installed"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    expect.set_options(timeout=WAIT_S * 1000)
    with sync_playwright() as playwright:
        # Chromium does not start as root, whom CI may be, within its sandbox.
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def served() -> Iterator[Callable[..., str]]:
    """`serve` as a function: `served(store_uri)` gives a URL that is served until the test's pages are closed."""
    with ExitStack() as servers:
        yield lambda store_uri, **environment: servers.enter_context(serve(store_uri, **environment))


@pytest.fixture
def page(browser: Browser, served: Callable[..., str]) -> Iterator[Page]:
    """An empty page of 1280 × 900 pixels; errors in its console, and exceptions of its scripts, fail the test.

    It asks for `served` so as to be closed first.
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
    """Not when Streamlit looks for its server below the path of a page before it looks at the root."""
    is_search = "404" in line.text and line.location["url"].endswith(("/_stcore/health", "/_stcore/host-config"))
    return line.type == "error" and not is_search
