"""Steps of any optax transformation along the hypergradient, projected: for many hyperparameters, and for online tuning.

    theta <- P(theta + update(gradient))

Source: Franceschi et al. (2017), sections 3.3 and 5.1. The rule sees one gradient after the other and asks for no value, so
that it may follow a gradient that changes as the inner weights do; all steps between two looks at the outcome are one
compiled program. A step that leads to no number is taken back by half, with the inner run begun anew, until there is one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from skhypergrad.bilevel.optimizers.oracle import Budget, Visit, scale_of
from skhypergrad.bilevel.region import Region
from skhypergrad.bilevel.solution import Status

# Answers in a row that must be flat, or no numbers, before that is believed.
PATIENCE = 10


class Memory(NamedTuple):
    """The transformation's state, and the last point with an answer."""

    inner: Any
    home: Any


@dataclass(frozen=True)
class FirstOrder:
    """Projected steps of an optax transformation (see the module).

    Parameters
    ----------
    transformation : optax.GradientTransformation, default=optax.adam(0.1)
        In units of the free scale: natural logarithms, or tenths of a linear interval. Build it once: compiled code is keyed
        by the object.

    Notes
    -----
    It starts at the space's `init` and honours a `budget` or `total` of `Real`. It is the only optimizer for a problem with
    several outer objectives. For one or a few hyperparameters that are not tuned online `LBFGSB` takes far fewer evaluations.
    """

    transformation: Any = field(default_factory=lambda: optax.adam(0.1))

    honours_sums: ClassVar[bool] = True
    needs_descent: ClassVar[bool] = False

    def minimize(self, oracle, theta, region: Region, budget: Budget) -> Status:
        theta = jnp.asarray(theta)
        memory, carry, used = Memory(self.transformation.init(theta), theta), None, 0
        visits: list[Visit] = []
        while used < budget.max_steps:
            path = oracle.follow(self, theta, memory, carry, budget.inner_tol, budget.max_steps - used)
            theta, memory, carry = path.theta, path.memory, path.carry
            used += len(path.visits)
            visits += path.visits
            recent = visits[-PATIENCE:]
            if len(recent) < PATIENCE:
                continue
            if not any(np.isfinite(visit.value) for visit in recent):
                return Status.inner_failed
            small = budget.tol * scale_of(recent[-1].value, [visit.value for visit in visits])
            if all(visit.solved and _is_flat(visit, region, small) for visit in recent):
                return Status.converged
        return Status.max_steps

    def move(self, theta, gradient, memory: Memory):
        """The next point and memory; half of the way back where the gradient is no number."""
        fine = jnp.all(jnp.isfinite(gradient))
        update, inner = self.transformation.update(jnp.where(fine, gradient, 0.0), memory.inner, theta)
        new = Memory(inner, theta), optax.apply_updates(theta, update)
        back = Memory(self.transformation.init(theta), memory.home), (theta + memory.home) / 2
        memory, theta = jax.tree.map(lambda new, back: jnp.where(fine, new, back), new, back)
        return theta, memory


def _is_flat(visit: Visit, region: Region, small: float) -> bool:
    return bool(np.max(np.abs(region.slope(visit.theta, visit.gradient))) <= small)
