"""Hypergradients: ways to differentiate the outer objective through the inner solver, each a pair `init` / `step`.

    init(problem, hyper, data) -> carry
    step(problem, hyper, data, carry, tol) -> (value, gradient, carry)

The carry is what a hypergradient remembers between outer steps: weights, tangent or adjoint, and the evidence of its last
call. `tol` is the accuracy below which an answer needs no verification, `restarts` whether every evaluation begins at the
problem's starting weights unless `tune` is told otherwise. One that is `direct` says the same wherever it begins, so `tune`
asks it for many points at once.
"""

from skhypergrad.bilevel.hypergradients.evidence import Evidence
from skhypergrad.bilevel.hypergradients.forward import Forward
from skhypergrad.bilevel.hypergradients.implicit import Implicit
from skhypergrad.bilevel.hypergradients.reverse import Reverse
from skhypergrad.bilevel.hypergradients.several import Several

__all__ = ["Evidence", "Forward", "Implicit", "Reverse", "Several"]
