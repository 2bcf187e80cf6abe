"""Escaped text in a browser, where Streamlit parses Markdown."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.dashboard import places
from tests.dashboard.browser import WAIT_S, wait_until_drawn

pytestmark = pytest.mark.nightly

TEXTS = [
    "*a* **b** _c_ __d__ ~~e~~ `f` ``` g",
    ":material/home: :material_home: :streamlit: :smile: :+1: :-1::tada:",
    ':red[x] :red-background[x] :blue-badge[x] :small[x] :shimmer[x] :help[x] :color[x]{foreground="red"} ::leaf',
    "$x^2$ $$y$$ $5 and $6",
    "[a](https://example.com) ![i](https://example.com/x.png) [^1] [r]: http://a.b",
    "https://example.com/a?b=c HTTP://EXAMPLE.COM www.example.com WwW.a.b http://localhost:8501 <https://a.b>",
    "me@example.com mailto:me@example.com xmpp:a@b.cd <a@b.c>",
    "<b>x</b><img src=x onerror=alert(1)><script>alert(1)</script><!-- c -->",
    "&amp; &#60; &lt;",
    "a -> b <- c <-> d -- e >= f <= g ~= h",
    "# h",
    "- [ ] l",
    "1. l",
    "> q",
    "| a | b |\n|---|---|\n| 1 | 2 |",
    "a\n---\nb\n===\n\n\n    indented\n\n- x\n- y",
    "ends with \\",
    "\\*a* \\\\ \\:smile: \\https://a.b",
    "a@b.co:smile:www.x.y->--<->https://:material/home:--",
    "study_name-v1.2 (x=1e-3, lr: 0.1) [2/3] 50% #4 & 'q' \"q\" 12:30:45 a:b::c",
    "é 日本 😀 https://例え.jp",
]
# Elements that Streamlit and the browser create from Markdown.
MADE = "a, img, em, del, code, pre, ul, ol, li, hr, table, blockquote, h1, script, b, sup, input, .katex"


@pytest.fixture(scope="module")
def url():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--server.headless=true", "--server.address=127.0.0.1", f"--server.port={port}"]
    options += ["--server.fileWatcherType=none", "--browser.gatherUsageStats=false"]
    with subprocess.Popen(
        [sys.executable, "-m", "streamlit", "run", *options, places.__file__, json.dumps(TEXTS)],
        env={**os.environ, "PYTHONPATH": str(Path(places.__file__).parents[2])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as server:
        try:
            deadline = time.monotonic() + WAIT_S
            with socket.socket() as client:
                while client.connect_ex(("127.0.0.1", port)) != 0:
                    assert server.poll() is None
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


@pytest.fixture(scope="module")
def shown(browser, url):
    """Visible text and names of created elements, by Streamlit element and number of the text."""
    page = browser.new_page()
    yield shown_by(page, url)
    page.close()


def shown_by(page, url):
    page.goto(url)
    page.get_by_text("That is all.").wait_for(timeout=WAIT_S * 1000)
    wait_until_drawn(page)
    page.wait_for_function(  # labels of buttons are not visible at first
        """() => [...document.querySelectorAll('[class*="st-key-place-"]')].every(place => place.innerText.trim())""",
        timeout=WAIT_S * 1000,
    )
    found = page.evaluate(
        """made => [...document.querySelectorAll('[class*="st-key-place-"]')].map(place => {
            const kinds = ["stMarkdownContainer", "stCaptionContainer", "stHeading"];
            const texts = [...place.querySelectorAll(kinds.map(kind => `[data-testid=${kind}]`))]
                .filter(one => one.checkVisibility() && one.innerText.trim());
            return [
                place.className.match(/st-key-place-(\\w+-\\d+)/)[1],
                texts.map(one => one.innerText),
                texts.flatMap(one => [...one.querySelectorAll(made)].map(node => node.tagName)),
            ];
        })""",
        MADE,
    )
    return {key: (texts, made) for key, texts, made in found}


def test_every_streamlit_element_shows_text_verbatim(shown):
    assert len(shown) == len(places.PLACES) * len(TEXTS)
    for place in places.PLACES.keys() - {"among", "lines"}:
        for number, text in enumerate(TEXTS):
            texts, made = shown[f"{place}-{number}"]
            line = " ".join(text.split())
            expected = f"Look: {line}" if place == "message" else line
            assert set(texts) == ({"column", line} if place == "cell" else {expected}), place
            assert not made, f"{place} made {made} of {text!r}"


def test_text_stays_verbatim_inside_other_markdown(shown):
    for number, text in enumerate(TEXTS):
        (seen,), made = shown[f"among-{number}"]
        line = " ".join(text.split())
        assert seen.startswith(f"🎉 {line} ")
        assert seen.endswith(line)
        assert not {"A", "IMG", "EM"} & set(made)


def test_notes_keep_their_lines(shown):
    for number, text in enumerate(TEXTS):
        (seen,), made = shown[f"lines-{number}"]
        lines = [line.strip() for line in text.splitlines()]
        assert [line for line in seen.splitlines() if line] == [line for line in lines if line]
        assert not made


def test_unescaped_texts_become_links_images_and_styles(browser, url):
    page = browser.new_page()
    made = {name for _, of_place in shown_by(page, f"{url}/?raw").values() for name in of_place}
    page.close()
    assert {"A", "IMG", "EM", "DEL", "CODE", "LI", "H1", "TABLE"} <= made
