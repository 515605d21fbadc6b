"""Small runs, and the elements of a page."""

import functools
import tempfile
from html.parser import HTMLParser
from pathlib import Path

from gflow.runs import Job, RunOptions, run
from gflow.scenario import load_scenario

SMALL = {"data": "synthetic", "samples": 6, "inputs": 2, "points": 4, "t_end": 1.0}


def make_run(folder, **keys):
    """Run a small deep linear network into a folder, without figures."""
    return run(Job(load_scenario("deep-linear", SMALL | keys)), folder, RunOptions(draw=False)).path


@functools.cache
def two_runs():
    """Return the folders of two runs that differ in their depth, made once in a process."""
    folder = Path(tempfile.mkdtemp())
    return [make_run(folder / str(depth), depth=depth) for depth in (2, 3)]


class Page(HTMLParser):
    """The elements of an HTML page: their names and attributes, and the text outside of them."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.words, self.open = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        if self.open[-1:] not in (["style"], ["title"]):
            self.words.append(data)

    @functools.cached_property
    def text(self):
        """The words of the page, in one line."""
        return " ".join(" ".join(self.words).split())

    def all(self, tag):
        """Return the attributes of all elements with a name."""
        return [attributes for name, attributes in self.elements if name == tag]
