"""Screenshots of the dashboard for docs/dashboard.md and the README, from a study that was really run.

    python -m docs.pictures.dashboard quickstart --store runs [--only trade-off listen]

Needs a Chromium or Chrome, as the tests do.
"""

import argparse
import shutil
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from study.analysis import StudyResults
from study.storage import ObjectStore
from study.store import StudyStore
from tests.dashboard.browser import open_view, serve, wait_until_drawn

FOLDER = Path(__file__).parent / "dashboard"
WIDTH, LEAST_HEIGHT = 1280, 700


def views(study: str, front: list[int]) -> dict[str, str]:
    """Addresses of the pages that are pictured, by the name of the picture."""
    two, one = f"{front[0]},{front[-1]}", front[-1]
    return {
        "studies": "",
        "trade-off": f"trade-off?study={study}&colour=contrast.strategy&trials={two}",
        "trial": f"trial?study={study}&trials={one}",
        "latents": f"trial?study={study}&trials={one}&part=Latents",
        "maps": f"trial?study={study}&trials={one}&part=Maps",
        "listen": f"trial?study={study}&trials={one}&part=Listen",
        "traverse": f"trial?study={study}&trials={one}&part=Traverse",
        "compare": f"compare?study={study}&trials={two}",
        "ablation": f"ablation?study={study}",
        "search": f"search?study={study}",
        "trade-off-dark": f"trade-off?study={study}&colour=contrast.strategy&trials={two}&embed_options=dark_theme",
        "export": f"export?study={study}&trials={two}",
    }


def picture(page: Page, url: str, path: Path) -> None:
    """One page, as high as it is."""
    page.set_viewport_size({"width": WIDTH, "height": LEAST_HEIGHT})
    open_view(page, url)
    height = page.get_by_test_id("stMain").evaluate("main => main.scrollHeight")
    page.set_viewport_size({"width": WIDTH, "height": max(LEAST_HEIGHT, height)})
    wait_until_drawn(page)
    page.screenshot(path=path)


def main() -> None:
    """Draw those that are wanted, or all of them."""
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
        page = browser.new_page()
        for name, address in views(wanted.study, front).items():
            if not wanted.only or name in wanted.only:
                picture(page, f"{url}/{address}", FOLDER / f"{name}.png")
        browser.close()


if __name__ == "__main__":
    main()
