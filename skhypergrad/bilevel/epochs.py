"""A training that ends by itself: when the loss of an epoch has not fallen for so many epochs.

    still = still + 1   if loss_e > best - tol   else 0,        the end: still > patience, or max_epochs

with the losses of the mini-batches averaged over an epoch, each before its step, as scikit-learn's networks do it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from skhypergrad.bilevel.networks import MLP, Training, batch


class Course(NamedTuple):
    """Where a training is.

    Attributes
    ----------
    state : of the solver
    total, rows : loss of this epoch's rows so far, and their number
    best : the least loss of an epoch
    still, epochs : epochs without a lower loss, and all of them
    """

    state: Any
    total: Any
    rows: Any
    best: Any
    still: Any
    epochs: Any


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class UntilStill:
    """A solver that stands still once the training loss does (see the module).

    `Lesson.fixed` has `tol`, `n_iter_no_change` and `max_iter`, the largest number of epochs.

    Parameters
    ----------
    training : Training
    model : MLP
    """

    training: Training
    model: MLP = field(metadata={"static": True})

    unrollable: ClassVar[bool] = True

    def init(self, problem, hyper, data, params) -> Course:
        dtype = data.X.dtype
        zero, none = jnp.zeros((), dtype), jnp.asarray(0)
        state = self.training.init(problem, hyper, data, params)
        return Course(state, zero, none, jnp.asarray(jnp.finfo(dtype).max), none, none)

    def step(self, problem, hyper, data, course) -> Course:
        state, total, rows, best, still, epochs = course
        here = batch(data, state.step)
        n_rows = jnp.sum(here.rows < data.X.shape[0])
        # the derivative is that of a run of this length: where it ends is piecewise constant
        loss = jax.lax.stop_gradient(self.model.reported(state.params, hyper, here))
        total, rows = total + loss * n_rows, rows + n_rows
        over = (state.step + 1) % data.batches == 0
        mean = total / rows
        still = jnp.where(over, jnp.where(mean > best - data.fixed["tol"], still + 1, 0), still)
        new = Course(
            self.training.step(problem, hyper, data, state),
            total=jnp.where(over, 0.0, total),
            rows=jnp.where(over, 0, rows),
            best=jnp.where(over, jnp.minimum(best, mean), best),
            still=still,
            epochs=epochs + over,
        )
        ended = self.ended(data, course)
        return jax.tree.map(lambda new, old: jnp.where(ended, old, new), new, course)

    def ended(self, data, course):
        """Whether further steps change nothing."""
        fixed = data.fixed
        return (course.still > fixed["n_iter_no_change"]) | (course.epochs >= fixed["max_iter"])

    def params(self, course):
        return course.state.params
