"""Pages of the dashboard without a browser, by Streamlit's own test runner."""

import re
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

import dashboard

APP = Path(dashboard.__file__).with_name("app.py")


def open_page(monkeypatch: pytest.MonkeyPatch, store: object, path: str = "studies", **address: Any) -> AppTest:
    """A page of the dashboard as its address says, without exception."""
    monkeypatch.setattr("sys.argv", [str(APP), str(store)])
    app = AppTest.from_file(str(APP), default_timeout=60).run()
    if path != "studies":
        # The runner switches to pages that are files; ours are functions, whose hashes it knows after the first run.
        (app._page_hash,) = (name for name, page in app._registered_pages.items() if page.get("url_pathname") == path)
        app.query_params = {name: str(value) for name, value in address.items()}
        app.run()
    assert not app.exception, app.exception[0].value
    return app


def words(app: AppTest) -> str:
    """All that a page says in words, without the escapes of Markdown."""
    kinds = ("title", "subheader", "markdown", "caption", "info", "warning", "error", "text", "code")
    return unescaped("\n".join(str(one.value) for kind in kinds for one in app.get(kind) if hasattr(one, "value")))


def unescaped(markdown: str) -> str:
    """What is read where text was made safe for Markdown."""
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", markdown.replace(":small[]", ""))
