"""How many threads linear algebra gets."""

from __future__ import annotations

# The smaller side of X up to which one BLAS thread is faster than several, which wait for each other and for XLA's.
SINGLE_THREADED = 1024


def blas_threads(X) -> int | None:
    """For these data; None for as many as there are."""
    sides = getattr(X, "shape", ())
    return 1 if len(sides) < 2 or min(sides) <= SINGLE_THREADED else None
