"""Learning rates and momenta: one number, one per step, or either of these for every leaf of the parameters.

The mini-batch gradient that all first-order steps begin with is here, too.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from skhypergrad.bilevel.problem import preconditioner


def at(rate: Any, step, params: Any) -> Any:
    """The rate of step 0, 1, ... for every leaf of `params`.

    Parameters
    ----------
    rate : scalar, (n_steps,), or a pytree like `params` of these
        A schedule that is shorter than the run keeps its last value.
    step : int
    params : pytree

    Returns
    -------
    pytree like params, of scalars

    Raises
    ------
    ValueError
        For a pytree of another structure than `params`, and for arrays of more than one dimension.
    """

    def now(leaf):
        leaf = jnp.asarray(leaf)
        if leaf.ndim > 1:
            raise ValueError(
                f"A rate is a number or one per step, got an array of shape {leaf.shape}. For one per leaf of the "
                "parameters, give a pytree of their structure."
            )
        return leaf[jnp.minimum(step, leaf.shape[0] - 1)] if leaf.ndim else leaf

    given: Any = jax.tree.structure(rate)
    expected: Any = jax.tree.structure(params)
    if jax.tree_util.treedef_is_leaf(given):
        value = now(rate)
        return jax.tree.map(lambda _: value, params)
    if given != expected:
        raise ValueError(
            f"Rates per leaf must have the structure of the parameters, {expected}, got {given}. Give such a pytree, or one "
            "rate for all leaves."
        )
    return jax.tree.map(now, rate)


def batch_gradient(problem, hyper, data, params, step, preconditioned=False):
    """The gradient of the inner objective on the mini-batch of a step, or on all rows where there are none.

    With `preconditioned`, times the problem's approximate inverse Hessian at the starting weights, if it has one: there the
    curvature of a logistic loss is largest, so that no step is too long.
    """
    batch = data if problem.batch is None else problem.batch(data, step)
    gradient = jax.grad(problem.inner)(params, hyper, batch)
    return preconditioner(problem, problem.init(hyper, data), hyper, data)(gradient) if preconditioned else gradient
