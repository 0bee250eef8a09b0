"""What one continuous search found, and the table of all evaluations."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skhypergrad.bilevel import Solution, Space, Status
from skhypergrad.bilevel.solution import columns
from skhypergrad.bilevel.tune import at_bound
from skhypergrad.exceptions import BoundaryWarning

# How a search may end without a word of warning.
FINE = (Status.converged, Status.judged, Status.resolved, Status.swept)


class Outcome(NamedTuple):
    """A row of `cv_results_` to be, with how it was come to.

    Attributes
    ----------
    listed, values : dict of the listed and of the continuous hyperparameters, full names
    status : Status
    trace : list of Evaluation
    n_splits : int, of the tasks those that are folds
    sides : dict of name to the set of bounds ("lower", "upper") it lies on
    criterion : str, what was descended
    answers : list of Answer, one for each split and one for all rows; None where scikit-learn is to fit
    device : str, where it was computed
    failure : str, why there was nothing to search
    """

    listed: dict
    values: dict
    status: Status
    trace: list
    n_splits: int
    sides: dict
    criterion: str = ""
    answers: list | None = None
    device: str = ""
    failure: str = ""

    @classmethod
    def of(cls, solution: Solution, prefix: str, space: Space, **known) -> Outcome:
        theta = space.theta(solution.hyper)
        gradient = space.pull_back(solution.gradient, solution.hyper)
        sides: dict = {}
        if solution.params is not None:
            for (name, _), side in zip(space.coordinates(), at_bound(theta, gradient, space.region()), strict=True):
                if side:
                    sides.setdefault(prefix + name, set()).add("lower" if side < 0 else "upper")
        return cls(
            values=named(prefix, solution.hyper), status=solution.status, trace=solution.trace, sides=sides, **known
        )

    @property
    def candidate(self) -> dict:
        """What `cv_results_` calls it."""
        return dict(sorted({**self.listed, **self.values}.items()))

    @property
    def found(self) -> bool:
        """Whether there is a verified point."""
        return self.status is not Status.inner_failed or any(e.solved for e in self.trace)

    def warning(self) -> tuple[str, type[Warning]] | None:
        """What the user must know of how this candidate was found."""
        if self.sides:
            where = ", ".join(
                f"{name} = {show(self.values[name])} ({' and '.join(sorted(sides))} bound)"
                for name, sides in self.sides.items()
            )
            return f"{where}. {Status.boundary.value}", BoundaryWarning
        if self.status not in FINE:
            return f"{self.status.name}: {self.status.value}", ConvergenceWarning
        return None

    def table(self) -> dict[str, np.ndarray]:
        """The trace as columns, with the criterion on every split."""
        table = columns(self.trace)
        tasks = np.array([e.tasks if e.solved else np.full_like(e.tasks, np.nan) for e in self.trace])
        # tasks are weighted so that their mean is the mean over the folds, rows that are only fitted weighing nothing
        tasks = tasks[:, : self.n_splits] * self.n_splits / tasks.shape[1]
        return {**table, **{f"split{k}_criterion": column for k, column in enumerate(tasks.T)}}


def trace_of(outcomes: dict[int, Outcome], n_candidates: int) -> dict[str, np.ndarray]:
    """One table of all searches; `candidate` is the row of `cv_results_` where it has several."""
    tables = []
    for index, outcome in outcomes.items():
        if outcome.trace:
            table = outcome.table()
            if n_candidates > 1:
                table = {"candidate": np.full(len(outcome.trace), index), **table}
            tables.append(table)
    names = list(dict.fromkeys(name for table in tables for name in table))
    return {name: np.concatenate([t.get(name, np.full(len(t["criterion"]), np.nan)) for t in tables]) for name in names}


def named(prefix: str, hyper) -> dict:
    """Candidate values under their full names: Python floats, arrays for shaped hyperparameters."""
    return {prefix + name: float(v) if np.ndim(v) == 0 else np.array(v) for name, v in hyper.items()}


def show(value) -> str:
    """A value in a message: four digits, long arrays abridged."""
    return f"{value:.4g}" if np.ndim(value) == 0 else np.array2string(value, precision=4, threshold=6)
