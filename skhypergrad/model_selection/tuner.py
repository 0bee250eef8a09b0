"""One continuous search: an estimator, its data and its splits become a bilevel problem, which is tuned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import numpy as np

from skhypergrad.adapters._compat import num_samples
from skhypergrad.adapters.base import Adapter
from skhypergrad.adapters.pipeline import last_step
from skhypergrad.adapters.scoring import criterion_of
from skhypergrad.adapters.task import Routed, Task, prepare
from skhypergrad.bilevel import Interrupted, Solution, Space, Status, Sweep, tune
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


class PreprocessingFailed(Exception):
    """The steps before the last one could not be fitted; `error` is what they raised."""

    def __init__(self, error: Exception):
        super().__init__(str(error))
        self.error = error


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

        Raises
        ------
        PreprocessingFailed
        """
        prefix, _ = last_step(step.estimator)
        space = Space(
            {name.removeprefix(prefix): _begun_at(real, inits.get(name)) for name, real in step.continuous.items()}
        )
        task = self._task(step, prefix)
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
            outcomes += [] if simpler is None else [outcome_of(simpler)]
        return outcomes

    def failed(self, step: Combination) -> Outcome:
        """The outcome of a combination that could not be searched: scikit-learn will fit it, and say what is wrong."""
        space = Space(step.continuous)
        return Outcome(step.listed, named("", space.hyper(space.init())), Status.inner_failed, [], len(self.splits))

    def _task(self, step: Combination, prefix: str) -> Task:
        splits = list(self.splits)
        if self.refits and self.carries:
            everything = np.arange(num_samples(self.X))
            splits.append((everything, everything[:1]))
        key = _preprocessing_of(step, prefix)
        if key not in self.prepared:
            try:
                self.prepared[key] = prepare(step.estimator, self.X, self.y, splits, self.routed, self.n_jobs)
            except Exception as error:
                raise PreprocessingFailed(error) from error
        return Task(
            step.estimator, step.adapter, self.X, self.y, splits, len(self.splits), self.routed, self.prepared[key]
        )

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
