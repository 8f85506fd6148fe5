"""What mkdocs is told beyond mkdocs.yml: pages from outside docs/, and links that lead to them.

Every page is written for the repository, where its links must work. The site shows a page under the
path that it has in the repository, without `docs/`; the README is the first page.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
# Pages from outside docs/.
PAGES = (
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "THIRD_PARTY.md",
    "benchmarks/RESULTS.md",
    "scorehmr_jax/weights/MODEL_CARD.md",
)
LINK = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?\))")


def site_path(path: str) -> str:
    """Finds the place in the site of a file of the repository."""
    return "index.md" if path == "README.md" else path.removeprefix("docs/")


def source_path(path: str) -> str:
    """Finds the file of the repository that a page of the site is made of."""
    if path == "index.md":
        return "README.md"
    return path if path in PAGES else f"docs/{path}"


def on_files(files, config):
    """Adds the pages from outside docs/."""
    for page in PAGES:
        file = File.generated(config, site_path(page), abs_src_path=str(ROOT / page))
        files.append(file)
    return files


def on_page_markdown(markdown, page, config, files):
    """Turns links between files of the repository into links between pages of the site."""
    here = site_path(source_path(page.file.src_uri))
    source = posixpath.dirname(source_path(page.file.src_uri))

    def turned(match):
        before, target, after = match.groups()
        if "://" in target or target.startswith("mailto:"):
            return match[0]
        wanted = site_path(posixpath.normpath(posixpath.join(source, target)))
        return f"{before}{posixpath.relpath(wanted, posixpath.dirname(here) or '.')}{after}"

    # Words behind the language are for the tests; mkdocs would show the fence as text.
    markdown = re.sub(r"^```(\w+) \w+$", r"```\1", markdown, flags=re.MULTILINE)
    return LINK.sub(turned, markdown)


def on_post_build(config):
    """Refuses a site that would fetch something when it is read, or with sections shown as text."""
    fetched = re.compile(r"<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//")
    unread = re.compile(r"<p>[^<]*^(?:Args|Returns|Raises):", re.MULTILINE)
    for page in sorted(Path(config.site_dir).rglob("*.html")):
        text = page.read_text(encoding="utf-8")
        for fault, what in ((fetched, "fetches"), (unread, "shows a section as text")):
            if found := fault.search(text):
                raise PluginError(f"{page.relative_to(config.site_dir)}: {what}: {found[0]}")
