"""Configuration of Sphinx; `make docs` builds the site into docs/_build/html."""

import os
import sys
from pathlib import Path

# Settings of the examples, which may start processes: as in the tests.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["MPLBACKEND"] = "Agg"
sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

import gflow

project = "gflow"
author = "the gflow developers"
release = version = gflow.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_parser",
    "sphinx_click",
    "sphinx_gallery.gen_gallery",
    "reference_pages",
    "repository_links",
]
# The generated folders are written below docs/, as Sphinx reads no others; git ignores them.
exclude_patterns = ["_build", "gallery", "conftest.py", "**/GALLERY_HEADER.rst"]
templates_path = ["_templates"]
html_static_path = ["_static"]
html_css_files = ["gflow.css"]

# -- Markdown and docstrings ---------------------------------------------------------------

source_suffix = {".rst": "restructuredtext", ".md": "markdown"}
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
smartquotes = False  # of --option it would make a dash
default_role = "py:obj"  # a name in single backticks is linked where it is documented
toc_object_entries_show_parents = "hide"
autosummary_generate = True
autosummary_imported_members = True
autodoc_typehints = "none"  # numpydoc's Parameters have the types
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

# -- Gallery -------------------------------------------------------------------------------

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "auto_gallery",
    "filename_pattern": r"/plot_",
    "within_subsection_order": "FileNameSortKey",
    "reset_modules": ("gallery_style.reset",),
    "abort_on_example_error": False,  # a failure is a warning, and `make docs` takes none
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "write_computation_times": False,  # its pages load scripts from elsewhere
    "show_signature": False,
    "matplotlib_animations": False,
    "image_srcset": ["2x"],
    "plot_gallery": "True",
}

# -- Pages ---------------------------------------------------------------------------------

html_theme = "pydata_sphinx_theme"
html_title = "gflow"
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "logo": {"text": "gflow"},
    "navbar_align": "left",
    "header_links_before_dropdown": 7,
    "secondary_sidebar_items": ["page-toc", "sg_download_links"],  # the latter in the gallery only
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
    "pygments_light_style": "tango",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars = {"index": [], "start": []}  # nothing stands below these pages
copyright = "the gflow developers, MIT licence"
