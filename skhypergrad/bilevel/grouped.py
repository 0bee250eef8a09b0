"""Linear models with a penalty for each group of features and a weight for each class, and what keeps them from over-fitting.

    criterion(fold) + shrinkage * sum_j |log s_j - log s|,      s_j the penalty of group j, s the common one, which is free

With as many penalties as features the held-out rows are soon fitted, too. The second term keeps every penalty at the common
one that has no good reason to leave it: the lasso (Tibshirani 1996) on the deviations. For bounds in place of kinks,
log s_j - log s = up_j - down_j with up and down not negative.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from skhypergrad.bilevel import criteria
from skhypergrad.bilevel.gram import Gram
from skhypergrad.bilevel.models import LinearModel, held_out
from skhypergrad.bilevel.problem import Problem

CLASS_WEIGHT, UP, DOWN = "class_weight", "up", "down"


class Grouped(NamedTuple):
    """The data of one task.

    The hyperparameters are a penalty by its name, `()` for one and `(n_groups,)` for many; with `up` and `down`, both
    `(n_groups,)`, what many deviate by from one; and perhaps `class_weight` (n_classes,).

    Attributes
    ----------
    fold : Fold, in the features themselves where there are groups
    groups : (n_features,) int32, the group of every feature of the fold, padding in any; None for one penalty
    shrinkage : scalar, in units of the criterion for a deviation by a factor of e
    """

    fold: Any
    groups: Any
    shrinkage: Any

    def expand(self, hyper: dict) -> tuple[dict, Any]:
        """The penalties of the features, and the fold with its rows weighted by class."""
        penalties = {name: self._of_features(value) for name, value in together(hyper, jnp).items()}
        fold = self.fold
        if CLASS_WEIGHT in hyper:
            weight = fold.train.weight
            factor = _of_rows(hyper[CLASS_WEIGHT], fold.train.y)
            # relative weights only: a common factor is the penalty's affair
            factor = factor * jnp.sum(weight) / jnp.vdot(weight, factor)
            fold = fold._replace(train=fold.train._replace(weight=weight * factor))
        return penalties, fold

    def _of_features(self, value):
        return value if self.groups is None else value[self.groups][:, None]

    def guard(self, hyper: dict):
        """The second term (see the module)."""
        return self.shrinkage * (jnp.sum(hyper[UP]) + jnp.sum(hyper[DOWN])) if UP in hyper else 0.0


def together(hyper: dict, xp: Any = np) -> dict:
    """The penalty, with what it deviates by; without class weights."""
    deviation = xp.exp(hyper[UP] - hyper[DOWN]) if UP in hyper else 1.0
    return {name: value * deviation for name, value in hyper.items() if name not in (CLASS_WEIGHT, UP, DOWN)}


def _of_rows(class_weight, y):
    """The weight of every row's class, from (n_classes,) and targets as `losses` wants them."""
    if y.shape[1] == 1:
        y = jnp.concatenate([1 - y, y], axis=1)
    return y @ class_weight


@functools.cache
def grouped(model: LinearModel, criterion: Callable) -> Problem:
    """As `models.held_out`, on `Grouped` data; cached for the same reason."""
    plain = held_out(model, criterion)

    def of_expanded(function):
        def on_grouped(params, hyper, data):
            penalties, fold = data.expand(hyper)
            return function(params, penalties, fold)

        return on_grouped

    def outer(params, hyper, data):
        return of_expanded(plain.outer)(params, hyper, data) + data.fold.share * data.guard(hyper)

    return Problem(
        inner=of_expanded(model.inner),
        outer=outer,
        init=lambda hyper, data: model.init(hyper, data.fold),
        precondition=of_expanded(model.precondition),
    )


@functools.cache
def left_out(model: LinearModel) -> Problem:
    """Ridge regression judged by its leave-one-out errors, in closed form; the held-out rows of the fold play no part.

    With H, the matrix that makes predictions of targets, the error of a row the fit has not seen is (y - H y)_i / (1 - H_ii).
    A row of weight two counts as two rows that are left out together. Source: Allen (1974), the PRESS statistic.
    """
    problem = grouped(model, criteria.squared_error)

    def outer(params, hyper, data):
        penalties, fold = data.expand(hyper)
        rows = fold.train
        root, total = jnp.sqrt(rows.weight)[:, None], jnp.sum(rows.weight)
        X, y = rows.X, rows.y
        if model.fit_intercept:
            X, y = X - rows.weight @ X / total, y - rows.weight @ y / total
        penalty = jnp.broadcast_to(model.strength(penalties), (X.shape[1], 1))[:, 0]
        gram = Gram.of(root * X, penalty)
        remainder = gram.remainder() - (rows.weight / total if model.fit_intercept else 0.0)
        # without a weight a row is padding
        error = jnp.where(root > 0, gram.residual(root * y) / jnp.where(root > 0, remainder[:, None], 1.0), 0.0)
        loss = jnp.mean(jnp.sum(error**2, axis=0)) / total
        return loss + data.guard(hyper)

    return replace(problem, outer=outer)
