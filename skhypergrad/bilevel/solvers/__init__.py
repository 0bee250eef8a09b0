"""Inner solvers: maps from one state to a better one; they know no hypergradient.

    init(problem, hyper, data, params) -> state      step(problem, hyper, data, state) -> state
    params(state) -> params                          unrollable: whether `step` may be differentiated

A state carries `params`; those of `Newton`, `LBFGS` and `ClosedForm` also the `value` and `gradient` of the inner objective
there. `ClosedForm` is `direct`: one step leads to the optimum, wherever it begins.
"""

from skhypergrad.bilevel.solvers.adam import Adam
from skhypergrad.bilevel.solvers.closed_form import ClosedForm
from skhypergrad.bilevel.solvers.gradient_descent import GradientDescent
from skhypergrad.bilevel.solvers.lbfgs import LBFGS
from skhypergrad.bilevel.solvers.momentum import Momentum, Nesterov
from skhypergrad.bilevel.solvers.newton import Newton
from skhypergrad.bilevel.solvers.optax import Optax

__all__ = ["LBFGS", "Adam", "ClosedForm", "GradientDescent", "Momentum", "Nesterov", "Newton", "Optax"]
