"""Examples in the pages of the documentation run as they stand there."""

import doctest
from pathlib import Path

import pytest

# imported here, because SciPy sets warning filters when it is
import skhypergrad.bilevel
import skhypergrad.model_selection  # noqa: F401

DOC = Path(__file__).parents[1] / "doc"
PAGES = sorted(
    page for folder in ("guide", "extend") for page in (DOC / folder).rglob("*.rst") if ">>>" in page.read_text()
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOC)))
def test_the_examples_of_a_page(page):
    options = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    done = doctest.testfile(str(page), module_relative=False, optionflags=options)
    assert done.attempted > 2
    assert not done.failed
