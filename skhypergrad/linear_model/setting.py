"""From the parameters of a bilevel linear model to its bilevel problem, and the steps to its answer.

One penalty is searched as `HypergradSearchCV` does it. Many begin at the best common one and are descended from there, held
back as strongly as cross-fitting finds best.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.utils.class_weight import compute_sample_weight

from skhypergrad.adapters.base import lookup
from skhypergrad.adapters.linear_task import STEPS, LinearTask, through_the_optimum, unrolled
from skhypergrad.adapters.scoring import CRITERIA
from skhypergrad.adapters.task import Routed
from skhypergrad.bilevel import Real, Solution, Space, Status, Sweep, losses, tune
from skhypergrad.bilevel.folds import cut
from skhypergrad.bilevel.grouped import CLASS_WEIGHT, DOWN, UP, Grouped, grouped, left_out, together
from skhypergrad.bilevel.models import LinearModel
from skhypergrad.bilevel.optimizers.oracle import is_stationary
from skhypergrad.bilevel.solution import DERIVATIVES, Interrupted, columns
from skhypergrad.model_selection.named import is_implicit, method_of, optimizer_of
from skhypergrad.model_selection.outcome import Outcome
from skhypergrad.model_selection.rules import standard_error
from skhypergrad.model_selection.threads import blas_threads, limited

# Where many penalties begin that nothing holds back: as strong as loses this share of what the penalty can lose.
TOO_STRONG = 0.25

# Strengths of the guard that are tried one after the other, in units of the largest derivative at the common penalty.
STRENGTHS = (0.7, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01)

# So many strengths must lose to a stronger one by this factor before weaker ones are not tried any more.
PATIENCE, WORSE = 3, 1.01

# Outer tolerance of the descents that only help to choose.
ROUGHLY = 1e-3


class Tuned(NamedTuple):
    """What a fit has found: hyperparameters, the fit to all rows with them, and how it was come to."""

    hyper: dict
    coef: np.ndarray
    intercept: np.ndarray
    classes: np.ndarray | None
    criterion: float
    shrinkage: float
    status: Status
    trace: dict
    warnings: list
    interrupt: KeyboardInterrupt | None = None


class Found(NamedTuple):
    """A solution, of what, and the guard that it was found with: its strength, and the unit of that."""

    posed: Posed
    solution: Solution
    shrinkage: float
    unit: float = 0.0

    @property
    def criterion(self) -> float:
        """The criterion without the guard's share; infinite where there is no answer."""
        hyper = self.solution.hyper
        share = np.sum(hyper[UP]) + np.sum(hyper[DOWN]) if UP in hyper else 0.0
        value = float(self.solution.value - self.shrinkage * self.unit * share)
        return value if self.solution.params is not None else float("inf")

    def interrupted(self) -> Found:
        """The same, stopped from outside."""
        return self._replace(solution=self.solution._replace(status=Status.interrupted))


class Stopped(Exception):
    """The search was stopped from outside, by a callback or by Ctrl-C (`interrupt`), with what it had found by then."""

    def __init__(self, found: Found, interrupt: KeyboardInterrupt | None):
        super().__init__()
        self.found, self.interrupt = found, interrupt


