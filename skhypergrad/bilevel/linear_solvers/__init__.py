"""Solvers of A x = b for a symmetric A, given by its product with flat vectors.

    solve(operator, b, x0, tol, rough=None) -> LinearSolution

`operator` is a `problem.Operator`: product and preconditioner. `rough` is the same in float32, for those that can use it.
Every solution comes with its residual, recomputed.
"""

from skhypergrad.bilevel.linear_solvers.conjugate_gradient import ConjugateGradient
from skhypergrad.bilevel.linear_solvers.direct import Direct
from skhypergrad.bilevel.linear_solvers.normal_conjugate_gradient import NormalConjugateGradient
from skhypergrad.bilevel.linear_solvers.preconditioner import Preconditioner
from skhypergrad.bilevel.linear_solvers.solution import LinearSolution
from skhypergrad.bilevel.linear_solvers.stationary import FixedPoint, Neumann

__all__ = [
    "ConjugateGradient",
    "Direct",
    "FixedPoint",
    "LinearSolution",
    "Neumann",
    "NormalConjugateGradient",
    "Preconditioner",
]
