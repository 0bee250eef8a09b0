"""Model selection by hypergradients, with the interface and the results of `sklearn.model_selection.GridSearchCV`."""

from __future__ import annotations

import functools
import time
import warnings
from copy import deepcopy
from numbers import Integral
from numbers import Real as RealNumber
from typing import Any, ClassVar, NamedTuple

import numpy as np
import optax
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning
from sklearn.model_selection import ParameterGrid
from sklearn.utils import check_random_state, get_tags
from threadpoolctl import threadpool_limits

from skhypergrad.adapters._compat import (
    Interval,
    SearchBase,
    StrOptions,
    individual_scorers,
    num_samples,
)
from skhypergrad.adapters.base import Adapter
from skhypergrad.adapters.pipeline import last_step
from skhypergrad.adapters.scoring import CRITERIA, check_criterion, criterion_of
from skhypergrad.adapters.space import split
from skhypergrad.adapters.task import Routed, Task, check_tunable, prepare
from skhypergrad.bilevel import (
    HOAG,
    LBFGSB,
    ConjugateGradient,
    FirstOrder,
    Forward,
    Implicit,
    Nesterov,
    Newton,
    Reverse,
    Space,
    Status,
    Stop,
    tune,
)
from skhypergrad.bilevel.solution import columns
from skhypergrad.bilevel.space import Real
from skhypergrad.bilevel.tune import at_bound
from skhypergrad.exceptions import BoundaryWarning

# Cells of X up to which one BLAS thread is faster than several, and immune to other work on the machine.
SINGLE_THREADED = 1 << 21


# Steps of the inner solver in the unrolled modes that are called by name: of a whole run, and between two updates.
UNROLLED_STEPS = 300
ONLINE_STEPS = 10


@functools.cache
def _adam(longest: float, max_steps: int):
    """Adam with steps that shrink to zero; cached because compiled code is keyed by the object."""
    return optax.adam(optax.cosine_decay_schedule(longest, max_steps))


class _FixedSplits:
    """Splits drawn once: the search and the final scoring see the same folds."""

    def __init__(self, splits):
        self.splits = splits

    def split(self, X=None, y=None, **params):
        return iter(self.splits)

    def get_n_splits(self, X=None, y=None, **params):
        return len(self.splits)


class _Handover:
    """Gives the engine's verified solutions to scikit-learn's own scoring and refit.

    `BaseSearchCV` clones the estimator once per candidate and split, in that order, sets the candidate's parameters and
    calls `fit`. The clones handed out here are the user's own class; their `fit` takes over the state of an estimator that
    was written from the solution, where there is one, and is the class's own where there is none. So nothing is fitted
    twice, and what is scored and returned is what the search compared, not a fit that stopped early.
    """

    def __init__(self, search):
        self.search, self.answers = search, iter(())
        self.base = clone(search.estimator)
        self.base.__dict__["__sklearn_clone__"] = self.hand_out
        self.begun = False

    def hand_out(self):
        if not self.begun:
            self.begun = True
            return self.base
        plain = clone(self.search._run.estimator)
        answer = next(self.answers, None)
        if answer is not None:
            plain.__dict__["fit"] = _TakeOver(plain, answer)
        return plain

    def expect(self, outcomes, n_candidates, n_splits):
        """Line up the answers: every candidate's splits, then the refit of whichever is best."""
        none = [None] * (n_splits + 1)
        rows = [(outcomes[i].answers if i in outcomes else None) or none for i in range(n_candidates)]

        def in_order():
            for row in rows:
                yield from row[:n_splits]
            yield rows[self.search.best_index_][-1]

        self.answers = in_order()


class _TakeOver:
    """A `fit` that takes over the state of a fitted estimator of the same class."""

    def __init__(self, estimator, answer):
        self.estimator, self.answer = estimator, answer

    def __call__(self, X, y=None, **params):
        del self.estimator.__dict__["fit"]
        self.estimator.__dict__.update(self.answer.__dict__)
        return self.estimator


class _Run:
    """What a search knows only while it is being fitted."""

    def __init__(self, estimator, previous: dict | None):
        self.began = time.perf_counter()
        self.estimator, self.previous = estimator, previous
        self.warnings: list[tuple[str, type[Warning]]] = []
        self.outcomes: dict[int, _Outcome] = {}
        self.plan: list = []
        self.X: Any = None
        self.y: Any = None
        self.routed: Any = None
        self.original_cv: Any = None
        self.handover: Any = None


