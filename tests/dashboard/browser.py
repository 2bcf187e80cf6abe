"""Tools for tests of the dashboard in a real browser.

Tests take the fixtures `page` and `served` (conftest.py). Without a browser they are skipped; in CI they fail.

- After a click, wait for its result by `expect(locator)…`, which retries until a timeout. An idle script proves
  nothing: Streamlit sends a click up to 150 ms later.
- Old elements stay on the page while the script reruns; wait for new elements.
- A dark theme: `page.emulate_media(color_scheme="dark")` before `open_view`.
- A download: `with page.expect_download() as caught: button.click()`, then `caught.value.suggested_filename`.
"""

import io
import json
import os
import socket
import subprocess
import tempfile
import time
import urllib.request
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import soundfile
from playwright.sync_api import Locator, Page, Position

from tests.study.commands import command

WAIT_S = 120
"""Timeout of every wait, for machines under load."""


class Mark(NamedTuple):
    """Mark of a chart for one row of its data."""

    datum: dict[str, Any]
    box: tuple[float, float, float, float]
    """Left, top, right and bottom, CSS pixels from the upper left corner of the chart element."""
    opacity: float


class Sound(NamedTuple):
    """Audio that a browser plays."""

    sample_rate_hz: int
    samples_CN: np.ndarray


