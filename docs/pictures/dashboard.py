"""Screenshots and the moving picture for docs/dashboard.md and the README, from studies that were really run.

    python -m docs.pictures.dashboard tradeoff --store runs [--only trade-off listen tour]

Pictures have double resolution and are not quantised. Needs a Chromium or Chrome, as the tests do.
"""

import argparse
import io
import shutil
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw
from playwright.sync_api import Browser, Page, sync_playwright

from study.analysis import StudyResults
from study.storage import ObjectStore
from study.store import StudyStore
from tests.dashboard.browser import open_view, position_of, serve, wait_until_drawn

FOLDER = Path(__file__).parent / "dashboard"
WIDTH, LEAST_HEIGHT, GREATEST_HEIGHT = 1280, 720, 1500
TOUR_SIZE, TOUR_SCALE = (1120, 700), 0.8
_FRAME_MS, _STILL_MS = 90, 1400


def views(study: str, front: list[int]) -> dict[str, str]:
    """Return the addresses of the pages that are pictured, by the name of the picture."""
    two, one = f"{front[0]},{front[-1]}", front[-1]
    trial = f"trial?study={study}&trial={one}"
    return {
        "studies": "",
        "across": "across",
        "trade-off": f"trade-off?study={study}&trials={two}",
        "trials": f"trials?study={study}&trials={two}",
        "overview": f"overview?study={study}",
        "trial": trial,
        "latents": f"{trial}&part=Latents",
        "maps": f"{trial}&part=Maps",
        "listen": f"{trial}&part=Listen",
        "traverse": f"{trial}&part=Traverse",
        "compare": f"compare?study={study}&trials={two}",
        "leakage": f"leakage?study={study}&trial={one}",
        "search": f"search?study={study}",
        "ablation": f"ablation?study={study}",
        "timeline": f"timeline?study={study}",
        "log": f"log?study={study}",
        "export": f"export?study={study}&trials={two}",
    }


def picture(page: Page, url: str, path: Path) -> None:
    """Write a picture of one page, as high as the page is, within limits."""
    page.set_viewport_size({"width": WIDTH, "height": LEAST_HEIGHT})
    open_view(page, url)
    if "part=Maps" in url:  # these are computed in the background
        page.get_by_test_id("stVegaLiteChart").first.wait_for(timeout=120_000)
    height = page.get_by_test_id("stMain").evaluate("main => main.scrollHeight")
    page.set_viewport_size({"width": WIDTH, "height": min(max(LEAST_HEIGHT, height), GREATEST_HEIGHT)})
    wait_until_drawn(page)
    Image.open(io.BytesIO(page.screenshot())).convert("RGB").save(path, lossless=True, method=6)


def tour(browser: Browser, url: str, study: str, trial: int, path: Path) -> None:
    """Write the moving picture: a point is clicked, its sounds are played, and the last of them are swaps."""
    width, height = TOUR_SIZE
    page = browser.new_context(viewport={"width": width, "height": height}).new_page()
    frames: list[Image.Image] = []
    times: list[int] = []
    pointer = [width / 2, height / 2]

    def shoot(duration_ms: int) -> None:
        frame = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        x, y = pointer
        ImageDraw.Draw(frame).polygon([(x, y), (x, y + 20), (x + 5, y + 15), (x + 14, y + 14)], "#111827", "#ffffff")
        frames.append(frame.resize((round(width * TOUR_SCALE), round(height * TOUR_SCALE)), Image.Resampling.LANCZOS))
        times.append(duration_ms)

    def move_to(x: float, y: float) -> None:
        start = tuple(pointer)
        for step in range(1, 7):
            pointer[:] = [start[0] + (x - start[0]) * step / 6, start[1] + (y - start[1]) * step / 6]
            page.mouse.move(*pointer)
            shoot(_FRAME_MS)

    def click(x: float, y: float, done: Callable[[], object]) -> None:
        move_to(x, y)
        page.mouse.click(x, y)
        done()
        wait_until_drawn(page)
        shoot(_STILL_MS)

    open_view(page, f"{url}/trade-off?study={study}")
    shoot(_STILL_MS)
    chart = page.get_by_test_id("stVegaLiteChart").first
    box, point = chart.bounding_box() or {}, position_of(chart, {"trial": trial})
    x, y = box["x"] + point["x"], box["y"] + point["y"]
    click(x, y, lambda: page.get_by_role("heading", name="Selected trials (1)").wait_for())
    link = page.get_by_role("link", name="Trial", exact=True)
    box = link.bounding_box() or {}
    click(box["x"] + 40, box["y"] + 12, lambda: page.wait_for_url("**/trial?*"))
    tab = page.get_by_text("Listen", exact=True)
    box = tab.bounding_box() or {}
    click(box["x"] + 20, box["y"] + 10, lambda: page.get_by_role("button", name="Play row").first.wait_for())
    page.locator(".sounds-head").first.evaluate("head => head.scrollIntoView({block: 'start'})")
    page.get_by_test_id("stMain").evaluate("main => { main.scrollTop -= 110; }")
    shoot(_STILL_MS)
    button = page.get_by_role("button", name="Play row").first
    box = button.bounding_box() or {}
    move_to(box["x"] + 30, box["y"] + 10)
    cells = page.locator(".sounds-row").first.locator(".sounds-cell")
    # The sounds are moved on by hand, because a screenshot takes longer than a frame.
    for number in range(cells.count()):
        for step in range(9):
            cells.nth(number).evaluate(
                """(cell, part) => {
                    cell.classList.toggle("playing", part < 1);
                    cell.querySelector("i").style.left = `${100 * part}%`;
                    cell.querySelector("input").value = 1000 * part;
                }""",
                step / 8,
            )
            shoot(_FRAME_MS if step else 3 * _FRAME_MS)
    shoot(2 * _STILL_MS)
    frames[0].save(
        path, save_all=True, append_images=frames[1:], duration=times, loop=0, quality=82, method=6, minimize_size=True
    )


def main() -> None:
    """Draw the pictures that are wanted, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study")
    parser.add_argument("--store", default="runs")
    parser.add_argument("--only", nargs="*", help="names of pictures")
    wanted = parser.parse_args()
    front = StudyResults(StudyStore(ObjectStore(wanted.store), wanted.study)).front()["trial"].tolist()
    found = shutil.which("chromium") or shutil.which("google-chrome")
    FOLDER.mkdir(exist_ok=True)
    with serve(wanted.store) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        for theme, suffix in (("light", ""), ("dark", "-dark")):
            page = browser.new_context(device_scale_factor=2, color_scheme=theme).new_page()
            for name, address in views(wanted.study, front).items():
                is_pictured = theme == "light" or name in DARK
                if is_pictured and (not wanted.only or f"{name}{suffix}" in wanted.only):
                    picture(page, f"{url}/{address}", FOLDER / f"{name}{suffix}.webp")
        if not wanted.only or "tour" in wanted.only:
            tour(browser, url, wanted.study, front[-1], FOLDER / "tour.webp")
        browser.close()


DARK = ("trade-off", "leakage", "listen")
"""Pages that are pictured in the dark theme, too."""

if __name__ == "__main__":
    main()