class _Combination(NamedTuple):
    """One combination of listed values, with the continuous space that is searched within it."""

    listed: dict
    continuous: dict[str, Real]
    estimator: Any
    adapter: Adapter


class HypergradSearchCV(SearchBase):
    """Cross-validated search that follows the derivative of the validation loss with respect to the hyperparameters.

    Use it as `GridSearchCV`. Lists in `param_grid` are grids with exactly GridSearchCV's semantics, for any estimator.
    Where a *continuous* space stands, `loguniform(1e-4, 1e4)` instead of a list, the hyperparameter is tuned by
    hypergradients: all folds are solved by one compiled program, a coarse set of starting values is evaluated, and the
    best basins are descended.

    Parameters
    ----------
    estimator : estimator object
        For continuous spaces: `Ridge`, `RidgeClassifier`, `LogisticRegression` (see `skhypergrad.register` for more),
        alone or as the last step of a `Pipeline`.
    param_grid : dict or list of dict
        Names and spaces. A list, tuple or array is a grid. `scipy.stats.loguniform(low, high)`,
        `scipy.stats.uniform(low, width)`, `skhypergrad.Real(low, high, scale=, shape=)`, skopt's `Real` and Optuna's
        `FloatDistribution` are continuous. Every combination of the listed values gets a continuous search of its own.
    scoring : str, callable, list, tuple or dict, default=None
        As in GridSearchCV. What is descended is `scoring` itself where it is differentiable: "neg_log_loss",
        "neg_brier_score", "neg_mean_squared_error", "neg_root_mean_squared_error", "r2". Otherwise log loss (classifiers
        with probabilities) or squared error is descended, and `scoring` chooses among the evaluated points.
    criterion : {"log_loss", "brier", "squared_error", "root_squared_error", "r2"}, default=None
        What is descended, whatever `scoring` is. None for the rule above.
    method : {"auto", "implicit", "reverse", "forward", "online"}, or `Implicit`, `Reverse` or `Forward`, default="auto"
        How the hypergradient is computed. "auto" is "implicit": how the optimum of the fit moves. "reverse" and "forward"
        differentiate 300 preconditioned steps of Nesterov's method instead, "online" moves the hyperparameters after every 10
        steps of one run; an object of `skhypergrad.bilevel` says it all, for instance `Reverse(Momentum(1e-3), steps=300)`.
        Unrolled, what is descended is what so many steps come to; the winner is then fitted by scikit-learn.
    optimizer : {"auto", "lbfgsb", "hoag", "adam"}, or `LBFGSB`, `HOAG` or `FirstOrder`, default="auto"
        What follows the hypergradient; objects are those of `skhypergrad.bilevel`. "hoag" and "adam" start at the middle of
        the space and look into no other basin. "auto" is "lbfgsb", and "adam" where `method="online"`.
    n_starts : int or "auto", default="auto"
        Starting values of the default optimizer; more of them find narrower basins. "auto": about one per factor of 10.
    max_steps : int, default=50
        Evaluations after the starting values, for each combination of listed values.
    tol : float, default=1e-4
        A search has converged when the projected hypergradient, per natural-log unit (per tenth of the interval on the
        linear scale), is at most `tol` times the criterion.
    max_time : float, default=None
        Seconds for the continuous search, checked between evaluations; the final scoring and the refit come on top. The
        first evaluation is always completed.
    n_jobs : int, default=None
        Processes for the preprocessing of the folds, and for the fits of listed candidates. The search itself handles
        all folds at once.
    refit, cv, verbose, pre_dispatch, error_score, return_train_score
        As in GridSearchCV. `verbose >= 2` also prints a line per evaluation.
    random_state : int, RandomState instance or None, default=None
        Of the starting points off the diagonal when several hyperparameters are tuned at once; None is a fixed seed.
    warm_start : bool, default=False
        Whether the best values of the last fit are a starting point of the next.

    Attributes
    ----------
    cv_results_, best_estimator_, best_score_, best_params_, best_index_, scorer_, n_splits_, refit_time_, multimetric_
        As in GridSearchCV. `cv_results_` has a row for every combination of listed values, with the continuous values
        that won there, scored fold by fold by scikit-learn. The estimators that are scored there, and `best_estimator_`,
        are of your own class and carry the coefficients the search found: equal to the estimator's own fit when that is
        run to convergence (its `tol` does not matter), and not fitted again, so that `mean_fit_time` and `refit_time_`
        are next to nothing. Listed candidates are fitted by scikit-learn.
    classes_, n_features_in_, feature_names_in_
        As in GridSearchCV.
    trace_ : dict of ndarray
        After continuous searches: a row per evaluation with its values, criterion, hypergradient norm (free scale),
        inner and adjoint residual, steps and seconds; `pandas.DataFrame(search.trace_)` works.
    status_ : str
        How the best row's search ended; one of the names of `skhypergrad.bilevel.Status`.
    message_ : str
        The same as a sentence with its remedy.
    converged_ : bool
        Whether the best row is a verified stationary point of the criterion, in the interior or on a bound.
    criterion_ : str
        What was descended.

    Raises
    ------
    NotTunableError (a TypeError and ValueError)
        At fit, for a continuous space on something that cannot be differentiated; lists what can.
    TypeError, ValueError
        At fit, before anything is compiled, for unusable spaces, data or weights.

    Warns
    -----
    BoundaryWarning
        When the best value lies on a bound of its space.
    ConvergenceWarning
        When the search ended before `tol` was reached, or the criterion is flat.

    Notes
    -----
    The value returned is the best evaluated one, verified: its inner problems and adjoint systems are solved to recomputed
    residuals, and no starting value is better. The first fit of a given shape compiles a program, which takes one to three
    seconds; later fits reuse it.

    Examples
    --------
    >>> from scipy.stats import loguniform
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> model = make_pipeline(StandardScaler(), LogisticRegression())
    >>> space = {"logisticregression__C": loguniform(1e-4, 1e4)}
    >>> search = HypergradSearchCV(model, space, scoring="neg_log_loss").fit(X, y)
    >>> print(f"C = {search.best_params_['logisticregression__C']:.2f}, log loss = {-search.best_score_:.4f}")
    C = 0.60, log loss = 0.0791
    """

    _parameter_constraints: ClassVar[dict] = {
        **SearchBase._parameter_constraints,
        "param_grid": [dict, list],
        "criterion": [StrOptions(set(CRITERIA)), None],
        "method": [StrOptions({"auto", "implicit", "reverse", "forward", "online"}), Implicit, Reverse, Forward],
        "optimizer": [StrOptions({"auto", "lbfgsb", "hoag", "adam"}), LBFGSB, HOAG, FirstOrder],
        "n_starts": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "max_steps": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(RealNumber, 0, None, closed="neither")],
        "max_time": [Interval(RealNumber, 0, None, closed="neither"), None],
        "random_state": ["random_state"],
        "warm_start": ["boolean"],
    }

    estimator: Any
    n_jobs: Any
    _checked_cv_orig: Any

    def __init__(
        self,
        estimator,
        param_grid,
        *,
        scoring=None,
        criterion=None,
        method="auto",
        optimizer="auto",
        n_starts="auto",
        max_steps=50,
        tol=1e-4,
        max_time=None,
        n_jobs=None,
        refit=True,
        cv=None,
        verbose=0,
        pre_dispatch="2*n_jobs",
        random_state=None,
        error_score=np.nan,
        return_train_score=False,
        warm_start=False,
    ):
        super().__init__(
            estimator=estimator,
            scoring=scoring,
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            verbose=verbose,
            pre_dispatch=pre_dispatch,
            error_score=error_score,
            return_train_score=return_train_score,
        )
        self.param_grid = param_grid
        self.criterion = criterion
        self.method = method
        self.optimizer = optimizer
        self.n_starts = n_starts
        self.max_steps = max_steps
        self.tol = tol
        self.max_time = max_time
        self.random_state = random_state
        self.warm_start = warm_start

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        inner = get_tags(self.estimator)
        tags.target_tags = deepcopy(inner.target_tags)
        tags.input_tags = deepcopy(inner.input_tags)
        tags.transformer_tags = deepcopy(inner.transformer_tags)
        tags.non_deterministic = inner.non_deterministic
        tags.array_api_support = False
        return tags

    def fit(self, X, y=None, **params):
        """Search, score the winners on every fold, and refit the best on all rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Whatever the estimator accepts: data frames, sparse matrices, and text in front of a vectoriser included.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        **params : dict of str -> object
            As in GridSearchCV: `groups` for the splitter, `sample_weight` for the fit and the scorer, and so on.

        Returns
        -------
        self
        """
        before = dict(self.__dict__)
        for name in ("trace_", "status_", "message_", "converged_", "criterion_"):
            self.__dict__.pop(name, None)
        self._run = _Run(self.estimator, before.get("best_params_") if self.warm_start else None)
        try:
            with threadpool_limits(1 if _cells(X) <= SINGLE_THREADED else None, user_api="blas"):
                super().fit(X, y, **params)
            for message, category in self._run.warnings:
                warnings.warn(message, category, stacklevel=2)
        except Exception:
            # all or nothing: the results of an earlier fit stay as they were
            self.__dict__.clear()
            self.__dict__.update(before)
            raise
        finally:
            self.estimator, self.n_jobs = before["estimator"], before["n_jobs"]
            run = self.__dict__.pop("_run", None)
            if run is not None and run.original_cv is not None:
                # a pickle shall not carry the row numbers of every split
                self._checked_cv_orig = run.original_cv
        return self

    def _get_routed_params_for_fit(self, params):
        routed = super()._get_routed_params_for_fit(params)
        self._run.routed = Routed(fit=dict(routed.estimator.fit), score=dict(routed.scorer.score))
        return routed

    def _check_input_parameters(self, X, y, split_params):
        """Everything that can be refused is refused here, before the first compilation."""
        if self.method == "online" and not (
            self.optimizer in ("auto", "adam") or isinstance(self.optimizer, FirstOrder)
        ):
            raise ValueError(
                f"method='online' changes the hyperparameters while the weights move, and optimizer={self.optimizer!r} needs "
                "a criterion that stays: use optimizer='adam', or method='forward'."
            )
        if y is None and get_tags(self.estimator).target_tags.required:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None.")
        self._run.plan = self._make_plan()
        if not any(isinstance(step, _Combination) for step in self._run.plan):
            return
        cv = self._checked_cv_orig
        n_splits = cv.get_n_splits(X, y, **split_params)
        splits = [(np.asarray(train), np.asarray(test)) for train, test in cv.split(X, y, **split_params)]
        if len(splits) != n_splits:
            raise ValueError(
                "cv.split and cv.get_n_splits return inconsistent results. "
                f"Expected {n_splits} splits, got {len(splits)}"
            )
        for k, (train, test) in enumerate(splits):
            if len(train) == 0 or len(test) == 0:
                raise ValueError(
                    f"Split {k} of cv has {len(train)} training rows and {len(test)} test rows; both need some."
                )
        self._run.original_cv = cv
        self._checked_cv_orig = _FixedSplits([(_indices(train), _indices(test)) for train, test in splits])
        self._run.X, self._run.y = X, y
        self._run.handover = _Handover(self)
        self.estimator = self._run.handover.base
        if self._carries_solutions() and all(isinstance(step, _Combination) for step in self._run.plan):
            # nothing is left to be fitted, and scoring alone does not earn the start of processes
            self.n_jobs = None

    def _make_plan(self) -> list:
        """Candidates of list-only grids as they are, and a `_Combination` for every continuous search, in order."""
        grids = [self.param_grid] if isinstance(self.param_grid, dict) else self.param_grid
        plan: list = []
        for grid in grids:
            # what is not a dict is left for ParameterGrid to refuse in its own words
            listed, continuous = split(grid) if isinstance(grid, dict) else (grid, {})
            if not continuous:
                plan.extend(ParameterGrid(listed))
                continue
            for values in ParameterGrid(listed):
                estimator = clone(self._run.estimator).set_params(**clone(values, safe=False))
                adapter = check_tunable(estimator, continuous)
                if self.criterion is not None:
                    check_criterion(self.criterion, adapter, last_step(estimator)[1])
                plan.append(_Combination(values, continuous, estimator, adapter))
        return plan

    def _run_search(self, evaluate_candidates, *, callback_ctx=None):
        candidates: list[dict] = []
        self._run.outcomes = {}
        folds_of: dict[tuple, Any] = {}
        for step in self._run.plan:
            if isinstance(step, _Combination):
                outcome = self._tune(step, folds_of)
                self._run.outcomes[len(candidates)] = outcome
                step = dict(sorted({**step.listed, **outcome.values}.items()))
            candidates.append(step)
        if self._run.outcomes:
            self._publish_trace()
            self._run.handover.expect(self._run.outcomes, len(candidates), self.n_splits_)
        context = callback_ctx.subcontext(
            task_name="search", max_subtasks=len(candidates) * self.n_splits_, sequential_subtasks=False
        ).call_on_fit_task_begin(estimator=self)
        evaluate_candidates(candidates, callback_ctx=context)
        context.call_on_fit_task_end(estimator=self)

    def _select_best_index(self, refit, refit_metric, results):
        index = SearchBase._select_best_index(refit, refit_metric, results)
        outcome = self._run.outcomes.get(index)
        if outcome is not None:
            self.status_, self.message_ = outcome.status.name, outcome.status.value
            self.converged_ = outcome.status in (Status.converged, Status.boundary)
            self.criterion_ = outcome.criterion
            self._run.warnings += filter(None, [outcome.warning()])
        return index

    def _publish_trace(self):
        tables = []
        for index, outcome in self._run.outcomes.items():
            if not outcome.trace:
                continue
            table = columns(outcome.trace)
            if len(self._run.outcomes) > 1:
                table = {"candidate": np.full(len(outcome.trace), index), **table}
            tables.append(table)
        names = list(dict.fromkeys(name for table in tables for name in table))
        self.trace_ = {
            name: np.concatenate([t.get(name, np.full(len(t["criterion"]), np.nan)) for t in tables]) for name in names
        }

    def _tune(self, step: _Combination, folds_of: dict) -> _Outcome:
        """The continuous search within one combination of listed values."""
        prefix, _ = last_step(step.estimator)
        space = {name.removeprefix(prefix): self._resumed(name, real) for name, real in step.continuous.items()}
        X, y, splits = self._run.X, self._run.y, list(self._checked_cv_orig.splits)
        if self.refit and self._carries_solutions():
            everything = np.arange(num_samples(X))
            splits.append((everything, everything[:1]))
        try:
            key = _preprocessing_of(step, prefix)
            if key not in folds_of:
                folds_of[key] = prepare(step.estimator, X, y, splits, self._run.routed, self.n_jobs)
        except Exception as error:
            if self.error_score == "raise":
                raise
            told = f"The preprocessing of {step.listed or 'the pipeline'} failed and is scored as a failing candidate."
            self._run.warnings.append((f"{told} {type(error).__name__}: {error}", FitFailedWarning))
            return _Outcome.failed(prefix, space)
        task = Task(step.estimator, step.adapter, X, y, splits, self.n_splits_, self._run.routed, folds_of[key])
        scorer = self._search_scorer()
        descended = criterion_of(scorer, step.adapter) if scorer is not None else None
        criterion = self.criterion or descended or step.adapter.criteria[0]
        folds, problem = task.cut(criterion)

        judge = None
        if scorer is not None and criterion != descended:

            def judge(params):
                try:
                    return -task.score(scorer, *folds.restore(params))
                except Exception:
                    # scored again at the end, where error_score decides and scikit-learn tells what happened
                    if self.error_score == "raise":
                        raise
                    return float("nan")

        solution = tune(
            problem,
            self._make_method(task),
            self._make_optimizer(Space(space)),
            Space(space),
            folds.data,
            task_axes=folds.axes,
            restart=False if self.method == "online" else None,
            max_steps=self.max_steps,
            tol=self.tol,
            judge=judge,
            callback=self._progress(prefix),
        )
        if self.method == "online" and solution.params is not None:
            # a good moment of unfinished weights says nothing of the fit to come: what the run has come to does
            solution = _at_the_end(solution, Space(space))
        answers = None
        if solution.params is not None and self._carries_solutions():
            hyper = _values("", solution.hyper)
            answers = task.answers(*folds.restore(solution.params), hyper)
        return _Outcome.of(prefix, space, solution, criterion, answers)

    def _carries_solutions(self) -> bool:
        """Whether scoring and refit take the engine's solutions over.

        What so many steps of an unrolled run come to is not what the estimator's own fit would be.
        """
        return isinstance(self.method, Implicit) or self.method in ("auto", "implicit")

    def _resumed(self, name, real: Real) -> Real:
        if self._run.previous is None or name not in self._run.previous:
            return real
        init = np.clip(self._run.previous[name], real.low, real.high)
        return Real(real.low, real.high, real.scale, real.shape, init)

    def _search_scorer(self):
        """The scorer that ranks: the only one, or the one refit names; None where a callable refit or none decides."""
        scorers, refit_metric = self._get_scorers()
        return individual_scorers(scorers).get(refit_metric if isinstance(refit_metric, str) else "score")

    def _make_method(self, task):
        if not isinstance(self.method, str):
            return self.method
        solver = Nesterov(task.learning_rate, 0.9, preconditioned=True)
        if self.method == "online":
            return Forward(solver, ONLINE_STEPS)
        if self.method == "reverse":
            return Reverse(solver, UNROLLED_STEPS)
        if self.method == "forward":
            return Forward(solver, UNROLLED_STEPS)
        return Implicit(Newton(ConjugateGradient()))

    def _make_optimizer(self, space):
        if not isinstance(self.optimizer, str):
            return self.optimizer
        if self.optimizer == "hoag":
            return HOAG()
        if self.optimizer == "adam" or (self.optimizer == "auto" and self.method == "online"):
            # from the middle to either end in a third of the steps, and slower and slower
            low, high = space.region()
            longest = 1.5 * np.max(high - low) / self.max_steps
            return FirstOrder(_adam(float(longest), self.max_steps))
        seed = 0 if self.random_state is None else check_random_state(self.random_state).randint(2**31 - 1)
        return LBFGSB(n_starts=self.n_starts, seed=seed)

    def _progress(self, prefix):
        deadline = None if self.max_time is None else self._run.began + self.max_time

        def progress(evaluation):
            if self.verbose >= 2:
                values = ", ".join(
                    f"{prefix}{name}={np.array2string(value, precision=4)}" for name, value in evaluation.hyper.items()
                )
                slope = np.linalg.norm(evaluation.gradient)
                seconds = time.perf_counter() - self._run.began
                print(f"[HG] {values}; criterion={evaluation.value:.6g}; gradient={slope:.2e}; {seconds:.2f}s")
            if deadline is not None and time.perf_counter() > deadline:
                raise Stop(Status.timeout)
            return False

        return progress


