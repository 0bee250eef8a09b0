"""What the names of methods and optimizers stand for."""

from __future__ import annotations

import functools

import numpy as np
import optax

from skhypergrad.bilevel import (
    HOAG,
    LBFGSB,
    ConjugateGradient,
    FirstOrder,
    Forward,
    Implicit,
    Nesterov,
    Newton,
    Reverse,
    Space,
)

METHODS = ("auto", "implicit", "reverse", "forward", "online")
OPTIMIZERS = ("auto", "lbfgsb", "hoag", "adam")

# Steps of the inner solver in the unrolled modes that are called by name: of a whole run, and between two updates.
UNROLLED_STEPS = 300
ONLINE_STEPS = 10


def method_of(name, learning_rate):
    """The hypergradient of that name; an object is one already.

    Parameters
    ----------
    name : str or hypergradient
    learning_rate : callable, (hyper, data) -> step length of the unrolled solvers
    """
    if not isinstance(name, str):
        return name
    solver = Nesterov(learning_rate, 0.9, preconditioned=True)
    if name == "online":
        return Forward(solver, ONLINE_STEPS)
    if name == "reverse":
        return Reverse(solver, UNROLLED_STEPS)
    if name == "forward":
        return Forward(solver, UNROLLED_STEPS)
    return Implicit(Newton(ConjugateGradient()))


def optimizer_of(name, space: Space, *, online: bool, n_starts, max_steps: int, seed: int):
    """The optimizer of that name, for this space; an object is one already."""
    if not isinstance(name, str):
        return name
    if name == "hoag":
        return HOAG()
    if name == "adam" or (name == "auto" and online):
        # from the middle to either end in a third of the steps, and slower and slower
        low, high = space.region()
        return FirstOrder(_adam(float(1.5 * np.max(high - low) / max_steps), max_steps))
    return LBFGSB(n_starts=n_starts, seed=seed)


def is_implicit(name) -> bool:
    """Whether the method solves the inner problem itself, so that its solution is the estimator's own fit."""
    return isinstance(name, Implicit) or name in ("auto", "implicit")


@functools.cache
def _adam(longest: float, max_steps: int):
    """Adam with steps that shrink to zero; cached because compiled code is keyed by the object."""
    return optax.adam(optax.cosine_decay_schedule(longest, max_steps))