@contextmanager
def serve(store_uri: object, **environment: str) -> Iterator[str]:
    """Run `marl-study dashboard` on a free port in a separate process and yield its URL.

    The server must outlive its pages, which report a lost connection as an error: use the fixture `served` or a module
    fixture. The output of the server is added to exceptions as a note.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = command("dashboard", "--store", store_uri, "--port", port)
    environment = {**os.environ, "STREAMLIT_SERVER_HEADLESS": "true", **environment}
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment
        )
        try:
            _wait_until_healthy(server, port)
            yield f"http://localhost:{port}"
            assert server.poll() is None, f"the dashboard ended with status {server.returncode}"
        except Exception as failure:
            log.seek(0)
            failure.add_note(f"the dashboard wrote:\n{log.read().decode()}")
            raise
        finally:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _wait_until_healthy(server: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + WAIT_S
    while True:
        assert server.poll() is None, f"the dashboard ended with status {server.returncode}"
        try:
            with urllib.request.urlopen(f"http://localhost:{port}/_stcore/health", timeout=5) as answer:
                assert answer.read() == b"ok"
                return
        except OSError:
            assert time.monotonic() < deadline, f"the dashboard did not answer within {WAIT_S} s"
            time.sleep(0.1)


def open_view(page: Page, url: str) -> None:
    """Go to a page of the dashboard and wait until it is drawn."""
    page.goto(url)
    wait_until_drawn(page)


_DRAWN = """() => {
    const all = name => [...document.querySelectorAll(`[data-testid="${name}"]`)];
    const drawn = chart => chart.closest('[data-testid="stElementContainer"]')
        .querySelector('[data-testid="stElementToolbarButton"] [aria-label^="Download as PNG"]');
    return all("stApp")[0]?.dataset.testScriptState === "notRunning"
        && all("stSkeleton").length === 0
        && document.querySelector('[data-stale="true"]') === null
        && document.fonts.status === "loaded"
        && all("stVegaLiteChart").every(chart => !chart.checkVisibility() || drawn(chart));
}"""


def wait_until_drawn(page: Page) -> None:
    """Wait until Streamlit has run the script and drawn all visible elements, charts with their data.

    Streamlit offers a chart as PNG only after Vega has drawn it. Charts in a closed tab or expander are not drawn.

    Raises:
        AssertionError: when the page shows an exception of the script.
    """
    page.wait_for_function(_DRAWN, timeout=WAIT_S * 1000)
    exceptions = page.get_by_test_id("stException").all_inner_texts()
    assert not exceptions, "\n".join(exceptions)


# Streamlit keeps the Vega view of a chart in a `useRef` of React, which the fibres of the chart element lead to. The
# view holds the position of each row for SVG and for canvas (used above 2000 marks). `aria-label` exists in SVG only
# and has rounded numbers.
_MARKS = """(chart, kind) => {
    const viewOf = element => {
        const key = Object.keys(element).find(key => key.startsWith("__reactFiber$"));
        for (let fibre = element[key]; fibre; fibre = fibre.return)
            for (let hook = fibre.memoizedState; hook?.next !== undefined; hook = hook.next)
                if (typeof hook.memoizedState?.current?.scenegraph === "function") return hook.memoizedState.current;
        throw new Error("the chart has no Vega view");
    };
    const view = viewOf(chart), found = [];
    const collect = (mark, x, y) => {
        for (const item of mark.items)
            if (mark.marktype === "group")
                for (const inner of item.items) collect(inner, x + (item.x || 0), y + (item.y || 0));
            else if (mark.marktype === kind && mark.role === "mark") {
                const {x1, y1, x2, y2} = item.bounds;
                found.push([item.datum, [x + x1, y + y1, x + x2, y + y2], item.opacity ?? 1]);
            }
    };
    const outer = chart.getBoundingClientRect();
    const drawing = chart.querySelector("svg.marks, canvas.marks").getBoundingClientRect();
    const [left, top] = view.origin(), padding = view.padding();
    collect(
        view.scenegraph().root, drawing.x - outer.x + left + padding.left, drawing.y - outer.y + top + padding.top
    );
    return found;
}"""


def marks(chart: Locator, kind: str = "symbol") -> list[Mark]:
    """Return the marks of a Vega chart in drawing order, without legends and axes.

    Args:
        chart: Chart element, as from `page.get_by_test_id("stVegaLiteChart")`.
        kind: Mark type of Vega: "symbol" for points, "rect" for bars and cells, "text", "rule".
    """
    wait_until_drawn(chart.page)
    return [Mark(datum, tuple(box), opacity) for datum, box, opacity in chart.evaluate(_MARKS, kind)]


def position_of(chart: Locator, datum: dict[str, Any], kind: str = "symbol") -> Position:
    """Return the position of the uppermost mark whose row has these values, for `chart.click` and `chart.hover`.

    Raises:
        AssertionError: when no mark has them, or the mark of another row covers its middle.
    """
    drawn = marks(chart, kind)
    wanted = [index for index, mark in enumerate(drawn) if datum.items() <= mark.datum.items()]
    assert wanted, f"none of {len(drawn)} marks of the kind {kind!r} has {datum}"
    left, top, right, bottom = drawn[wanted[-1]].box
    x, y = (left + right) / 2, (top + bottom) / 2
    for above in drawn[wanted[-1] + 1 :]:
        left, top, right, bottom = above.box
        assert not (left <= x <= right and top <= y <= bottom), f"{datum} is drawn under {above.datum}"
    return {"x": x, "y": y}


def click_point(chart: Locator, **datum: Any) -> None:
    """Click on the point whose row has these values: `click_point(chart, trial=3)`."""
    chart.click(position=position_of(chart, datum))


_BYTES = """async player => {
    const bytes = new Uint8Array(await (await fetch(player.currentSrc)).arrayBuffer());
    return btoa(Array.from(bytes, byte => String.fromCharCode(byte)).join(""));
}"""
_DECODED = """async (player, rate) => {
    const bytes = await (await fetch(player.currentSrc)).arrayBuffer();
    const sound = await new OfflineAudioContext(1, 1, rate).decodeAudioData(bytes);
    const channels = Array.from({length: sound.numberOfChannels}, (_, channel) => [...sound.getChannelData(channel)]);
    return JSON.stringify(channels);
}"""


def decoded_audio(player: Locator) -> Sound:
    """Return the audio of an `<audio>` element as the browser decodes it.

    The sample rate is read from the file and given to the browser, which otherwise resamples to its output rate.

    Raises:
        playwright.sync_api.Error: when the browser cannot decode it.
    """
    player.evaluate("player => player.error && Promise.reject(player.error.message)")
    file = b64decode(player.evaluate(_BYTES))
    rate_hz = soundfile.info(io.BytesIO(file)).samplerate
    return Sound(rate_hz, np.array(json.loads(player.evaluate(_DECODED, rate_hz)), dtype=np.float32))
