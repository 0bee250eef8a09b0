"""The hypergradient of an unrolled run, forwards: the derivative of the state travels along with it.

    Z_0 = B_0,     Z_t = discount A_t Z_{t-1} + B_t,     gradient = d outer / d hyper + Z_T^T d outer / d s_T

with A_t, B_t the derivatives of step t in the state and in the hyperparameters, and B_0 that of the starting weights.

Source: Franceschi et al. (2017), algorithm 2, and for `tune(..., restart=False)` section 3.3, real-time hyperparameter
optimization (RTHO): Z is kept, with the weights, from one call to the next. The discount, 1 where none is given, is that of
Donini et al. (2020, MARTHE): below 1 the gradient forgets what happened long ago, and does not grow without bound. Cost: of a
step, one step and a derivative for each number in `hyper`, all in one batch; memory does not grow with the steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from skhypergrad.bilevel.hypergradients import unrolled


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Forward(unrolled.Unrolled):
    """Differentiate a run along with it (see the module).

    Parameters
    ----------
    solver : unrollable solver, or a function hyper -> solver
        A function where learning rate, momentum and the like are hyperparameters.
    steps : int
        Steps of a call, as in `Reverse`.
    window : int, default=None
        Steps that are differentiated, the last ones: Z is zero before them. With as many as `steps` and without restarts this
        is the online form that forgets Z at every call. None for all, those of earlier calls included.
    discount : float in (0, 1], default=None
        What Z is multiplied by before each step; None for 1, the derivative itself. Below 1 it is a direction, and no
        derivative.

    Raises
    ------
    ValueError
        For a solver that cannot be unrolled, and for lengths and discounts that make no sense.
    """

    discount: float | None = None

    def __post_init__(self):
        super().__post_init__()
        # compiled code hands in tracers, which have been checked
        if isinstance(self.discount, (int, float)) and not 0 < self.discount <= 1:
            raise ValueError(f"discount must be above 0 and at most 1, got {self.discount}; None forgets nothing.")

    def init(self, problem, hyper, data) -> unrolled.UnrolledCarry:
        state = unrolled.beginning(self.solver, problem, hyper, data)
        size = ravel_pytree(hyper)[0].size
        tangent = [jnp.zeros((size, *x.shape), x.dtype) for x in _split(state)[0]]
        return unrolled.nothing_yet(self.solver, problem, hyper, data, tangent)

    def step(self, problem, hyper, data, carry, tol=None):
        push = _pusher(hyper)
        state, tangent = self._entry(push, problem, hyper, data, carry)
        floats, rest, join = _split(state)

        def plain(state, alive):
            return unrolled.advance(self.solver, problem, hyper, data, state, alive)

        def tracked(state, alive):
            (floats, tangent, rest) = state

            def advance(floats, hyper):
                state, on = unrolled.advance(self.solver, problem, hyper, data, join(floats, rest), alive)
                new, other, _ = _split(state)
                return new, (other, on)

            if self.discount is not None:
                tangent = [jnp.asarray(self.discount, z.dtype) * z for z in tangent]
            floats, tangent, (rest, alive) = push(advance, floats, tangent)
            return (floats, tangent, rest), alive

        tail = self.steps if self.window is None else self.window
        ended = unrolled.ending(self.solver, hyper, data)
        state, alive, taken = unrolled.run_until(plain, state, self.steps - tail, ended)
        floats, rest, _ = _split(state)
        (floats, tangent, rest), on, more = unrolled.run_until(
            tracked, (floats, tangent, rest), tail, ended and (lambda loop: ended(join(loop[0], loop[2])))
        )

        def outer(floats, hyper):
            params = unrolled.of(self.solver, hyper).params(join(floats, rest))
            return problem.outer(params, hyper, data), None

        value, slopes, _ = push(outer, floats, tangent)
        gradient, state = ravel_pytree(hyper)[1](slopes), join(floats, rest)
        return unrolled.conclude(
            self.solver, problem, hyper, data, carry, value, gradient, state, alive & on, taken + more, tangent
        )

    def _entry(self, push, problem, hyper, data, carry):
        """The state and its derivative where this call begins, of what the window leaves to be seen."""
        floats, rest, join = _split(carry.state)

        def start(_, hyper):
            new, other, _ = _split(unrolled.beginning(self.solver, problem, hyper, data))
            return new, other

        fresh, tangent, other = push(start, floats, carry.tangent)
        floats, tangent, rest = jax.tree.map(
            lambda new, old: jnp.where(carry.fresh, new, old), (fresh, tangent, other), (floats, carry.tangent, rest)
        )
        if self.window is not None:
            # the starting weights count where the window reaches them, what earlier calls have left never
            seen = carry.fresh & (self.window == self.steps)
            tangent = [jnp.where(seen, z, 0.0) for z in tangent]
        return join(floats, rest), tangent


def _pusher(hyper):
    """push(function, floats, tangent): value, derivatives along every hyperparameter, and what is not differentiated."""
    flat, unravel = ravel_pytree(hyper)
    units = jax.vmap(unravel)(jnp.eye(flat.size, dtype=flat.dtype))

    def push(function, floats, tangent):
        def along(z, e):
            return jax.jvp(function, (floats, hyper), (z, e), has_aux=True)

        return jax.vmap(along, out_axes=(None, 0, None))(tangent, units)

    return push


def _split(state):
    """The floating leaves of a state, the others, and the way back."""
    leaves, structure = jax.tree.flatten(state)
    is_float = [jnp.issubdtype(x.dtype, jnp.floating) for x in leaves]

    def join(floats, others):
        floats, others = iter(floats), iter(others)
        return jax.tree.unflatten(structure, [next(floats) if f else next(others) for f in is_float])

    floats = [x for x, f in zip(leaves, is_float, strict=True) if f]
    others = [x for x, f in zip(leaves, is_float, strict=True) if not f]
    return floats, others, join
