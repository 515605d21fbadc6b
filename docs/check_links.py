"""Check the local links of the built site, and that its pages load nothing from elsewhere.

Run: python docs/check_links.py docs/_build/html

Every link, image, script and style sheet of every page must be a file of the site, and every
fragment an anchor on its page. Exit status 1 where one is not.
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The anchors, links and resources of one page."""

    def __init__(self, text: str):
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.resources: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect what an element names or points to."""
        values = {name: value for name, value in attrs if value}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag in ("img", "script", "iframe", "source") and "src" in values:
            self.resources.append(values["src"])
        if tag == "link" and values.get("rel") in ("stylesheet", "preload", "icon"):
            self.resources.append(values.get("href", ""))


def faults(site: Path) -> tuple[int, int, list[str]]:
    """Return the numbers of pages and of local links, and a line for each fault."""
    pages = {
        file: Page(file.read_text(encoding="utf-8"))
        for file in sorted(site.rglob("*.html"))
        if "_static" not in file.relative_to(site).parts
    }
    found: list[str] = []
    count = 0
    for file, page in pages.items():
        for link in page.links + page.resources:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if link in page.resources and parts.scheme != "data":
                    found.append(f"{file.relative_to(site)}: loads {link}")
                continue
            count += 1
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            if not target.exists():
                found.append(f"{file.relative_to(site)}: no file {link}")
                continue
            anchor = unquote(parts.fragment)
            if anchor and target in pages and anchor not in pages[target].anchors:
                found.append(f"{file.relative_to(site)}: no anchor {link}")
    return len(pages), count, found


def main(folder: str) -> int:
    """Print the faults of a site; return the exit status."""
    pages, links, found = faults(Path(folder).resolve())
    for line in found:
        print(line)
    print(f"{pages} pages, {links} local links, {len(found)} faults")
    return int(bool(found) or not pages)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
