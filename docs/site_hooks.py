"""Hooks of MkDocs, named in mkdocs.yml: the home page, the changelog, and links out of this folder.

Every page is also read as plain Markdown in the repository, so links are relative to the files there.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import get_plugin_logger
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
"""Files at the root of the repository that are pages of the site, by name."""

_LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s#]+)(?P<anchor>#[^)\s]*)?\)")
log = get_plugin_logger(__name__)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files at the root of the repository to the pages."""
    for name, uri in PAGES.items():
        files.append(File.generated(config, uri, content=(ROOT / name).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite links that leave this folder: to a page, to the repository if its address is known, or to plain text."""
    sources = {uri: name for name, uri in PAGES.items()}
    source = sources.get(page.file.src_uri, f"docs/{page.file.src_uri}")  # path in the repository

    def rewritten(link: re.Match[str]) -> str:
        target, anchor = link["target"], link["anchor"] or ""
        if "://" in target or target.startswith("mailto:"):
            return link[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if path in PAGES:
            uri = PAGES[path]
        elif path.startswith("docs/") and not path.endswith(".py"):
            uri = path.removeprefix("docs/")
        else:
            if not (ROOT / path).exists():
                log.warning("%s links to %s, which does not exist", source, path)
            repository = config.extra["repository"].rstrip("/")
            return f"[{link['text']}]({repository}/blob/HEAD/{path}{anchor})" if repository else link["text"]
        relative = posixpath.relpath(uri, posixpath.dirname(page.file.src_uri) or ".")
        return f"{link['image']}[{link['text']}]({relative}{anchor})"

    return _LINK.sub(rewritten, markdown)