@dataclass(frozen=True)
class Setting:
    """Everything that a fit is asked for.

    Parameters
    ----------
    stand_in : Ridge or LogisticRegression, whose conventions are meant
    name : str, its penalty
    X, y, sample_weight : validated
    splits : list of (train, test), or None for leave-one-out in closed form
    groups : (n_features,) int32, or None for one penalty
    real : Real, the bounds of a penalty and where to begin
    class_weights : Real, or None where they are not tuned
    criterion : str
    shrinkage : float in units of the largest derivative at the common penalty, or None where it is to be found
    method, optimizer, max_steps, tol, seed : as in `Tuner`
    callback : as in `tune`
    """

    stand_in: Any
    name: str
    X: Any
    y: np.ndarray
    sample_weight: np.ndarray | None
    splits: list | None
    groups: np.ndarray | None
    real: Any
    class_weights: Any
    criterion: str
    shrinkage: float | None
    method: Any
    optimizer: Any
    max_steps: int
    tol: float
    seed: int
    callback: Callable

    def tune(self) -> Tuned:
        """The answer of the last stage, or the best so far where the search was stopped from outside."""
        found: Found | None = None
        interrupt = None
        try:
            with limited(blas_threads(self.X)):
                for stage in self._stages():
                    found = stage
        except Stopped as stopped:
            interrupt, partly = stopped.interrupt, stopped.found
            if found is None or (partly.posed.keeps_all_rows and partly.criterion < found.criterion):
                found = partly
            found = found.interrupted()
        except KeyboardInterrupt as error:
            if found is None:
                raise
            interrupt, found = error, found.interrupted()
        assert found is not None  # the first stage is always there
        if found.solution.params is None:
            raise interrupt or ValueError(f"{self.name} could not be tuned. {found.solution.status.value}")
        return self._told(found)._replace(interrupt=interrupt)

    def _stages(self) -> Iterator[Found]:
        """Better and better answers: with many penalties the best common one, and what is found from there."""
        everything = np.arange(len(self.y))
        judged = self.splits or [(everything, everything)]
        splits = judged if self.splits is None else [*judged, (everything, everything[:1])]
        posed = self.pose(splits, len(judged))
        common = self.pose(splits, len(judged), many=False) if self.groups is not None else posed
        start = common.tune(common.space())
        yield Found(common, start, 0.0)
        if self.groups is None or start.params is None:
            return
        if self.shrinkage == 0:
            yield Found(posed, self._unguarded(posed, start), 0.0)
            return
        at_common = posed.tune(posed.space(start.hyper, guarded=True), 1.0, optimizer=Sweep(()))
        yield Found(posed, at_common, 1.0)
        unit = float(np.max(np.abs(at_common.gradient[UP])))
        shrinkage = self._cross_fitted(judged, at_common, unit) if self.shrinkage is None else self.shrinkage
        if shrinkage >= 1 or not unit > 0:
            return
        # as cross-fitting came to it: from strength to strength, each from where the last one ended
        hyper = at_common.hyper
        for strength in [s for s in STRENGTHS if s > shrinkage]:
            found = posed.tune(posed.space(hyper, guarded=True), strength, unit, tol=max(self.tol, ROUGHLY))
            hyper = at_common.hyper if found.params is None else found.hyper
            if found.params is not None:
                yield Found(posed, found, strength, unit)
        yield Found(posed, posed.tune(posed.space(hyper, guarded=True), shrinkage, unit), shrinkage, unit)

    def _unguarded(self, posed: Posed, start: Solution) -> Solution:
        """All penalties: from the given ones, from the best common one or, where that tells nothing, from too strong a one.

        Where the best common penalty is weak, the derivatives by each penalty all but vanish there, however long the way to
        a better place; where it is too strong, the features that matter show at once.
        """
        if np.ndim(self.real.init):
            return posed.tune(posed.space({**start.hyper, self.name: self.real.init}))
        common = posed.space(start.hyper)
        here = posed.tune(common, optimizer=Sweep(()))
        if here.params is None or here.status is not Status.swept:
            return here
        evaluated = [e for e in start.trace if e.solved]
        first, values = here.trace[-1], [e.value for e in evaluated]
        if not is_stationary(first.theta, first.value, first.gradient, common.region(), self.tol, values):
            return posed.tune(common)
        strength = lookup(self.stand_in).strength
        allowed = start.value + TOO_STRONG * (max(values) - start.value)
        begun = max((e for e in evaluated if e.value <= allowed), key=lambda e: float(strength(e.hyper)))
        found = posed.tune(posed.space({**start.hyper, self.name: begun.hyper[self.name]}))
        return found if found.params is not None and found.value < here.value else posed.tune(common)

    def pose(self, splits, n_judged: int, *, many: bool = True) -> Posed:
        """The tasks of some splits, the last of which is what is fitted; with all penalties, or with one for all."""
        balance = np.ones(len(self.y)) if self.sample_weight is None else self.sample_weight
        if self.class_weights is not None:
            balance = balance * compute_sample_weight("balanced", self.y)
        routed = Routed({"sample_weight": self.sample_weight}, {"sample_weight": balance})
        adapter = lookup(self.stand_in)
        task = LinearTask(self.stand_in, adapter, self.X, self.y, splits, n_judged, routed, None)
        groups = self.groups if many else None
        in_closed_form = self.splits is None
        with jax.enable_x64(True):
            folds = cut(
                task.table(),
                squared=task.target.loss is losses.squared and not in_closed_form,
                fit_intercept=adapter.fit_intercept,
                rotates=groups is None and not in_closed_form,
            )
        model = LinearModel(task.target.loss, adapter.strength, folds.fit_intercept, rotated=groups is None)
        if groups is not None:
            groups = np.pad(groups, (0, folds.data.train.X.shape[-1] - len(groups)))
        problem = left_out(model) if in_closed_form else grouped(model, CRITERIA[self.criterion])
        return Posed(self, task, folds, problem, groups, unrolled(model, task))

    def _cross_fitted(self, judged, common: Solution, unit: float) -> float:
        """The strength of the guard that folds prefer which the penalties have not seen; 1 for the common penalty.

        The strongest one whose loss is within one standard error of the least, both over the folds and of the difference.
        """
        trials = [(self.pose(splits, n), test) for splits, n, test in self._nested(judged)]
        hypers, losses_of = [common.hyper] * len(trials), []
        for strength in (1.0, *STRENGTHS):
            optimizer = Sweep(()) if strength == 1 else None
            found = [
                posed.tune(posed.space(hyper, guarded=True), strength, unit, optimizer, max(self.tol, ROUGHLY))
                for (posed, _), hyper in zip(trials, hypers, strict=True)
            ]
            if any(solution.params is None for solution in found):
                break
            hypers = [solution.hyper for solution in found]
            losses_of.append([posed.loss(s, test) for (posed, test), s in zip(trials, found, strict=True)])
            means = np.mean(losses_of, axis=1)
            if np.sum(means[np.argmin(means) :] > WORSE * means.min()) >= PATIENCE:
                break
        if not losses_of:
            return 1.0
        table = np.array(losses_of)
        excess = table - table[np.argmin(table.mean(axis=1))]
        good = [row.mean() <= standard_error(row) for row in excess]
        return (1.0, *STRENGTHS)[int(np.argmax(good))]

    def _nested(self, judged) -> list[tuple[list, int, np.ndarray]]:
        """For every fold the splits within its training rows, with these rows as the last one; and its held-out rows."""
        if self.splits is None:
            return [([(train, train)], 1, test) for train, test in self._k_fold(np.arange(len(self.y)), 5)]
        nested = []
        for k, (train, test) in enumerate(judged):
            others = [judged[j] for j in range(len(judged)) if j != k]
            within = [tuple(rows[np.isin(rows, train)] for rows in other) for other in others]
            within = [(a, b) for a, b in within if len(a) and len(b)]
            if len(judged) <= 2:
                # two folds leave nothing that neither has held out
                within = self._k_fold(train, 3)
            if within:
                nested.append(([*within, (train, test)], len(within), test))
        return nested

    def _k_fold(self, rows, k: int) -> list:
        folds = KFold if self.criterion == "squared_error" else StratifiedKFold
        cv = folds(min(k, len(rows)), shuffle=True, random_state=self.seed)
        return [(rows[train], rows[test]) for train, test in cv.split(rows, self.y[rows])]

    def _told(self, found: Found) -> Tuned:
        """The answer with what the user must know of it."""
        posed, solution = found.posed, found.solution
        space = posed.space(solution.hyper, guarded=UP in solution.hyper)
        outcome = Outcome.of(solution, "", space, listed={}, n_splits=posed.task.n_judged, criterion=self.criterion)
        if posed.groups is not None:
            # that a feature is left out, or another one not penalised, is what many penalties are for
            outcome = outcome._replace(sides={name: s for name, s in outcome.sides.items() if name == CLASS_WEIGHT})
        if UP in solution.hyper and outcome.status is Status.boundary and not outcome.sides:
            # not to deviate is a bound of the guarded space, and none of the penalties'
            outcome = outcome._replace(status=Status.converged)
        silent = outcome.status is Status.boundary and not outcome.sides
        warning = None if silent else outcome.warning()
        coef, intercept = posed.fitted(solution)
        hyper = {**outcome.values, **together(outcome.values)}
        return Tuned(
            hyper=hyper,
            coef=coef,
            intercept=intercept,
            classes=posed.task.target.classes,
            criterion=found.criterion,
            shrinkage=float(found.shrinkage),
            status=outcome.status,
            trace=columns(solution.trace, values=len(space.coordinates()) <= DERIVATIVES),
            warnings=[] if warning is None else [warning],
        )


