"""Solvers of `matvec(x) = b` for a symmetric positive definite matvec on flat vectors.

Each is `solve(matvec, b, x0, tol, precondition) -> LinearSolution`; the residual it reports is recomputed at the end.
"""

from skhypergrad.bilevel.linear_solvers.conjugate_gradient import ConjugateGradient
from skhypergrad.bilevel.linear_solvers.direct import Direct
from skhypergrad.bilevel.linear_solvers.solution import LinearSolution

__all__ = ["ConjugateGradient", "Direct", "LinearSolution"]
