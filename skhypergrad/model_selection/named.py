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
    Newton,
    Reverse,
    Space,
)

METHODS = ("auto", "implicit", "reverse", "forward", "online")
OPTIMIZERS = ("auto", "lbfgsb", "hoag", "adam")

# Steps of the inner solver between two updates of the hyperparameters, where they are moved online.
ONLINE_STEPS = 10


# Of ridge regressions, whose evaluations take less than a millisecond: gaps are divided by four.
HALVINGS = 2

# Of trainings, each of which takes long and says little of its close neighbours: starts along each of the diagonal and off
# it, and the resolution on the free scale (a tenth of a learning rate).
ROUGH_STARTS, RESOLUTION = 5, 0.1


def check_method(name, adapter, estimator) -> None:
    """Refuse what a network, which is not fitted to an optimum, has no answer to."""
    if adapter.solves:
        return
    kind = type(estimator).__name__
    if name == "implicit" or isinstance(name, Implicit):
        raise ValueError(
            f"The method 'implicit' asks how the optimum of a fit moves, and {kind} is not trained to one: use "
            "method='auto', 'forward' or 'reverse'."
        )
    if name == "online":
        raise ValueError(
            f"method='online' changes the hyperparameters while a network is trained, and {kind} can be fitted with "
            f"constant ones only: use method='auto', or Bilevel{kind}, which keeps the network."
        )


def method_of(name, solver, steps: int, *, solves: bool = True, implicit=None):
    """The hypergradient of that name; an object is one already.

    Parameters
    ----------
    name : str or hypergradient
    solver, steps : what a whole unrolled run is made of
    solves : bool, default=True
        Whether the fit is an optimum, so that "auto" can ask how it moves.
    implicit : hypergradient, default=None
        What asks; None for Newton's method with conjugate gradients.
    """
    if not isinstance(name, str):
        return name
    if name == "online":
        return Forward(solver, ONLINE_STEPS)
    if name == "reverse":
        return Reverse(solver, steps)
    if name == "forward" or not solves:
        return Forward(solver, steps)
    return Implicit(Newton(ConjugateGradient())) if implicit is None else implicit


def optimizer_of(
    name, space: Space, *, online: bool, n_starts, max_steps: int, seed: int, smooth: bool = True, cheap: bool = False
):
    """The optimizer of that name, for this space; an object is one already.

    What is not `smooth` has fewer starts and a resolution; what is `cheap` to evaluate is looked at more closely.
    """
    if not isinstance(name, str):
        return name
    if name == "hoag":
        return HOAG()
    if name == "adam" or (name == "auto" and online):
        # from the middle to either end in a third of the steps, and slower and slower
        low, high = space.region()
        return FirstOrder(_adam(float(1.5 * np.max(high - low) / max_steps), max_steps))
    if smooth:
        return LBFGSB(n_starts=n_starts, halvings=HALVINGS if cheap and n_starts == "auto" else 0, seed=seed)
    return LBFGSB(
        n_starts=ROUGH_STARTS if n_starts == "auto" else n_starts, n_descents=2, resolution=RESOLUTION, seed=seed
    )


def is_implicit(name) -> bool:
    """Whether the method solves the inner problem itself, so that its solution is the estimator's own fit."""
    return isinstance(name, Implicit) or name in ("auto", "implicit")


@functools.cache
def _adam(longest: float, max_steps: int):
    """Adam with steps that shrink to zero; cached because compiled code is keyed by the object."""
    return optax.adam(optax.cosine_decay_schedule(longest, max_steps))
