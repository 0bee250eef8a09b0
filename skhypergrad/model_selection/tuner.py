"""One continuous search: an estimator, its data and its splits become a bilevel problem, which is tuned."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import numpy as np

from skhypergrad.adapters._compat import num_samples
from skhypergrad.adapters.base import Adapter, NetworkAdapter
from skhypergrad.adapters.linear_task import LinearTask
from skhypergrad.adapters.network_task import NetworkTask
from skhypergrad.adapters.pipeline import last_step
from skhypergrad.adapters.scoring import criterion_of
from skhypergrad.adapters.task import Cut, Routed, Task, prepare
from skhypergrad.bilevel import Interrupted, Solution, Space, Status, Stop, Sweep, tune
from skhypergrad.bilevel.space import Real
from skhypergrad.model_selection.named import is_implicit, method_of, optimizer_of
from skhypergrad.model_selection.outcome import Outcome, named
from skhypergrad.model_selection.rules import standard_error
from skhypergrad.model_selection.threads import limited

# How often the way to the simplest model within one standard error is halved.
HALVINGS = 8

# Ends of a run after which nothing further is begun.
CUT_SHORT = (Status.timeout, Status.interrupted)


TASKS: dict[type, type[Task]] = {Adapter: LinearTask, NetworkAdapter: NetworkTask}


class Combination(NamedTuple):
    """One combination of listed values, with the continuous space that is searched within it."""

    listed: dict
    continuous: dict[str, Real]
    estimator: Any
    adapter: Adapter | NetworkAdapter


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
    recalls : bool, whether estimators of a fold are asked of nothing but its test rows, by scorers that see predictions alone

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
    recalls: bool
    prepared: dict[tuple, Any] = field(default_factory=dict)
    interrupted: bool = False

    def carries(self, step: Combination) -> bool:
        """Whether scoring and refit take the solutions over, instead of fitting anew."""
        return step.adapter.solves and is_implicit(self.method)

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
        try:
            prepared = self._prepare(step, last_step(step.estimator)[0])
        except Exception as error:
            if self.raises:
                raise
            return [self._failed(step, error)]
        posed = self._pose(step, inits, prepared)
        outcomes = []
        try:
            solution = posed.descend(callback)
            outcomes.append(posed.outcome(solution))
            if self._simplifies(step, solution):
                outcomes += self._simpler(posed, solution, callback)
        except KeyboardInterrupt as interrupt:
            # a finished descent is not lost to an interrupt on the way to a simpler point
            if not outcomes:
                if not isinstance(interrupt, Interrupted):
                    raise
                outcomes.append(posed.outcome(interrupt.solution))
            self.interrupted = True
        return outcomes

    def _pose(self, step: Combination, inits: dict, prepared) -> Posed:
        """Check what the last step sees, and cut the folds."""
        prefix, _ = last_step(step.estimator)
        space = Space(
            {name.removeprefix(prefix): _begun_at(real, inits.get(name)) for name, real in step.continuous.items()}
        )
        task = TASKS[type(step.adapter)](
            step.estimator,
            step.adapter,
            self.X,
            self.y,
            self._all_splits(step),
            len(self.splits),
            self.routed,
            prepared,
        )
        descended = criterion_of(self.scorer, step.adapter) if self.scorer is not None else None
        criterion = self.criterion or descended or step.adapter.criteria[0]
        cut = task.cut(criterion)
        return Posed(self, step, prefix, space, task, cut, criterion, judged=criterion != descended)

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
            sides={},
            failure=f"{told} {type(error).__name__}: {error}",
        )

    def _all_splits(self, step: Combination) -> list:
        """The folds, and all rows as one more where they will be fitted."""
        if not (self.refits and self.carries(step)):
            return self.splits
        everything = np.arange(num_samples(self.X))
        return [*self.splits, (everything, everything[:1])]

    def _prepare(self, step: Combination, prefix: str):
        splits = self._all_splits(step)
        linear, recalls = isinstance(step.adapter, Adapter), self.recalls and self.carries(step)
        key = (linear, recalls, len(splits), *_preprocessing_of(step, prefix))
        if key not in self.prepared:
            self.prepared[key] = prepare(
                step.estimator, self.X, self.y, splits, self.routed, self.n_jobs, linear=linear, recalls=recalls
            )
        return self.prepared[key]

    def __getstate__(self):
        # what has been prepared can be prepared again, and may be large
        return {**self.__dict__, "prepared": {}, "n_jobs": None}

    def _simplifies(self, step: Combination, solution: Solution) -> bool:
        if self.rule is None or self.scorer is None or solution.params is None or not self.carries(step):
            return False
        if solution.status in CUT_SHORT:
            return False
        real = step.continuous.get(self.rule.parameter)
        return real is not None and real.shape == ()

    def _simpler(self, posed: Posed, solution: Solution, callback) -> list[Outcome]:
        """The simplest point within one standard error of the best, if there is one: by bisection on the free scale."""
        name, space = self.rule.parameter.removeprefix(posed.prefix), posed.space
        scores = posed.scores(solution.params)
        least = float(np.mean(scores)) - standard_error(scores)
        here = space.theta(solution.hyper)
        (i,) = [i for i, (own, _) in enumerate(space.coordinates()) if own == name]
        low, high = space.region()
        good, bad, found = here[i], high[i] if self.rule.simplest == "largest" else low[i], None
        for trial in range(1 + HALVINGS):
            # the bound itself first: it may be as good
            theta = here.copy()
            theta[i] = bad if trial == 0 else (good + bad) / 2
            there = posed.run(Sweep((tuple(theta),)), callback)
            if there.params is not None and posed.mean_score(there.params) >= least:
                good, found = theta[i], there
                if trial == 0:
                    break
            else:
                bad = theta[i]
            if there.status in CUT_SHORT:
                break
        if found is None:
            return []
        ended = solution.status
        if there.status in CUT_SHORT:
            ended = there.status
        elif ended in (Status.converged, Status.boundary):
            # the descent has ended as it has; the rule prefers this point to its end
            ended = Status.judged
        return [posed.outcome(found)._replace(status=ended)]


@dataclass(frozen=True)
class Posed:
    """One combination as a bilevel problem, and the way back from its solutions.

    Parameters
    ----------
    tuner : Tuner
    step : Combination
    prefix : str, what full names begin with
    space : Space, by the names without it
    task : Task
    cut : Cut, what the task made of it
    criterion : str, what is descended
    judged : bool, whether the scorer is something else and chooses among the evaluated points
    """

    tuner: Tuner
    step: Combination
    prefix: str
    space: Space
    task: Task
    cut: Cut
    criterion: str
    judged: bool

    def descend(self, callback: Callable | None) -> Solution:
        """The search itself."""
        tuner = self.tuner
        online = tuner.method == "online"
        optimizer = optimizer_of(
            tuner.optimizer,
            self.space,
            online=online,
            n_starts=tuner.n_starts,
            max_steps=tuner.max_steps,
            seed=tuner.seed,
            smooth=self.step.adapter.solves,
            # a judge costs more than an evaluation, and looks around for itself
            cheap=self.cut.implicit is not None and is_implicit(tuner.method) and not self.judged,
        )
        judge = (lambda params: -self.mean_score(params)) if self.judged and tuner.scorer is not None else None
        solution = self.run(optimizer, callback, judge)
        if online and solution.params is not None:
            # a good moment of unfinished weights says nothing of the fit to come: what the run has come to does
            solution = _at_the_end(solution, self.space)
        return solution

    def run(self, optimizer, callback: Callable | None, judge: Callable | None = None) -> Solution:
        """`tune` with another optimizer, or with a judge."""
        cut = self.cut
        return tune(
            cut.problem,
            method_of(self.tuner.method, cut.solver, cut.steps, solves=self.step.adapter.solves, implicit=cut.implicit),
            optimizer,
            self.space,
            cut.data,
            task_axes=cut.axes,
            restart=False if self.tuner.method == "online" else None,
            max_steps=self.tuner.max_steps,
            tol=self.tuner.tol,
            judge=judge,
            callback=callback,
        )

    def outcome(self, solution: Solution) -> Outcome:
        """A solution as a row of `cv_results_` to be, with fitted estimators where they can be handed over."""
        answers = None
        if self.tuner.carries(self.step) and solution.params is not None:
            answers = self.task.answers(self.cut.restore(solution.params), named("", solution.hyper))
        return Outcome.of(
            solution,
            self.prefix,
            self.space,
            listed=self.step.listed,
            n_splits=len(self.tuner.splits),
            criterion=self.criterion,
            answers=answers,
            device=_device(self.cut),
        )

    def scores(self, params) -> np.ndarray:
        """The scorer on every fold."""
        return self.task.scores(self.tuner.scorer, self.cut.restore(params))

    def mean_score(self, params) -> float:
        """NaN where the scorer fails: scored again at the end, `error_score` decides, and scikit-learn tells."""
        try:
            return float(np.mean(self.scores(params)))
        except Exception:
            if self.tuner.raises:
                raise
            return float("nan")


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
    with limited(threads):
        return tuner(step, inits, progress)


def _begun_at(real: Real, init) -> Real:
    if init is None:
        return real
    return replace(real, init=np.clip(init, real.low, real.high))


def _at_the_end(solution: Solution, space: Space) -> Solution:
    """The last evaluated point in place of the best."""
    last = next(e for e in reversed(solution.trace) if e.solved)
    return solution._replace(hyper=last.hyper, value=last.value, gradient=space.natural(last.gradient, last.hyper))


def _device(cut: Cut) -> str:
    """Where the folds are, for instance "cpu" or "gpu (NVIDIA H100)"."""
    on_devices = (leaf for leaf in jax.tree.leaves(cut.data) if hasattr(leaf, "devices"))
    (device, *_) = next(on_devices).devices()
    kind = device.device_kind
    return device.platform if kind == device.platform else f"{device.platform} ({kind})"


def _preprocessing_of(step: Combination, prefix: str) -> tuple:
    """What tells combinations with different preprocessing apart: the listed values that are not the last step's own."""
    return (prefix, *((name, id(v)) for name, v in step.listed.items() if not (prefix and name.startswith(prefix))))
