"""Several outer objectives, each for hyperparameters of its own: separate gradient flows on one inner problem.

    gradient[name] = d outer[name] / d hyper[name]

Source: the hyperparameter lists of Franceschi et al. (2017), for instance learning rates that follow the training loss beside
penalties that follow the validation loss. There is in general no function that all of them descend together. Cost: one
hypergradient for each different objective.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from skhypergrad.bilevel.hypergradients.evidence import Evidence


class SeveralCarry(NamedTuple):
    """The inner solution, the worst of the evidence, and the carry of every objective."""

    params: Any
    evidence: Evidence
    parts: tuple


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Several:
    """Another hypergradient, for a problem whose `outer` is a dict.

    Parameters
    ----------
    method : hypergradient
    """

    method: Any

    @property
    def tol(self):
        return self.method.tol

    @property
    def restarts(self):
        return self.method.restarts

    @property
    def sees(self):
        return self.method.sees

    def trusts(self, evidence, tol=None):
        return self.method.trusts(evidence, tol)

    def init(self, problem, hyper, data) -> SeveralCarry:
        return self._gathered([self.method.init(one, hyper, data) for one, _ in _apart(problem, hyper)])

    def step(self, problem, hyper, data, carry, tol=None):
        gradient: dict[str, Any] = {}
        values, parts = [], []
        for (one, names), part in zip(_apart(problem, hyper), carry.parts, strict=True):
            value, slopes, part = self.method.step(one, hyper, data, part, tol)
            gradient |= {name: slopes[name] for name in names}
            values.append(value)
            parts.append(part)
        return values[0], gradient, self._gathered(parts)

    def visible(self, problem, hyper, data):
        def own(names):
            return {name: v if name in names else jnp.zeros_like(v) for name, v in hyper.items()}

        return [self.method.visible(one, own(names), data) for one, names in _apart(problem, hyper)]

    @staticmethod
    def _gathered(parts):
        evidence = jax.tree.map(lambda *x: jnp.max(jnp.stack(x), axis=0), *[part.evidence for part in parts])
        return SeveralCarry(parts[0].params, evidence._replace(value=parts[0].evidence.value), tuple(parts))


def _apart(problem, hyper):
    """(problem with one outer objective, its names) for each different objective, in the order they were given."""
    missing = sorted(set(hyper) - {name for name, _ in problem.outer})
    if missing:
        raise ValueError(
            f"outer says nothing of {', '.join(map(repr, missing))}: give each hyperparameter an objective."
        )
    objectives = list(dict.fromkeys(objective for _, objective in problem.outer))
    for objective in objectives:
        names = [name for name, own in problem.outer if own is objective and name in hyper]
        yield replace(problem, outer=objective), names
