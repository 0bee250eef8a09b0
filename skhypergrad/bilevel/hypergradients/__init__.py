"""Hypergradients: ways to differentiate the outer objective through the inner solver, each a pair `init` / `step`.

    init(problem, hyper, data) -> carry
    step(problem, hyper, data, carry, tol) -> (value, gradient, carry)

The carry is what a hypergradient remembers between outer steps: weights, adjoint, and the evidence of its last call.
"""

from skhypergrad.bilevel.hypergradients.implicit import Evidence, Implicit

__all__ = ["Evidence", "Implicit"]
