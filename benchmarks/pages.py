"""Time until the first chart of a large study appears, in a real browser on the same machine.

    python -m benchmarks.pages [--trials 10000]

The trade-off page of a study that `benchmarks.large_study` wrote to a folder: when the dashboard has just started, in
another browser whose cache is empty, and when the page is loaded again.
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from benchmarks.large_study import NAME, REPLICATES, REPORTS, write_study
from benchmarks.machine import add_json_option, print_table, say, write_record
from tests.dashboard.browser import WAIT_S, serve

# Matches when the first chart is drawn; the rest of the page may still load.
_FIRST_CHART = """() => document.querySelector("[data-testid=stVegaLiteChart] :is(svg.marks, canvas.marks)") !== null"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--trials", type=int, default=10_000, help=f"of {REPLICATES} replicates, {REPORTS} reports each"
    )
    add_json_option(parser)
    chosen = parser.parse_args()
    seconds: dict[str, float] = {}
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory(prefix="benchmark-store-") as folder:
        say(f"writing a study of {chosen.trials:,} trials")
        write_study(Path(folder), chosen.trials)
        with serve(folder) as url, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
            address = f"{url}/trade-off?study={NAME}"
            first, other = (browser.new_context().new_page() for _ in range(2))
            seconds["the dashboard has just started"] = _wait(first, address)
            seconds["another browser"] = _wait(other, address)
            seconds["loaded again"] = _wait(other, address)
            browser.close()
    title = f"first chart of {chosen.trials:,} trials, seconds"
    print_table(title, ("when", "s"), [(when, round(found, 2)) for when, found in seconds.items()])
    write_record("pages", chosen.json, {"trials": chosen.trials}, {"seconds": seconds})


def _wait(page: Page, address: str) -> float:
    started = time.perf_counter()
    page.goto(address)
    page.wait_for_function(_FIRST_CHART, timeout=WAIT_S * 1000)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
