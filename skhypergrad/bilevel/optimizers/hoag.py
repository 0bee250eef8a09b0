"""HOAG: projected gradient steps along inexact hypergradients whose accuracy grows as the search goes on.

    theta <- P(theta - step * p_k),    p_k the hypergradient at the inner tolerance eps_k
    f_k <= f_{k-1} + slack(eps) - |move|**2 / (2 step)  ?    step * 1.05  :  back to the best point, step / 2

Source: Pedregosa (2016): schedules, projection after the step, first step of length one, adaptive step. The test follows from
the descent lemma, with the factor 1/2 that the printed inequality lacks (with it a step could only pass through the slack).
The slack is what values and slopes at these tolerances may be wrong by, relative to their own size, so that units do not
matter. Beyond the paper, a step that fails is undone, and no step is longer than `longest`: a long one can leap into a region
where the criterion is flat, and its hypergradient says nothing there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from skhypergrad.bilevel.optimizers.oracle import Budget, is_done, scale_of
from skhypergrad.bilevel.region import Region
from skhypergrad.bilevel.solution import Status

SCHEDULES = {
    "quadratic": lambda k: 0.1 / k**2,
    "cubic": lambda k: 0.1 / k**3,
    "exponential": lambda k: 0.1 * 0.9**k,
    "exact": lambda k: 0.0,
}


# Values are corrected by the adjoint, whose residual is tol**0.75: their error is the product with the inner one.
SECOND = 1.75


@dataclass(frozen=True)
class HOAG:
    """Hyperparameter optimization with approximate gradient (see the module).

    Parameters
    ----------
    tolerance_decrease : {"quadratic", "cubic", "exponential", "exact"}, default="exponential"
        Inner tolerance of step k = 1, 2, ...: 0.1 / k**2, 0.1 / k**3, 0.1 * 0.9**k, or that of a verified answer from the
        start, which is also the least of the others.
    grow, shrink : float, default=1.05 and 0.5
        What the step is multiplied by after a step that passed or failed the test.
    longest : float, default=2.0
        Longest move of a coordinate on the free scale, in natural-log units or tenths of a linear interval.

    Raises
    ------
    ValueError
        For a schedule of another name.

    Notes
    -----
    A first-order method: with one or a few hyperparameters `LBFGSB` takes far fewer evaluations. It starts at the space's
    `init` and finds the minimum of that basin.
    """

    tolerance_decrease: str = "exponential"
    grow: float = 1.05
    shrink: float = 0.5
    longest: float = 2.0

    honours_sums: ClassVar[bool] = True
    needs_descent: ClassVar[bool] = True

    def __post_init__(self):
        if self.tolerance_decrease not in SCHEDULES:
            raise ValueError(f"tolerance_decrease must be one of {sorted(SCHEDULES)}, got {self.tolerance_decrease!r}.")

    def minimize(self, oracle, theta, region: Region, budget: Budget) -> Status:
        inexact = np.isfinite(budget.inner_tol)
        floor = budget.inner_tol if inexact else 0.0
        schedule = SCHEDULES[self.tolerance_decrease if inexact else "exact"]
        eps = max(schedule(1), floor)
        best = oracle(theta, None, eps)
        if not best.solved:
            return Status.inner_failed
        values, step, move, change, again = [best.value], None, None, None, False
        for k in range(2, budget.max_steps + 2):
            if again:
                # a point that stays is looked at once more where the tolerance has become finer
                answer, again = oracle(theta, best.carry, eps), False
                best = answer if answer.solved else best
                values.append(best.value)
                continue
            scale = scale_of(best.value, values)
            slope = region.slope(theta, best.gradient)
            if is_done(slope, budget.tol * scale, move, change):
                if eps <= floor:
                    return Status.converged
                # a small gradient at a coarse tolerance says little
                eps, again = max(floor, eps / 100), True
                continue
            if step is None:
                step = 1 / np.linalg.norm(slope)
            new = np.array(region.project(theta + np.clip(-step * slope, -self.longest, self.longest)))
            trial = new - theta
            coarse, eps = eps, max(floor, min(eps, schedule(k)))
            answer = oracle(new, best.carry, eps)
            slack = scale * (coarse**SECOND + eps**SECOND) + coarse * abs(slope @ trial)
            allowed = slack - trial @ trial / (2 * step)
            if answer.solved and answer.value <= best.value + allowed:
                move, change = trial, answer.gradient - best.gradient
                theta, best = new, answer
                values.append(answer.value)
                step *= self.grow
            else:
                # half of the move that was made, which may have been cut short
                step, again = self.shrink * np.linalg.norm(trial) / np.linalg.norm(slope), coarse > eps
                if np.max(np.abs(trial)) <= 1e-10 * np.max(np.abs(theta), initial=1.0):
                    return Status.stalled
        return Status.max_steps
