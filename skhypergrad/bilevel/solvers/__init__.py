"""Inner solvers: maps from one state to a better one; they know no hypergradient.

    init(problem, hyper, data, params) -> state      step(problem, hyper, data, state) -> state
    params(state) -> params                          unrollable: whether `step` may be differentiated

A state carries `params`, and the `value` and `gradient` of the inner objective there.
"""

from skhypergrad.bilevel.solvers.lbfgs import LBFGS
from skhypergrad.bilevel.solvers.newton import Newton

__all__ = ["LBFGS", "Newton"]
