"""The implicit hypergradient: how the outer objective moves with the exact inner optimum.

    H q = d outer / dw,      gradient = d outer / d hyper - < d/d hyper  grad_w inner, q >,     H = Hessian of inner

Source: the implicit function theorem; Pedregosa (2016), equation 3. Cost: one inner solve and one linear solve, both
started from the last call's answers. Error of the gradient: O(inner residual + linear residual), both reported; of the
value: of second order, because the adjoint also tells what the inner residual does to it. Learning rates, momentum,
starting weights and step counts do not move the optimum: their derivative here is identically zero, so they need an
unrolled mode.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from skhypergrad.bilevel.hypergradients.evidence import Evidence
from skhypergrad.bilevel.linear_solvers import ConjugateGradient
from skhypergrad.bilevel.problem import dual_norm, flat_preconditioner, hessian, rough_hessian
from skhypergrad.bilevel.solvers import Newton

# The adjoint is solved to tol**(3/4): the value rests on the inner solve alone, the gradient only steers.
ADJOINT = 0.75
# Residuals that rounding may leave, whatever was asked for; and how far a solver may miss its target.
INNER_ROUNDING = 1e-6
LINEAR_ROUNDING = 1e-6
SLACK = 10
# A coarse value that its correction changes by more than this share is no value: the correction is a first-order one.
LARGEST_CORRECTION = 0.5


class ImplicitCarry(NamedTuple):
    """The inner solution and adjoint (warm starts), the evidence, and what residuals and corrections are compared with.

    Attributes
    ----------
    params, adjoint : the last answers
    reference : inner gradient at the starting weights, once these have been used
    begun : bool, whether they have
    outer : largest size of the outer objective so far
    evidence : Evidence
    """

    params: Any
    adjoint: Any
    reference: Any
    begun: Any
    outer: Any
    evidence: Evidence


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Implicit:
    """Differentiate the inner optimum by the implicit function theorem (see the module).

    Parameters
    ----------
    solver : solver, default=Newton()
        Takes the inner problem to its optimum; its step need not be differentiable.
    tol : float, default=1e-9
        Relative inner residual to be reached, and to the power 3/4 the adjoint's; an optimizer may ask for less.
    max_steps : int, default=200
        Inner steps at most. What was reached is in the evidence.
    linear_solver : linear solver, default=ConjugateGradient()
        Of the adjoint system.
    """

    solver: Any = field(default_factory=Newton)
    tol: float = 1e-9
    max_steps: int = 200
    linear_solver: Any = field(default_factory=ConjugateGradient)

    @property
    def direct(self) -> bool:
        """Whether the answer does not depend on where the solver begins, so that many points may be asked at once."""
        return getattr(self.solver, "direct", False)

    @property
    def restarts(self) -> bool:
        return self.direct

    def init(self, problem, hyper, data) -> ImplicitCarry:
        params = problem.init(hyper, data)
        zeros = jnp.zeros_like(ravel_pytree(params)[0])
        nothing = jnp.zeros((), zeros.dtype)
        return ImplicitCarry(
            params=params,
            adjoint=zeros,
            reference=zeros,
            begun=jnp.asarray(False),
            outer=nothing,
            evidence=Evidence(nothing, nothing, nothing, jnp.asarray(0), jnp.asarray(0), nothing, jnp.asarray(0)),
        )

    def step(self, problem, hyper, data, carry, tol=None):
        tol = self.tol if tol is None else tol
        problem = _frozen(problem, hyper, data, carry.params)
        params, objective, gradient, reference, steps, products = self._solve(problem, hyper, data, carry, tol)
        w, unravel = ravel_pytree(params)

        def gradient_of(w, hyper):
            return ravel_pytree(problem.gradient(unravel(w), hyper, data))[0]

        operator = hessian(problem, params, hyper, data)

        value, (b, direct) = jax.value_and_grad(
            lambda w, hyper: problem.outer(unravel(w), hyper, data), argnums=(0, 1)
        )(w, hyper)
        rough = rough_hessian(problem, params, hyper, data)
        adjoint = self.linear_solver.solve(operator, b, carry.adjoint, tol**ADJOINT, rough)
        moved = jax.grad(lambda hyper: jnp.vdot(gradient_of(w, hyper), adjoint.x))(hyper)
        # what is left of the inner gradient moves the value by <q, gradient>, to first order: Becker & Rannacher (2001)
        correction = jnp.vdot(adjoint.x, gradient)
        size = jnp.maximum(jnp.abs(value), carry.outer)
        value = value - correction
        evidence = Evidence(
            value=value,
            inner_residual=_relative(operator.precondition, gradient, reference, objective),
            linear_residual=adjoint.residual,
            inner_steps=steps,
            linear_steps=adjoint.steps,
            products=products + adjoint.steps,
            correction=jnp.abs(correction) / jnp.where(size > 0, size, 1.0),
        )
        hypergradient = jax.tree.map(jnp.subtract, direct, moved)
        new = ImplicitCarry(params, adjoint.x, reference, jnp.asarray(True), size, evidence)
        return value, hypergradient, new

    def predict(self, near, far, share):
        """A carry for a point on the line from `near` to `far`, `share` of the way along it or beyond; traceable.

        The adjoint is taken as it is: it is known to a per cent or so, and a line would magnify that.
        """
        return near._replace(params=jax.tree.map(lambda a, b: a + share * (b - a), near.params, far.params))

    def visible(self, problem, hyper, data):
        """What a hyperparameter must enter to have a derivative: the objectives, not the starting weights."""
        params = jax.tree.map(jnp.zeros_like, jax.eval_shape(problem.init, hyper, data))
        return problem.inner(params, hyper, data), problem.outer(params, hyper, data)

    sees: ClassVar[str] = "what enters the inner or the outer objective"

    def trusts(self, evidence: Evidence, tol=None):
        """Whether every task's residuals are small enough for an answer asked for at `tol` (False for NaN)."""
        tol = self.tol if tol is None else tol
        inner = evidence.inner_residual <= max(SLACK * tol, INNER_ROUNDING)
        linear = evidence.linear_residual <= max(SLACK * tol**ADJOINT, LINEAR_ROUNDING)
        close = (evidence.inner_residual <= INNER_ROUNDING) | (evidence.correction <= LARGEST_CORRECTION)
        return (inner & linear & close).all()

    def _solve(self, problem, hyper, data, carry, tol):
        """Step until the residual is below `tol`, what moves is rounding, or the budget is used.

        At least once: a loose `tol` would else be met by a neighbour's answer, which says nothing about this point.
        """

        def unfinished(loop):
            _, residual, moving, steps = loop
            return ~(residual <= tol) & moving & (steps < self.max_steps)

        def advance(loop):
            state, before, _, steps = loop
            new = self.solver.step(problem, hyper, data, state)
            precondition = flat_preconditioner(problem, self.solver.params(new), hyper, data)
            value, gradient = self._objective(problem, hyper, data, new)
            residual = _relative(precondition, gradient, reference, value)
            moved = jnp.any(ravel_pytree(self.solver.params(state))[0] != ravel_pytree(self.solver.params(new))[0])
            # where rounding begins, a step gains nothing
            gained = (before > INNER_ROUNDING) | (residual < before / 2)
            return new, residual, moved & gained, steps + 1

        state = self.solver.init(problem, hyper, data, carry.params)
        reference = jnp.where(carry.begun, carry.reference, self._objective(problem, hyper, data, state)[1])
        start = state, jnp.asarray(jnp.inf, reference.dtype), jnp.asarray(True), jnp.asarray(0)
        state, _, _, steps = advance(start) if self.direct else jax.lax.while_loop(unfinished, advance, start)
        products = getattr(state, "products", jnp.asarray(0))
        return self.solver.params(state), *self._objective(problem, hyper, data, state), reference, steps, products

    def _objective(self, problem, hyper, data, state):
        """The inner objective and its flat gradient, which some solvers have at hand."""
        if hasattr(state, "gradient"):
            return state.value, ravel_pytree(state.gradient)[0]
        value, gradient = problem.value_and_grad(self.solver.params(state), hyper, data)
        return value, ravel_pytree(gradient)[0]


def _frozen(problem, hyper, data, params):
    """The same problem with the preconditioner of one point for all: made once an evaluation, at its warm start."""
    if problem.precondition is None:
        return problem
    apply = problem.precondition(params, hyper, data)
    return replace(problem, precondition=lambda params, hyper, data: apply)


def _relative(precondition, gradient, reference, value):
    """|gradient| in the preconditioner's metric, relative to |reference| or to sqrt(2 |value|), whichever is smaller.

    Half the square of |gradient| is about what the inner objective can still lose. Where the fit is close (weak penalties,
    separable classes) little is left of the objective, and a share of its beginning would say nothing: the share is of
    what is there, down to 1e-4 of the reference. Where the reference vanishes, the gradient itself.
    """
    size = dual_norm(precondition, reference)
    left = jnp.clip(jnp.sqrt(2 * jnp.abs(value)), 1e-4 * size, size)
    return dual_norm(precondition, gradient) / jnp.where(size > 0, left, 1.0)
