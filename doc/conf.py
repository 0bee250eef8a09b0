"""Sphinx configuration: `python -m sphinx -W --keep-going -b html doc doc/_build/html`."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import skhypergrad  # noqa: E402
import skhypergrad.adapters  # noqa: E402
import skhypergrad.bilevel  # noqa: E402

project = "skhypergrad"
author = "The skhypergrad developers"
project_copyright = f"2026, {author}"
version = release = skhypergrad.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "auto_examples/**/*.ipynb", "auto_examples/**/*.py", "auto_examples/**/*.md5"]
templates_path = ["_templates"]
default_role = "code"

autosummary_generate = True
autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

html_theme = "pydata_sphinx_theme"
html_title = "skhypergrad"
html_show_sourcelink = False
html_theme_options = {
    "header_links_before_dropdown": 7,
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": ["page-toc"],
    "show_prev_next": False,
}
PAGES = ("index", "install", "guide/*", "guide/engine/*", "extend/*", "how_it_works", "design", "changes")
html_sidebars = {page: [] for page in PAGES}

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": "plot_",
    "ignore_pattern": "benchmarks|__init__",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_signature": False,
}


def _check_complete(page, names):
    """Pages with a list of names are written by hand; a name that one of them lacks stops the build."""
    text = (ROOT / "doc" / page).read_text(encoding="utf-8")
    missing = [name for name in names if name not in text]
    if missing:
        raise RuntimeError(f"doc/{page} does not mention {', '.join(missing)}.")


_check_complete("api.rst", [*skhypergrad.__all__, *skhypergrad.adapters.__all__, *skhypergrad.bilevel.__all__])
_check_complete("guide/search.rst", [f"``{status.name}``" for status in skhypergrad.bilevel.Status])


def _skip_fields(app, what, name, obj, skip, options):
    # the fields of a NamedTuple: its docstring describes them, Python's "Alias for field number 0" does not; and the methods
    # that scikit-learn writes for metadata routing, which refer to its own glossary
    generated = type(obj).__name__ == "_tuplegetter" or re.fullmatch("set_[a-z_]+_request", name.rpartition(".")[2])
    return True if generated else None


def _read_as_written(app, what, name, obj, options, lines):
    """Docstrings are written to be read in a terminal: an indented formula is literal, |x| a norm, `Real`s a plural."""
    formula, head, text = False, True, []
    for before, line in zip(["", *lines], lines, strict=False):
        head = head and not line.startswith("---")
        indented = head and line.startswith("    ")
        if indented and not before.strip() and not formula:
            text += [".. code-block:: none", ""]
            formula = True
        formula = formula and (indented or not line.strip())
        if not formula:
            line = re.sub(r"(?<!`)(`\w+`)s\b", r"\1\\ s", line)
            line = "".join(p if p.startswith("`") else p.replace("|", "\\|") for p in re.split(r"(`[^`]*`)", line))
        text.append(line)
    lines[:] = text


def setup(app):
    app.connect("autodoc-skip-member", _skip_fields)
    # before numpydoc, which reads the result
    app.connect("autodoc-process-docstring", _read_as_written, priority=400)
