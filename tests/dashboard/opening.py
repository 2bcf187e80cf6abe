"""Pages of the dashboard in AppTest, the test runner of Streamlit, without a browser."""

import re
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

import dashboard

APP = Path(dashboard.__file__).with_name("app.py")


def open_page(monkeypatch: pytest.MonkeyPatch, store: object, path: str = "studies", **address: Any) -> AppTest:
    """Open a page of the dashboard with the query parameters `address`, and assert that it raised nothing."""
    monkeypatch.setattr("sys.argv", [str(APP), str(store)])
    app = AppTest.from_file(str(APP), default_timeout=60).run()
    if path != "studies":
        # AppTest switches to pages that are files; ours are functions, whose hashes exist after the first run.
        (app._page_hash,) = (name for name, page in app._registered_pages.items() if page.get("url_pathname") == path)
        app.query_params = {name: str(value) for name, value in address.items()}
        app.run()
    assert not app.exception, app.exception[0].value
    return app


def words(app: AppTest) -> str:
    """Return all text of a page without the escapes of Markdown."""
    kinds = ("title", "subheader", "markdown", "caption", "info", "warning", "error", "text", "code")
    return unescaped("\n".join(str(one.value) for kind in kinds for one in app.get(kind) if hasattr(one, "value")))


def unescaped(markdown: str) -> str:
    """Return text without the escapes of Markdown."""
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", markdown.replace(":small[]", ""))
