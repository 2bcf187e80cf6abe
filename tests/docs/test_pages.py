"""The README and the pages of docs/ as a reader of the repository sees them."""

import ast
import re
from pathlib import Path

import pytest

from docs.pictures.diagrams import DIAGRAMS, FOLDER
from tests.study.commands import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
FAQ = (ROOT / "docs" / "faq.md").read_text(encoding="utf-8")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def links(page: Path) -> list[tuple[str, str]]:
    """Return path and anchor of each link of a page to a file of the repository."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    return [(path, anchor) for path, _, anchor in (target.partition("#") for target in targets) if "://" not in path]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and MkDocs make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_files_lead_somewhere(page):
    for path, anchor in links(page):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), f"{path}#{anchor}"


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 120
    steps = re.findall(r"^\d\. .*?(?=^\d\. |^$)", README, flags=re.DOTALL | re.MULTILINE)
    assert len(steps) == 5
    assert all(len(step.splitlines()) <= 3 for step in steps)


def test_each_number_that_the_readme_claims_is_on_the_page_that_it_links_to():
    proofs = {
        "docs/performance.md#on-two-cpu-cores": "4.0 times as fast as the plain script",
        "docs/reliability.md#a-soak": "62 faults",
        "docs/metrics.md#how-sure-a-number-is": "Measured coverage with 3 seeds: 90 % of normal values",
        "docs/performance.md#metrics": "| MIG | 4.5 | 68 | 15 | 1e-16 |",
        "docs/performance.md#ten-thousand-trials-64-nodes-where-the-walls-are": "23.6 (424 s)",
        "docs/dashboard.md#how-fast-it-is": "| nothing read yet | 3.7 s | 9.1 s |",
    }
    claims = README.partition("- **Fast")[2].partition("## ")[0]
    assert re.findall(r"\]\((docs/[^)]+)\)", claims) == list(proofs)
    for link, words in proofs.items():
        assert words in (ROOT / link.partition("#")[0]).read_text(encoding="utf-8"), link


def texts() -> list[str]:
    """Return all texts of the code; a formatted text without its values is one text for each part between them."""
    found = []
    for folder in ("marl", "study", "dashboard"):
        for file in (ROOT / folder).rglob("*.py"):
            nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
            found += [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return found


def test_the_messages_of_the_faq_are_those_of_the_code():
    messages = re.findall(r"^### `(.*)`$", FAQ, flags=re.MULTILINE)
    assert len(messages) >= 20
    code = texts()
    # A message may be put together of clauses, and names and numbers stand between its texts.
    parts = [part.strip(" ;?()") for message in messages for part in re.split("…|; |: ", message)]
    assert len(parts) > 60
    unknown = [part for part in parts if not any(part in text for text in code)]
    assert unknown == []


def test_diagrams_are_those_that_the_script_draws():
    drawn = {diagram.__name__.replace("_", "-"): diagram().svg() for diagram in DIAGRAMS}
    assert {path.stem: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.svg")} == drawn


def test_the_moving_picture_moves_and_is_small():
    picture = ROOT / "docs" / "pictures" / "listening.webp"
    assert picture.stat().st_size < 1_500_000
    from PIL import Image

    with Image.open(picture) as image:
        assert image.n_frames > 20