def _at_the_end(solution, space):
    """The last evaluated point in place of the best."""
    last = next(e for e in reversed(solution.trace) if e.solved)
    return solution._replace(hyper=last.hyper, value=last.value, gradient=space.natural(last.gradient, last.hyper))


class _Outcome(NamedTuple):
    """What one continuous search found."""

    values: dict
    status: Status
    trace: list
    criterion: str
    sides: dict
    answers: list | None

    @classmethod
    def of(cls, prefix, space, solution, criterion, answers) -> _Outcome:
        box = Space(space)
        theta = box.theta(solution.hyper)
        gradient = box.pull_back(solution.gradient, solution.hyper)
        sides: dict = {}
        if solution.params is not None:
            for (name, _), side in zip(box.coordinates(), at_bound(theta, gradient, box.region()), strict=True):
                if side:
                    sides.setdefault(prefix + name, set()).add("lower" if side < 0 else "upper")
        values = _values(prefix, solution.hyper)
        return cls(values, solution.status, solution.trace, criterion, sides, answers)

    @classmethod
    def failed(cls, prefix, space) -> _Outcome:
        box = Space(space)
        return cls(_values(prefix, box.hyper(box.init())), Status.inner_failed, [], "", {}, None)

    def warning(self) -> tuple[str, type[Warning]] | None:
        """What the user must know of how the best candidate was found."""
        if self.sides:
            where = ", ".join(
                f"{name} = {_show(self.values[name])} ({' and '.join(sorted(sides))} bound)"
                for name, sides in self.sides.items()
            )
            return f"{where}. {Status.boundary.value}", BoundaryWarning
        if self.status not in (Status.converged, Status.judged):
            return f"{self.status.name}: {self.status.value}", ConvergenceWarning
        return None


def _cells(X) -> int:
    """Cells of a table; rows of anything that has no shape."""
    return int(np.prod(getattr(X, "shape", (num_samples(X),))))


def _indices(rows):
    """Row numbers, from numbers or from a mask."""
    return np.flatnonzero(rows) if rows.dtype == bool else rows


def _values(prefix, hyper) -> dict:
    """Candidate values under their full names: Python floats, arrays for shaped hyperparameters."""
    return {prefix + name: float(v) if np.ndim(v) == 0 else np.array(v) for name, v in hyper.items()}


def _show(value) -> str:
    return f"{value:.4g}" if np.ndim(value) == 0 else np.array2string(value, precision=4, threshold=6)


def _preprocessing_of(step: _Combination, prefix: str) -> tuple:
    """What tells combinations with different preprocessing apart: the listed values that are not the last step's own."""
    return (prefix, *((name, id(v)) for name, v in step.listed.items() if not (prefix and name.startswith(prefix))))
