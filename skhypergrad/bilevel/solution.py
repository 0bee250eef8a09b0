"""What a search reports: a sentence for how it ended, a record for every evaluation, and the best verified point."""

from __future__ import annotations

import enum
from typing import Any, NamedTuple

import numpy as np


class Status(enum.Enum):
    """How a search ended; the value is a sentence with cause and remedy, `name` the word."""

    converged = "The projected hypergradient is below tol at an interior point; inner and linear solves are verified."
    boundary = (
        "The optimum is on a bound of its space, and the criterion does not rise towards it: "
        "widen the bounds if values beyond make sense."
    )
    flat = "The criterion is the same at every point that was evaluated: this hyperparameter does not matter here."
    judged = (
        "The criterion was descended to its end, and another evaluated point was chosen because the judge, which is not "
        "the criterion, prefers it there."
    )
    stopped_early = (
        "The criterion of a training that went on did not fall any more: its best moment is returned. Whether the "
        "hypergradient vanishes there was not asked."
    )
    stalled = (
        "No further decrease could be found, yet the hypergradient is above tol: "
        "the criterion may be noisy or its curvature extreme; try a narrower space or a larger tol."
    )
    resolved = (
        "The criterion was descended as far as its resolution goes: that of a training is rough on a smaller scale, where "
        "its derivative says nothing."
    )
    max_steps = "max_steps evaluations were used before tol was reached: raise max_steps or tol."
    timeout = "max_time was used up before tol was reached: the best verified point so far is returned."
    interrupted = "The search was stopped from outside: the best verified point so far is returned."
    swept = "The points of a sweep were evaluated and nothing was descended: the best of them is returned."
    inner_failed = (
        "The inner problem or the adjoint system could not be solved to tolerance, at any point or where the descent led: "
        "rescale the features, bound the hyperparameters away from values that hardly regularise, or raise max_steps of "
        "the method or of its linear solver."
    )


class Evaluation(NamedTuple):
    """One evaluation of the criterion and its hypergradient, with the evidence for both.

    Attributes
    ----------
    hyper : dict of numpy.ndarray, natural scale
    theta : (n_coordinates,) the same point on the free scale
    value : float, mean of the tasks' outer objectives
    gradient : (n_coordinates,) of `value` with respect to `theta`
    tasks : (n_tasks,) outer objective of each
    inner_residual, linear_residual : float
        The worst task's relative residuals, recomputed at the end of each solve (see `Implicit`).
    inner_steps, linear_steps, products : int, largest over the tasks
        `products` are those of the inner Hessian with a vector, in the steps of `Newton` and in the adjoint system.
    tol : float, the inner tolerance that was asked for
    seconds : float since the search began
    solved : bool
        Whether value and gradient are finite and both residuals small enough for the number to be used.
    reason : str, why not, or what the evaluation was for
    judged : float, what the judge of `tune` made of it (smaller is better); 0 without one, NaN where unsolved
    """

    hyper: dict
    theta: np.ndarray
    value: float
    gradient: np.ndarray
    tasks: np.ndarray
    inner_residual: float
    linear_residual: float
    inner_steps: int
    linear_steps: int
    products: int
    tol: float
    seconds: float
    solved: bool
    reason: str
    judged: float

    @property
    def rank(self) -> tuple[float, float]:
        """Smaller is better: by the judge where there is one (NaN last), ties by the criterion."""
        return (self.judged if self.judged == self.judged else float("inf"), self.value)


class Solution(NamedTuple):
    """The best verified point.

    Attributes
    ----------
    hyper : dict of numpy.ndarray, natural scale
    params : the inner solution of every task there (leading task axis where there are several)
    value : float, the outer objective
    gradient : dict of numpy.ndarray, d value / d hyper on the natural scale
    status : Status
    trace : list of Evaluation, in order
    """

    hyper: dict
    params: Any
    value: float
    gradient: dict
    status: Status
    trace: list


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during `tune`; `solution` is the best verified point so far, with status `interrupted`."""

    def __init__(self, solution: Solution):
        super().__init__("The search was interrupted; the exception's `solution` is the best point so far.")
        self.solution = solution


def elements(name: str, size: int) -> list[str]:
    """What the coordinates of a hyperparameter are called: by its name, or `name[0]`, `name[1]`, ... where it has several."""
    return [name] if size == 1 else [f"{name}[{i}]" for i in range(size)]


# Coordinates up to which a trace has a column for the derivative with respect to each.
DERIVATIVES = 20


def columns(trace: list[Evaluation], *, values: bool = True) -> dict[str, np.ndarray]:
    """Turn a list of evaluations into arrays, one row an evaluation (`pandas.DataFrame` accepts the result).

    A hyperparameter of several elements becomes one column an element, `alpha[0]`, `alpha[1]`, ...
    `d_alpha` is the derivative of the criterion with respect to `alpha` on the free scale, in spaces of at most `DERIVATIVES`
    coordinates. With `values=False` there are no such columns at all. The value of an unsolved evaluation is no number: it is
    masked as NaN here and `solved` is False.
    """
    table: dict[str, list] = {}
    for row in trace:
        cells: dict[str, Any] = {"criterion": row.value if row.solved else np.nan}
        for name, value in row.hyper.items():
            cells |= zip(elements(name, np.size(value)), np.ravel(value).tolist(), strict=True)
        coordinates = list(cells)[1:]
        gradient = row.gradient if row.solved else np.full(len(coordinates), np.nan)
        cells["gradient_norm"] = float(np.linalg.norm(gradient))
        if not values:
            cells = {name: cell for name, cell in cells.items() if name not in coordinates}
        elif len(coordinates) <= DERIVATIVES:
            cells |= {f"d_{name}": float(slope) for name, slope in zip(coordinates, gradient, strict=True)}
        cells |= {
            field: getattr(row, field)
            for field in ("inner_residual", "linear_residual", "inner_steps", "linear_steps", "products")
        }
        cells |= {field: getattr(row, field) for field in ("tol", "seconds", "solved", "reason")}
        for name, value in cells.items():
            table.setdefault(name, []).append(value)
    return {name: np.array(values) for name, values in table.items()}
