"""Time until the pages of a study are drawn, in a real browser on the same machine.

    python -m benchmarks.pages [--trials 10000] [--store FOLDER --study NAME]

It opens the trade-off page, until its first chart appears: just after the start of the dashboard, in a second browser
with an empty cache, and when the page is loaded again. Then it opens each other page by its link, until all of it is
drawn, twice. The study is one that `benchmarks.large_study` writes, or one of a store.
"""

import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from benchmarks.large_study import NAME, REPLICATES, REPORTS, write_study
from benchmarks.machine import log, new_parser, print_table, timed, write_record
from tests.dashboard.browser import WAIT_S, serve, wait_until_drawn

PAGES = ("All trials", "Overview", "Trial", "Compare", "Leakage", "Search", "Ablation", "Timeline", "Trade-off")

# Matches when the first chart is drawn; the rest of the page may still load.
FIRST_CHART = """() => document.querySelector("[data-testid=stVegaLiteChart] :is(svg.marks, canvas.marks)") !== null"""


def load(page: Page, address: str) -> None:
    page.goto(address)
    page.wait_for_function(FIRST_CHART, timeout=WAIT_S * 1000)


def open_by_link(page: Page, title: str) -> None:
    page.get_by_test_id("stSidebar").get_by_role("link", name=title, exact=True).click()
    page.get_by_role("heading", name=title, exact=True, level=1).wait_for()
    wait_until_drawn(page)


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--trials", type=int, default=10_000, help=f"of {REPLICATES} x {REPORTS} reports")
    parser.add_argument("--store", help="of an existing study")
    parser.add_argument("--study", default=NAME)
    options = parser.parse_args()
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory(prefix="benchmark-store-") as folder:
        if options.store is None:
            log(f"writing a study of {options.trials:,} trials")
            write_study(Path(folder), options.trials)
        with serve(options.store or folder) as url, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
            first, other = (browser.new_context().new_page() for _ in range(2))
            pages = {"the dashboard has just started": first, "another browser": other, "loaded again": other}
            address = f"{url}/trade-off?study={options.study}"
            seconds = {when: timed(load, page, address)[1] for when, page in pages.items()}
            wait_until_drawn(other)
            switches = [{title: timed(open_by_link, other, title)[1] for title in PAGES} for _ in range(2)]
            browser.close()
    name = f"{options.trials:,} trials" if options.store is None else options.study
    rows = [(when, f"{value:.2f}") for when, value in seconds.items()]
    print_table(f"first chart of {name}, seconds", ("when", "s"), rows)
    rows = [(title, *(f"{visit[title]:.2f}" for visit in switches)) for title in PAGES]
    print_table("other pages, by their links, seconds", ("page", "first visit", "second visit"), rows)
    write_record("pages", options, {"seconds": seconds, "switches": switches})


if __name__ == "__main__":
    main()
