"""What `Reverse` and `Forward` share: the run of an inner solver, and what they carry from call to call.

    s_0 = init(hyper),     s_t = step(s_{t-1}, hyper),     t = 1, ..., T

A run that meets a number that is not finite keeps its last finite state and stands still; its value and gradient are NaN.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from skhypergrad.bilevel.hypergradients.evidence import Evidence


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class OfHyper:
    """A solver that is made from the hyperparameters, so that its rates can be among them."""

    function: Any = field(metadata={"static": True})


class UnrolledCarry(NamedTuple):
    """What is kept between calls.

    Attributes
    ----------
    params, state : of the solver where the last call ended
    tangent : (n_hyper, ...) derivatives of the state's floating leaves (`Forward`); None
    fresh : whether nothing has been run yet, so that the next call starts from the problem's `init`
    reference : norm of the first inner gradient
    evidence : Evidence
    """

    params: Any
    state: Any
    tangent: Any
    fresh: Any
    reference: Any
    evidence: Evidence


def checked(solver):
    """The solver, wrapped where it is a function of the hyperparameters; refused where it cannot be unrolled."""
    if not hasattr(solver, "step") and not isinstance(solver, OfHyper) and callable(solver):
        return OfHyper(solver)
    if getattr(solver, "unrollable", True):
        return solver
    raise ValueError(
        f"{type(solver).__name__} cannot be unrolled: its steps depend on the data through a line search. Use "
        "GradientDescent, Momentum, Nesterov, Adam or Optax here, or this solver under Implicit."
    )


def of(solver, hyper):
    """The solver at these hyperparameters."""
    return checked(solver.function(hyper)) if isinstance(solver, OfHyper) else solver


def beginning(solver, problem, hyper, data):
    """The solver's state at the problem's starting weights."""
    return of(solver, hyper).init(problem, hyper, data, problem.init(hyper, data))


def advance(solver, problem, hyper, data, state, alive):
    """One step: (state, alive). A step that is not finite is not taken, and is the last."""
    new = of(solver, hyper).step(problem, hyper, data, state)
    alive = alive & is_finite(new)
    return jax.tree.map(lambda new, old: jnp.where(alive, new, old), new, state), alive


def is_finite(state):
    """Whether all floating leaves are."""
    leaves = [jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)]
    return jnp.all(jnp.stack(leaves))


def ending(solver, hyper, data):
    """state -> whether a run is at its end, for solvers that end by themselves; None for the others."""
    ended = getattr(of(solver, hyper), "ended", None)
    return None if ended is None else lambda state: ended(data, state)


def run_until(step, state, steps, ended):
    """As `run`, and no further once all is over: for derivatives that travel along, a loop has none of its own."""
    if ended is None:
        return run(step, state, steps)

    def on(loop):
        state, alive, taken = loop
        return (taken < steps) & alive & ~ended(state)

    def body(loop):
        state, alive, taken = loop
        state, alive = step(state, alive)
        return state, alive, taken + alive

    return jax.lax.while_loop(on, body, (state, jnp.asarray(True), jnp.asarray(0)))


def run(step, state, steps, *, kept=None):
    """`steps` steps from (state, alive), with the number of them that were taken.

    With `kept`, derivatives keep what they need of the last `kept` steps, and of the steps before only every n-th state, n
    about the root of their number, to run again from there: memory for two roots more, and less than one run again
    (Griewank & Walther 2008, section 12.3).
    """

    def body(loop, _):
        state, alive, taken = loop
        state, alive = step(state, alive)
        return (state, alive, taken + alive), None

    def several(loop, length):
        return jax.lax.scan(body, loop, None, length=length)[0]

    loop = (state, jnp.asarray(True), jnp.asarray(0))
    again = 0 if kept is None else steps - kept
    if again > 0:
        chunk = math.isqrt(again)
        part = jax.checkpoint(lambda loop: several(loop, chunk))
        loop = jax.lax.scan(lambda loop, _: (part(loop), None), loop, None, length=again // chunk)[0]
        again -= again % chunk
    return several(loop, steps - again)


def kept_of(solver, problem, hyper, data, state, steps, memory):
    """Of how many last steps all that the way back needs is kept: None for all, while that fits into `memory` bytes."""

    def residuals(hyper, data, state):
        def whole(hyper, state):
            return run(lambda s, alive: advance(solver, problem, hyper, data, s, alive), state, steps)[0]

        return jax.tree.leaves(jax.vjp(whole, hyper, state)[1])

    graph = jax.make_jaxpr(residuals)(*jax.tree.map(_shape, (hyper, data, state))).jaxpr
    given = set(map(id, graph.invars))
    stored = {id(v): v.aval for v in graph.outvars if id(v) not in given}
    size = sum(math.prod(a.shape) * a.dtype.itemsize for a in stored.values())
    if size <= memory:
        return None
    # what is run again needs room for a root of its steps as well
    root = math.isqrt(steps)
    return min(max(steps * memory // size - root, 2 * root), steps)


def _shape(x):
    return jax.ShapeDtypeStruct(x.shape, x.dtype)


def nothing_yet(solver, problem, hyper, data, tangent=None) -> UnrolledCarry:
    """The carry before the first call."""
    state = beginning(solver, problem, hyper, data)
    params = of(solver, hyper).params(state)
    reference = _norm(jax.grad(problem.inner)(params, hyper, data))
    zero, none = jnp.zeros_like(reference), jnp.asarray(0)
    return UnrolledCarry(
        params, state, tangent, jnp.asarray(True), reference, Evidence(zero, zero, zero, none, none, zero, none)
    )


def conclude(solver, problem, hyper, data, carry, value, gradient, state, alive, taken, tangent=None):
    """(value, gradient, carry) with evidence; NaN where the run broke off or its derivative is not finite."""
    params = of(solver, hyper).params(state)
    residual = _norm(jax.grad(problem.inner)(params, hyper, data)) / jnp.where(
        carry.reference > 0, carry.reference, 1.0
    )
    whole = alive & jnp.isfinite(value)
    zero, none = jnp.zeros_like(residual), jnp.asarray(0)
    value = jnp.where(whole, value, jnp.nan)
    evidence = Evidence(value, jnp.where(whole, residual, jnp.nan), zero, taken, none, zero, none)
    new = UnrolledCarry(params, state, tangent, jnp.asarray(False), carry.reference, evidence)
    return value, jax.tree.map(lambda g: jnp.where(whole, g, jnp.nan), gradient), new


@dataclass(frozen=True)
class Unrolled:
    """A solver and how many of its steps are run and differentiated; the parameters are those of `Reverse`."""

    solver: Any
    steps: int = field(metadata={"static": True})
    window: int | None = field(default=None, metadata={"static": True})

    restarts: ClassVar[bool] = True
    tol: ClassVar[float] = float("inf")
    sees: ClassVar[str] = (
        "what enters an objective, the solver's rates or, when every step is differentiated, the starting weights"
    )

    def __post_init__(self):
        object.__setattr__(self, "solver", checked(self.solver))
        if self.steps < 1 or (self.window is not None and not 1 <= self.window <= self.steps):
            raise ValueError(
                "steps must be at least 1 and window between 1 and steps, "
                f"got steps={self.steps}, window={self.window}."
            )

    def visible(self, problem, hyper, data):
        """What a hyperparameter must enter to have a derivative: anything on the way through the run."""
        state = beginning(self.solver, problem, hyper, data)
        if self.window not in (None, self.steps):
            state = jax.tree.map(jnp.zeros_like, state)
        state, _ = advance(self.solver, problem, hyper, data, state, jnp.asarray(True))
        return state, problem.outer(of(self.solver, hyper).params(state), hyper, data)

    def trusts(self, evidence: Evidence, tol=None):
        """Whether every task's run is finite."""
        return (abs(evidence.inner_residual) < float("inf")).all()


def _norm(tree):
    flat = ravel_pytree(tree)[0]
    return jnp.sqrt(jnp.vdot(flat, flat))
