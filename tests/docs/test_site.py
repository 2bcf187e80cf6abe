"""The documentation site that `make docs` builds."""

import re
from html.parser import HTMLParser

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort

from tests.study.commands import ROOT


class Resources(HTMLParser):
    """Addresses that a browser loads with a page."""

    def __init__(self):
        super().__init__()
        self.addresses = []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if tag in ("script", "img", "source", "iframe", "audio", "video"):
            self.addresses.append(values.get("src"))
        elif tag == "link" and values.get("rel") not in ("canonical", "next", "prev"):
            self.addresses.append(values.get("href"))


def built(folder, **settings):
    """Build the site; any warning of MkDocs fails."""
    config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), **settings)
    config.plugins.run_event("startup", command="build", dirty=False)
    build(config)
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return built(tmp_path_factory.mktemp("site"))


def test_no_page_loads_anything_from_another_server(site):
    found = Resources()
    pages = list(site.rglob("*.html"))
    assert len(pages) > 15
    for page in pages:
        found.feed(page.read_text(encoding="utf-8"))
    for sheet in site.rglob("*.css"):
        found.addresses += re.findall(r"url\(['\"]?([^)'\"]+)", sheet.read_text(encoding="utf-8"))
    foreign = {address for address in found.addresses if address and re.match(r"(\w+:)?//", address)}
    assert foreign == set()


def test_the_home_page_is_the_readme(site):
    home = (site / "index.html").read_text(encoding="utf-8")
    assert "Is it for you?" in home
    assert 'href="get-started/' in home
    assert "docs/get-started" not in home


def test_links_to_other_files_are_text_until_the_address_of_the_repository_is_set(site, tmp_path):
    def page(folder):
        return (folder / "own-study" / "index.html").read_text(encoding="utf-8")

    assert "study/ready/quickstart.yaml" not in page(site)
    linked = page(built(tmp_path, extra={"generator": False, "repository": "https://example.org/project/"}))
    assert 'href="https://example.org/project/blob/HEAD/study/ready/quickstart.yaml"' in linked


def test_the_python_reference_has_docstrings(site):
    page = (site / "reference" / "python" / "index.html").read_text(encoding="utf-8")
    assert "Return the posterior means of the private and shared latents of each window." in page


@pytest.mark.parametrize("link", ["absent.md", "faq.md#absent", "../absent.md"])
def test_a_broken_link_fails_the_build_and_is_named(tmp_path, link, caplog):
    docs = tmp_path / "docs"
    docs.mkdir()
    for name in ("faq.md", "page.md"):
        (docs / name).write_text(f"# A page\n\n[a link]({link})\n" if name == "page.md" else "# FAQ\n")
    config = load_config(
        str(ROOT / "mkdocs.yml"),
        docs_dir=str(docs),
        site_dir=str(tmp_path / "site"),
        nav=["page.md", "faq.md", "index.md", "changelog.md", "contributing.md"],
        extra_css=[],
    )
    with pytest.raises(Abort):
        build(config)
    assert any(link.removeprefix("../") in record.getMessage() for record in caplog.records)
