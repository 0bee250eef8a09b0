"""How many threads linear algebra gets."""

from __future__ import annotations

import functools

from threadpoolctl import ThreadpoolController

# The smaller side of X up to which one BLAS thread is faster than several, which wait for each other and for XLA's.
SINGLE_THREADED = 1024


@functools.cache
def _libraries() -> ThreadpoolController:
    # to look for them takes a few milliseconds, which is a good part of a small fit
    return ThreadpoolController()


def blas_threads(X) -> int | None:
    """For these data; None for as many as there are."""
    sides = getattr(X, "shape", ())
    return 1 if len(sides) < 2 or min(sides) <= SINGLE_THREADED else None


def limited(threads: int | None):
    """A context in which linear algebra has that many threads; None leaves them as they are."""
    return _libraries().limit(limits=threads, user_api="blas")
