"""One continuous search: an estimator, its data and its splits become a bilevel problem, which is tuned."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import numpy as np
from threadpoolctl import threadpool_limits

from skhypergrad.adapters._compat import num_samples
from skhypergrad.adapters.base import Adapter
from skhypergrad.adapters.pipeline import last_step
from skhypergrad.adapters.scoring import criterion_of
from skhypergrad.adapters.task import Routed, Task, prepare
from skhypergrad.bilevel import Interrupted, Solution, Space, Status, Stop, Sweep, tune
from skhypergrad.bilevel.space import Real
from skhypergrad.model_selection.named import is_implicit, method_of, optimizer_of
from skhypergrad.model_selection.outcome import Outcome, named
from skhypergrad.model_selection.rules import standard_error

# How often the way to the simplest model within one standard error is halved.
HALVINGS = 8


class Combination(NamedTuple):
    """One combination of listed values, with the continuous space that is searched within it."""

    listed: dict
    continuous: dict[str, Real]
    estimator: Any
    adapter: Adapter


@dataclass
class Tuner:
    """What the searches of one fit have in common. Nothing of it refers to the search object, so that it can travel.

    Parameters
    ----------
    X, y, splits : as `HypergradSearchCV.fit` was given them, and the folds
    routed : Routed
    scorer : callable or None, what ranks
    rule : OneStandardError or None, for a simpler model beside the best
    refits : bool, whether a solution for all rows is wanted
    method, optimizer, criterion, n_starts, max_steps, tol, seed, n_jobs : see `HypergradSearchCV`
    raises : bool, whether a scorer's error ends the search

    Attributes
    ----------
    prepared : dict, folds by the preprocessing that made them
    interrupted : bool, whether Ctrl-C ended a search
    """

    X: Any
    y: Any
    splits: list
    routed: Routed
    scorer: Any
    rule: Any
    refits: bool
    method: Any
    optimizer: Any
    criterion: str | None
    n_starts: int | str
    max_steps: int
    tol: float
    seed: int
    n_jobs: int | None
    raises: bool
    prepared: dict[tuple, Any] = field(default_factory=dict)
    interrupted: bool = False

    @property
    def carries(self) -> bool:
        """Whether scoring and refit take the solutions over, instead of fitting anew."""
        return is_implicit(self.method)

    def __call__(self, step: Combination, inits: dict, callback: Callable | None = None) -> list[Outcome]:
        """Search one combination: the best point, and with a `rule` perhaps a simpler one.

        Parameters
        ----------
        step : Combination
        inits : dict, where to begin, by full names
        callback : callable, (evaluation) -> bool, as in `tune`

        Returns
        -------
        list of Outcome
            Without a search, one that says so, where the steps before the last one could not be fitted.
        """
        prefix, _ = last_step(step.estimator)
        space = Space(
            {name.removeprefix(prefix): _begun_at(real, inits.get(name)) for name, real in step.continuous.items()}
        )
        try:
            prepared = self._prepare(step, prefix)
        except Exception as error:
            if self.raises:
                raise
            return [self._failed(step, error)]
        splits = self._all_splits()
        task = Task(step.estimator, step.adapter, self.X, self.y, splits, len(self.splits), self.routed, prepared)
        descended = criterion_of(self.scorer, step.adapter) if self.scorer is not None else None
        criterion = self.criterion or descended or step.adapter.criteria[0]
        folds, problem = task.cut(criterion)
        online = self.method == "online"

        def run(space, optimizer, judge=None, callback=None):
            return tune(
                problem,
                method_of(self.method, task.learning_rate),
                optimizer,
                space,
                folds.data,
                task_axes=folds.axes,
                restart=False if online else None,
                max_steps=self.max_steps,
                tol=self.tol,
                judge=judge,
                callback=callback,
            )

        def outcome_of(solution):
            answers = None
            if self.carries and solution.params is not None:
                answers = task.answers(*folds.restore(solution.params), named("", solution.hyper))
            return Outcome.of(
                solution,
                prefix,
                space,
                listed=step.listed,
                n_splits=len(self.splits),
                criterion=criterion,
                answers=answers,
                device=_device(folds),
            )

        def scores_of(params):
            return task.scores(self.scorer, *folds.restore(params))

        judge = None
        if self.scorer is not None and criterion != descended:

            def judge(params):
                return -self._mean(scores_of, params)

        optimizer = optimizer_of(
            self.optimizer, space, online=online, n_starts=self.n_starts, max_steps=self.max_steps, seed=self.seed
        )
        try:
            solution = run(space, optimizer, judge, callback)
        except Interrupted as interrupt:
            self.interrupted = True
            return [outcome_of(interrupt.solution)]
        if online and solution.params is not None:
            # a good moment of unfinished weights says nothing of the fit to come: what the run has come to does
            solution = _at_the_end(solution, space)
        outcomes = [outcome_of(solution)]
        if self._simplifies(step, solution):
            simpler = self._simpler(step.continuous, prefix, space, solution, run, scores_of)
            if simpler is not None:
                # the descent has ended as it has; the rule prefers this point to its end
                ended = (
                    Status.judged if outcomes[0].status in (Status.converged, Status.boundary) else outcomes[0].status
                )
                outcomes.append(outcome_of(simpler)._replace(status=ended))
        return outcomes

    def _failed(self, step: Combination, error: Exception) -> Outcome:
        """The outcome of a combination that could not be searched: scikit-learn will fit it, and say what is wrong."""
        space = Space(step.continuous)
        told = f"The preprocessing of {step.listed or 'the pipeline'} failed and is scored as a failing candidate."
        return Outcome(
            listed=step.listed,
            values=named("", space.hyper(space.init())),
            status=Status.inner_failed,
            trace=[],
            n_splits=len(self.splits),
            failure=f"{told} {type(error).__name__}: {error}",
        )

    def _all_splits(self) -> list:
        """The folds, and all rows as one more where they will be fitted."""
        if not (self.refits and self.carries):
            return self.splits
        everything = np.arange(num_samples(self.X))
        return [*self.splits, (everything, everything[:1])]

    def _prepare(self, step: Combination, prefix: str):
        key = _preprocessing_of(step, prefix)
        if key not in self.prepared:
            splits = self._all_splits()
            self.prepared[key] = prepare(step.estimator, self.X, self.y, splits, self.routed, self.n_jobs)
        return self.prepared[key]

    def __getstate__(self):
        # what has been prepared can be prepared again, and may be large
        return {**self.__dict__, "prepared": {}, "n_jobs": None}

    def _mean(self, scores_of, params) -> float:
        try:
            return float(np.mean(scores_of(params)))
        except Exception:
            # scored again at the end, where error_score decides and scikit-learn tells what happened
            if self.raises:
                raise
            return float("nan")

    def _simplifies(self, step: Combination, solution: Solution) -> bool:
        if self.rule is None or self.scorer is None or solution.params is None or not self.carries:
            return False
        real = step.continuous.get(self.rule.parameter)
        return real is not None and real.shape == ()

    def _simpler(self, continuous, prefix, space: Space, solution: Solution, run, scores_of) -> Solution | None:
        """The simplest point within one standard error of the best: by bisection on the free scale."""
        name = self.rule.parameter.removeprefix(prefix)
        scores = scores_of(solution.params)
        least = float(np.mean(scores)) - standard_error(scores)
        here = space.theta(solution.hyper)
        (i,) = [i for i, (own, _) in enumerate(space.coordinates()) if own == name]
        low, high = space.region()
        good, bad, found = here[i], high[i] if self.rule.simplest == "largest" else low[i], None
        for trial in range(1 + HALVINGS):
            # the bound itself first: it may be as good
            theta = here.copy()
            theta[i] = bad if trial == 0 else (good + bad) / 2
            there = run(space, Sweep((tuple(theta),)))
            if there.params is not None and self._mean(scores_of, there.params) >= least:
                good, found = theta[i], there
                if trial == 0:
                    break
            else:
                bad = theta[i]
        return found


def tune_apart(
    tuner: Tuner, step: Combination, inits: dict, deadline: float | None, threads: int | None
) -> list[Outcome]:
    """What `tuner` finds in a process of its own; nothing when it is begun after `deadline`, in seconds since the epoch."""

    def progress(evaluation):
        if deadline is not None and time.time() > deadline:
            raise Stop(Status.timeout)
        return False

    if deadline is not None and time.time() > deadline:
        return []
    with threadpool_limits(threads, user_api="blas"):
        return tuner(step, inits, progress)


def _begun_at(real: Real, init) -> Real:
    if init is None:
        return real
    return replace(real, init=np.clip(init, real.low, real.high))


def _at_the_end(solution: Solution, space: Space) -> Solution:
    """The last evaluated point in place of the best."""
    last = next(e for e in reversed(solution.trace) if e.solved)
    return solution._replace(hyper=last.hyper, value=last.value, gradient=space.natural(last.gradient, last.hyper))


def _device(folds) -> str:
    """Where the folds are, for instance "cpu" or "gpu (NVIDIA H100)"."""
    (device, *_) = next(iter(leaf for leaf in jax.tree.leaves(folds.data) if hasattr(leaf, "devices"))).devices()
    kind = device.device_kind
    return device.platform if kind == device.platform else f"{device.platform} ({kind})"


def _preprocessing_of(step: Combination, prefix: str) -> tuple:
    """What tells combinations with different preprocessing apart: the listed values that are not the last step's own."""
    return (prefix, *((name, id(v)) for name, v in step.listed.items() if not (prefix and name.startswith(prefix))))
