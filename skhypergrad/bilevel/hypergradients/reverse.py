"""The hypergradient of an unrolled run, backwards: one sweep for any number of hyperparameters.

    a_T = d outer / d s_T,     a_{t-1} = A_t^T a_t,     gradient = d outer / d hyper + sum_t B_t^T a_t + B_0^T a_0

with A_t, B_t the derivatives of step t in the state and in the hyperparameters, and B_0 that of the starting weights.

Source: Maclaurin et al. (2015); Franceschi et al. (2017), algorithm 1; truncated after `window` steps: Shaban et al. (2019),
whose error is at most of the size of what the rest of the run still forgets, (1 - lr h_min)**window where the inner objective
is strongly convex. Cost: about 2 runs, 3 with states computed again. It is the derivative of what
those steps do, learning rates and starting weights included, not of the inner optimum.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp

from skhypergrad.bilevel.hypergradients import unrolled

# Bytes that are kept before they are computed again instead.
MEMORY = 1 << 26


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Reverse(unrolled.Unrolled):
    """Differentiate the last steps of a run, backwards (see the module).

    Parameters
    ----------
    solver : unrollable solver, or a function hyper -> solver
        A function where learning rate, momentum and the like are hyperparameters.
    steps : int
        Steps of a call. From the problem's starting weights, or, in `tune(..., restart=False)`, from where the last call
        ended: with few steps this is the online form, TRHO.
    window : int, default=None
        Steps that are differentiated, the last ones; None for all. With fewer than `steps` the starting weights are not seen.
    memory : int, default=2**26
        Bytes, for each task. While what the way back needs of all steps fits (the solver's states, and the intermediate
        results of a step, usually a few numbers for every row and layer), it is kept; else that of as many last steps as fit,
        but twice the square root of all, and what comes before is run again from about as many states.

    Raises
    ------
    ValueError
        For a solver that cannot be unrolled, and for lengths that make no sense.
    """

    memory: int = field(default=MEMORY, metadata={"static": True})

    def init(self, problem, hyper, data) -> unrolled.UnrolledCarry:
        return unrolled.nothing_yet(self.solver, problem, hyper, data)

    def step(self, problem, hyper, data, carry, tol=None):
        tail = self.steps if self.window is None else self.window
        head = self.steps - tail
        kept = unrolled.kept_of(self.solver, problem, hyper, data, carry.state, tail, self.memory)

        def entry(hyper):
            fresh = unrolled.beginning(self.solver, problem, hyper, data)
            return jax.tree.map(lambda new, old: jnp.where(carry.fresh, new, old), fresh, carry.state)

        def steps_of(hyper):
            return lambda state, alive: unrolled.advance(self.solver, problem, hyper, data, state, alive)

        before, alive, taken = unrolled.run(steps_of(hyper), entry(hyper), head)

        def outer(hyper):
            state = before if head else entry(hyper)
            state, on, more = unrolled.run(steps_of(hyper), state, tail, kept=kept)
            return problem.outer(unrolled.of(self.solver, hyper).params(state), hyper, data), (state, on, more)

        (value, (state, on, more)), gradient = jax.value_and_grad(outer, has_aux=True)(hyper)
        return unrolled.conclude(
            self.solver, problem, hyper, data, carry, value, gradient, state, alive & on, taken + more
        )