@dataclass
class Posed:
    """The bilevel problem of some splits.

    Parameters
    ----------
    setting : Setting
    task : LinearTask
    folds : Folds
    problem : Problem, on `Grouped` data
    groups : (n_directions,) int32, or None for one penalty
    solver : what an unrolled run is made of
    """

    setting: Setting
    task: LinearTask
    folds: Any
    problem: Any
    groups: Any
    solver: Any

    def space(self, begun: dict | None = None, *, guarded: bool = False) -> Space:
        """Where to search, from `begun` on; guarded, many penalties are one and what each deviates by."""
        setting, begun = self.setting, begun or {}
        many = () if self.groups is None else (int(np.max(self.groups)) + 1,)
        init = begun.get(setting.name, setting.real.init)
        if self.groups is None or guarded:
            # rounding must not leave the bounds
            init = float(np.clip(np.exp(np.mean(np.log(init))), setting.real.low, setting.real.high))
        reals = {setting.name: replace(setting.real, shape=() if guarded else many, init=init)}
        if guarded:
            furthest = float(np.log(setting.real.high / setting.real.low))
            for name in (UP, DOWN):
                reals[name] = Real(0.0, furthest, "linear", many, begun.get(name, np.zeros(many)))
        if setting.class_weights is not None:
            weights = begun.get(CLASS_WEIGHT, setting.class_weights.init)
            reals[CLASS_WEIGHT] = replace(setting.class_weights, init=weights)
        return Space(reals)

    @property
    def keeps_all_rows(self) -> bool:
        """Whether the fit that is kept is one to all rows, and not that of a trial."""
        return len(self.task.splits[-1][0]) == len(self.setting.y)

    def tune(self, space: Space, strength: float = 0.0, unit: float = 0.0, optimizer=None, tol=None) -> Solution:
        """The search, with a guard of this strength; `unit` is that in units of the criterion.

        Raises
        ------
        Stopped
            Where a callback or Ctrl-C ends it.
        """
        setting = self.setting
        if optimizer is None:
            starts = "auto" if self.groups is None else 1
            optimizer = optimizer_of(
                setting.optimizer,
                space,
                online=False,
                n_starts=starts,
                max_steps=setting.max_steps,
                seed=setting.seed,
                cheap=through_the_optimum(self.folds) is not None and is_implicit(setting.method),
            )
        interrupt = None
        try:
            solution = tune(
                self.problem,
                method_of(setting.method, self.solver, STEPS, implicit=through_the_optimum(self.folds)),
                optimizer,
                space,
                Grouped(self.folds.data, self.groups, strength * unit),
                task_axes=Grouped(self.folds.axes, None, None),
                max_steps=setting.max_steps,
                tol=setting.tol if tol is None else tol,
                callback=setting.callback,
            )
        except Interrupted as error:
            solution, interrupt = error.solution, error
        # a Ctrl-C before anything is solved has another status
        if interrupt is not None or solution.status is Status.interrupted:
            raise Stopped(Found(self, solution, strength, unit), interrupt)
        return solution

    def fitted(self, solution: Solution) -> tuple[np.ndarray, np.ndarray]:
        """coef (n_features, n_outputs) and intercept (n_outputs,) of the last split's training rows."""
        coef, intercept = self.folds.restore(solution.params)
        return coef[-1][: self.setting.X.shape[1]], intercept[-1] + self.task.offset[-1]

    def loss(self, solution: Solution, rows) -> float:
        """The criterion of that fit on other rows."""
        coef, intercept = self.fitted(solution)
        raw = self.setting.X[rows] @ coef + intercept
        weight = self.task.routed.score["sample_weight"][rows]
        with jax.enable_x64(True):
            return float(CRITERIA[self.setting.criterion](jnp.asarray(raw), self.task.target.y[rows], weight, None))
