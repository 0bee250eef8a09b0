"""Any optax transformation as an inner solver.

Its state is differentiated with the parameters. Where a rule of optax has no derivative (the root of Adam's second moment
at zero), neither has the hypergradient: `Adam` of this package has one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from skhypergrad.bilevel.solvers.rates import batch_gradient


class OptaxState(NamedTuple):
    """params, the transformation's own state, and the number of steps taken."""

    params: Any
    inner: Any
    step: Any


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Optax:
    """A gradient transformation of optax.

    Parameters
    ----------
    transformation : optax.GradientTransformation
        For instance `optax.rmsprop(1e-3)`. With hyperparameters inside, make it where they are known:
        `Reverse(lambda hyper: Optax(optax.sgd(hyper["learning_rate"])), steps)`.
    """

    transformation: Any = field(metadata={"static": True})

    unrollable: ClassVar[bool] = True

    def init(self, problem, hyper, data, params) -> OptaxState:
        return OptaxState(params, self.transformation.init(params), jnp.asarray(0))

    def step(self, problem, hyper, data, state) -> OptaxState:
        w, inner, t = state
        gradient = batch_gradient(problem, hyper, data, w, t)
        updates, inner = self.transformation.update(gradient, inner, w)
        return OptaxState(optax.apply_updates(w, updates), inner, t + 1)

    def params(self, state):
        return state.params
