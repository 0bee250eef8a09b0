"""Code in the pages of the documentation runs as it stands there."""

import textwrap
from pathlib import Path

import numpy as np

from skhypergrad.bilevel import Status

DOC = Path(__file__).parents[1] / "doc"


def blocks(page):
    """The indented blocks after a paragraph that ends in two colons."""
    for part in (DOC / page).read_text().split("::\n\n")[1:]:
        lines = part.splitlines()
        ends = [i for i, line in enumerate(lines) if line and not line.startswith(" ")]
        yield textwrap.dedent("\n".join(lines[: ends[0] if ends else None]))


def test_the_training_run_of_the_engine_page():
    (code,) = blocks("guide/engine.rst")
    names: dict = {}
    exec(compile(code, "engine.rst", "exec"), names)
    found = names["found"]
    assert found.status in (Status.converged, Status.boundary)
    assert found.value <= min(e.value for e in found.trace) * (1 + 1e-6)
    assert set(found.hyper) == {"penalty", "rate", "momentum"}
    assert all(np.isfinite(v) for v in found.hyper.values())
