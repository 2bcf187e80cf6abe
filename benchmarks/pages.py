"""Time until the first chart of a large study appears, in a real browser on the same machine.

    python -m benchmarks.pages [--trials 10000]

It opens the trade-off page of a study that `benchmarks.large_study` wrote to a folder: just after the start of the
dashboard, in a second browser with an empty cache, and when the page is loaded again.
"""

import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from benchmarks.large_study import NAME, REPLICATES, REPORTS, write_study
from benchmarks.machine import log, new_parser, print_table, timed, write_record
from tests.dashboard.browser import WAIT_S, serve

# Matches when the first chart is drawn; the rest of the page may still load.
FIRST_CHART = """() => document.querySelector("[data-testid=stVegaLiteChart] :is(svg.marks, canvas.marks)") !== null"""


def load(page: Page, address: str) -> None:
    page.goto(address)
    page.wait_for_function(FIRST_CHART, timeout=WAIT_S * 1000)


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--trials", type=int, default=10_000, help=f"of {REPLICATES} x {REPORTS} reports")
    options = parser.parse_args()
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory(prefix="benchmark-store-") as folder:
        log(f"writing a study of {options.trials:,} trials")
        write_study(Path(folder), options.trials)
        with serve(folder) as url, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
            first, other = (browser.new_context().new_page() for _ in range(2))
            pages = {"the dashboard has just started": first, "another browser": other, "loaded again": other}
            address = f"{url}/trade-off?study={NAME}"
            seconds = {when: timed(load, page, address)[1] for when, page in pages.items()}
            browser.close()
    rows = [(when, f"{value:.2f}") for when, value in seconds.items()]
    print_table(f"first chart of {options.trials:,} trials, seconds", ("when", "s"), rows)
    write_record("pages", options, {"seconds": seconds})


if __name__ == "__main__":
    main()
