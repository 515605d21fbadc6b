"""Pages of the repository outside docs/ on the site, and links that work on both.

The Markdown files under docs/ are read on the site and in the repository. A link to a page that
stands elsewhere there, such as ``../benchmarks/results/kernels.md``, leads to its copy on the site.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config

DOCS = Path(__file__).parents[1]
ROOT = DOCS.parent


def copy_benchmarks(app: Sphinx, config: Config) -> None:
    """Copy the benchmarks' pages with their figures below docs/, where Sphinx reads them."""
    target = DOCS / "benchmarks"
    shutil.rmtree(target, ignore_errors=True)
    (target / "results").mkdir(parents=True)
    for file in sorted((ROOT / "benchmarks" / "results").glob("*.[mp][dn]*")):
        shutil.copy(file, target / "results" / file.name)
    names = sorted(file.stem for file in (target / "results").glob("*.md"))
    contents = "\n".join(f"results/{name}" for name in names)
    page = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    page += f"\n```{{toctree}}\n:hidden:\n\n{contents}\n```\n"
    (target / "index.md").write_text(page, encoding="utf-8")


def rewrite_links(app: Sphinx, docname: str, source: list[str]) -> None:
    """Rewrite links of the repository as links of the site, before a page is parsed."""
    text = source[0]
    text = text.replace("](../benchmarks/README.md)", "](benchmarks/index.md)")
    text = text.replace("](../benchmarks/", "](benchmarks/")
    if docname.startswith("benchmarks/"):  # one folder higher than in the repository
        text = text.replace("](../docs/", "](../").replace("](../../docs/", "](../../")
    if docname == "contributing":
        text = re.sub(r"\]\(docs/", "](", text)
    source[0] = text


def rewrite_included(app: Sphinx, path: Path, parent: str, content: list[str]) -> None:
    """The same for a file that a page includes: the changelog and the guide to contributing."""
    content[0] = (
        content[0].replace("](docs/", "](").replace("](benchmarks/README", "](benchmarks/index")
    )


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the functions above."""
    app.connect("config-inited", copy_benchmarks)
    app.connect("source-read", rewrite_links)
    app.connect("include-read", rewrite_included)
    return {"parallel_read_safe": True}
