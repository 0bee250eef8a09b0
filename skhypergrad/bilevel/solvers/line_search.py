"""Backtracking along a descent direction until the objective has decreased enough.

    f(w + t d) <= f(w) + c t <grad f(w), d> + slack,     t = 1, 1/2, 1/4, ...

Source: Armijo (1966), with c = 1e-4. The slack of 64 eps |f| is where a line search would compare rounding errors.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

ARMIJO = 1e-4
HALVINGS = 30


class Point(NamedTuple):
    """Flat weights with the inner objective's value and gradient there."""

    w: Any
    value: Any
    gradient: Any


def backtrack(value_and_grad, point: Point, direction) -> Point:
    """The first acceptable point along `direction`, or `point` itself when there is none."""
    slope = jnp.vdot(point.gradient, direction)
    slack = 64 * jnp.finfo(point.value.dtype).eps * jnp.abs(point.value)

    def trial(t):
        w = point.w + t * direction
        return Point(w, *value_and_grad(w))

    def acceptable(t, candidate):
        # written so that NaN is not acceptable
        return candidate.value <= point.value + ARMIJO * t * slope + slack

    def unfinished(state):
        t, candidate, halvings = state
        return ~acceptable(t, candidate) & (halvings < HALVINGS)

    def halve(state):
        t, _, halvings = state
        return t / 2, trial(t / 2), halvings + 1

    # the first trial is one of the loop: a second copy of the objective would have to be compiled
    start = point._replace(value=jnp.full_like(point.value, jnp.inf))
    t, candidate, _ = jax.lax.while_loop(unfinished, halve, (2 * jnp.ones_like(point.value), start, jnp.asarray(-1)))
    accepted = acceptable(t, candidate) & jnp.all(jnp.isfinite(candidate.gradient))
    return jax.tree.map(lambda new, old: jnp.where(accepted, new, old), candidate, point)
