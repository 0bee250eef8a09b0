"""The search itself: `GridSearchCV`'s interface over continuous searches by hypergradients."""

from __future__ import annotations

import time
import warnings
from copy import deepcopy
from dataclasses import dataclass, field
from numbers import Integral
from numbers import Real as RealNumber
from typing import Any, ClassVar

import numpy as np
from joblib import effective_n_jobs
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning
from sklearn.model_selection import ParameterGrid
from sklearn.utils import check_random_state, get_tags
from sklearn.utils.parallel import Parallel, delayed

from skhypergrad.adapters._compat import (
    Interval,
    SearchBase,
    StrOptions,
    asks_predictions_only,
    individual_scorers,
)
from skhypergrad.adapters.pipeline import last_step
from skhypergrad.adapters.scoring import CRITERIA, check_criterion
from skhypergrad.adapters.space import split_all
from skhypergrad.adapters.task import Routed, check_tunable
from skhypergrad.bilevel import HOAG, LBFGSB, FirstOrder, Forward, Implicit, Reverse, Status, Stop, Sweep
from skhypergrad.model_selection.folds import fitted_on, out_of_fold
from skhypergrad.model_selection.handover import FixedSplits, Handover
from skhypergrad.model_selection.named import METHODS, OPTIMIZERS, check_method
from skhypergrad.model_selection.outcome import Outcome, named, show, trace_of
from skhypergrad.model_selection.rules import OneStandardError
from skhypergrad.model_selection.threads import blas_threads, limited
from skhypergrad.model_selection.tuner import Combination, Tuner, tune_apart

# Seconds of searching below which processes cost more than they save: each has to load and compile everything itself.
WORTH_PROCESSES = 20.0

# Attributes of continuous searches, which no fit of lists alone has.
CONTINUOUS = ("trace_", "status_", "message_", "converged_", "criterion_", "device_")


@dataclass
class _Run:
    """What a search knows only while it is being fitted."""

    estimator: Any
    inits: dict
    began: float = field(default_factory=time.perf_counter)
    plan: list = field(default_factory=list)
    X: Any = None
    y: Any = None
    routed: Any = None
    splits: list = field(default_factory=list)
    original_cv: Any = None
    handover: Any = None
    tuner: Any = None
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    results: dict | None = None
    evaluations: int = 0
    best: tuple | None = None
    stopped: bool = False
    warnings: list[tuple[str, type[Warning]]] = field(default_factory=list)

    @property
    def combinations(self) -> list[Combination]:
        return [step for step in self.plan if isinstance(step, Combination)]

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.began


class HypergradSearchCV(SearchBase):
    """Cross-validated search that follows the derivative of the validation loss with respect to the hyperparameters.

    Use it as `GridSearchCV`. Lists in `param_grid` are grids with exactly GridSearchCV's semantics, for any estimator.
    Where a *continuous* space stands, `loguniform(1e-4, 1e4)` instead of a list, the hyperparameter is tuned by
    hypergradients: all folds are solved by one compiled program, a coarse set of starting values is evaluated, and the
    best basins are descended.

    Parameters
    ----------
    estimator : estimator object
        For continuous spaces: `Ridge`, `RidgeClassifier`, `LogisticRegression`, `MLPClassifier` and `MLPRegressor` (see
        `skhypergrad.register` for more), alone or as the last step of a `Pipeline`.
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
        How the hypergradient is computed. "auto" is "implicit": how the optimum of the fit moves; for networks, whose
        training has no such optimum, it is "forward", and differentiates the whole of it. "reverse" and "forward"
        differentiate 300 preconditioned steps of Nesterov's method instead, "online" moves the hyperparameters after every 10
        steps of one run; an object of `skhypergrad.bilevel` says it all, for instance `Reverse(Momentum(1e-3), steps=300)`.
        Unrolled, what is descended is what so many steps come to; the winner is then fitted by scikit-learn.
    optimizer : {"auto", "lbfgsb", "hoag", "adam"}, or `LBFGSB`, `HOAG`, `FirstOrder` or `Sweep`, default="auto"
        What follows the hypergradient; objects are those of `skhypergrad.bilevel`. "hoag" and "adam" start at the middle of
        the space and look into no other basin. `Sweep` follows nothing and evaluates a lattice. "auto" is "lbfgsb", and
        "adam" where `method="online"`.
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
        Processes for the preprocessing of the folds, for the fits of listed candidates, and for the combinations of a mixed
        space where they take so long that it pays. One search handles all folds at once. The result does not depend on it.
    refit, cv, verbose, pre_dispatch, error_score, return_train_score
        As in GridSearchCV. `verbose >= 2` also prints a line per evaluation.
    random_state : int, RandomState instance or None, default=None
        Of the starting points off the diagonal when several hyperparameters are tuned at once; None is a fixed seed.
    warm_start : bool, default=False
        Whether the best values of the last fit are a starting point of the next.
    return_estimator : bool, default=False
        Whether to keep the best candidate's fitted estimator of every fold, and its predictions of the rows it has not seen:
        as much memory as `n_splits` estimators and one prediction a row.

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
    device_ : str
        Where it was computed, for instance "cpu".
    best_so_far_ : dict
        While a continuous search is running, for callbacks: the best `params`, `criterion` and `gradient_norm`, the number of
        `evaluations` and the `seconds` so far.
    fold_estimators_ : list of estimators
        With `return_estimator=True`: one for each split, fitted on its training rows.
    fold_predictions_ : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        With `return_estimator=True`: what they say of their test rows. Probabilities where the estimator has them, else
        decision values, else predictions; the mean for a row of several test sets, NaN (None for labels) for one of none.

    Raises
    ------
    NotTunableError (a TypeError and ValueError)
        At fit, for a continuous space on something that cannot be differentiated; lists what can.
    TypeError, ValueError
        At fit, before anything is compiled, for unusable spaces, data or weights.
    KeyboardInterrupt
        On Ctrl-C, with the best point so far set and `status_` "interrupted"; before the first verified point, with
        everything as it was before.

    Warns
    -----
    BoundaryWarning
        When the best value lies on a bound of its space.
    ConvergenceWarning
        When the search ended before `tol` was reached, or the criterion is flat.

    Notes
    -----
    The value returned is the best evaluated one, verified: its inner problems and adjoint systems are solved to recomputed
    residuals, and no starting value is better. The first fit of a given shape compiles a program, which takes one to two
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
        "method": [StrOptions(set(METHODS)), Implicit, Reverse, Forward],
        "optimizer": [StrOptions(set(OPTIMIZERS)), LBFGSB, HOAG, FirstOrder, Sweep],
        "n_starts": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "max_steps": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(RealNumber, 0, None, closed="neither")],
        "max_time": [Interval(RealNumber, 0, None, closed="neither"), None],
        "random_state": ["random_state"],
        "warm_start": ["boolean"],
        "return_estimator": ["boolean"],
    }
    _doc_link_module = "skhypergrad"
    _doc_link_template = "https://skhypergrad.readthedocs.io/en/stable/api/generated/skhypergrad.{estimator_name}.html"

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
        return_estimator=False,
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
        self.return_estimator = return_estimator

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
        for name in (*CONTINUOUS, "fold_estimators_", "fold_predictions_"):
            self.__dict__.pop(name, None)
        previous = before.get("best_params_") if self.warm_start else None
        self._run = run = _Run(self.estimator, previous or {})
        try:
            with limited(blas_threads(X)):
                super().fit(X, y, **params)
            if self.return_estimator:
                self._keep_folds(X, y)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and run.results is not None:
                self._leave_out_the_refit()
            else:
                # all or nothing: the results of an earlier fit stay as they were
                self.__dict__.clear()
                self.__dict__.update(before)
                raise
        finally:
            self.estimator, self.n_jobs = before["estimator"], before["n_jobs"]
            self.__dict__.pop("_run", None)
            if run.original_cv is not None and "_checked_cv_orig" in self.__dict__:
                # a pickle shall not carry the row numbers of every split
                self._checked_cv_orig = run.original_cv
        for message, category in run.warnings:
            warnings.warn(message, category, stacklevel=2)
        if run.tuner is not None and run.tuner.interrupted:
            raise KeyboardInterrupt("The search was interrupted; its results are those of the best point so far.")
        return self

    def __getstate__(self):
        """Without what is known only while it is fitted: scikit-learn sends the search along with every fit in a process."""
        state = super().__getstate__().copy()
        run = state.pop("_run", None)
        return state if run is None else {**state, "estimator": run.estimator}

    def _get_routed_params_for_fit(self, params):
        routed = super()._get_routed_params_for_fit(params)
        self._run.routed = Routed(fit=dict(routed.estimator.fit), score=dict(routed.scorer.score))
        return routed

    def _check_input_parameters(self, X, y, split_params):
        """Everything that can be refused is refused here, before the first compilation."""
        run = self._run
        if self.method == "online" and not (
            self.optimizer in ("auto", "adam") or isinstance(self.optimizer, FirstOrder)
        ):
            raise ValueError(
                f"method='online' changes the hyperparameters while the weights move, and optimizer={self.optimizer!r} needs "
                "a criterion that stays: use optimizer='adam', or method='forward'."
            )
        if y is None and get_tags(self.estimator).target_tags.required:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None.")
        run.plan = self._make_plan()
        if run.combinations or self.return_estimator:
            self._fix_splits(X, y, split_params)
        if not run.combinations:
            return
        run.X, run.y = X, y
        run.tuner = self._make_tuner()
        run.handover = Handover(run.estimator)
        self.estimator = run.handover.base
        if all(isinstance(step, Combination) and run.tuner.carries(step) for step in run.plan):
            # nothing is left to be fitted, and scoring alone does not earn the start of processes
            self.n_jobs = None

    def _fix_splits(self, X, y, split_params):
        cv = self._checked_cv_orig
        n_splits = cv.get_n_splits(X, y, **split_params)
        splits = list(cv.split(X, y, **split_params))
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
        self._run.original_cv, self._checked_cv_orig = cv, FixedSplits(splits)
        self._run.splits = self._checked_cv_orig.splits

    def _make_plan(self) -> list:
        """Candidates of list-only grids as they are, and a `Combination` for every continuous search, in order."""
        plan: list = []
        for listed, continuous in split_all(self.param_grid):
            if not continuous:
                plan.extend(ParameterGrid(listed))
                continue
            for values in ParameterGrid(listed):
                estimator = clone(self._run.estimator).set_params(**clone(values, safe=False))
                adapter = check_tunable(estimator, continuous)
                check_method(self.method, adapter, last_step(estimator)[1])
                if self.criterion is not None:
                    check_criterion(self.criterion, adapter, last_step(estimator)[1])
                plan.append(Combination(values, continuous, estimator, adapter))
        return plan

    def _make_tuner(self) -> Tuner:
        run = self._run
        rule = self.refit if isinstance(self.refit, OneStandardError) else None
        seed = 0 if self.random_state is None else check_random_state(self.random_state).randint(2**31 - 1)
        return Tuner(
            X=run.X,
            y=run.y,
            splits=run.splits,
            routed=run.routed,
            scorer=self._search_scorer(),
            rule=rule,
            refits=self.refit is not False,
            method=self.method,
            optimizer=self.optimizer,
            criterion=self.criterion,
            n_starts=self.n_starts,
            max_steps=self.max_steps,
            tol=self.tol,
            seed=seed,
            n_jobs=self.n_jobs,
            raises=self.error_score == "raise",
            recalls=self._recalls() and not self.return_estimator,
        )

    def _recalls(self) -> bool:
        """Whether the estimators of a fold are asked for nothing but predictions of its test rows."""
        scorers = individual_scorers(self._get_scorers()[0]).values()
        return not self.return_train_score and all(map(asks_predictions_only, scorers))

    def _search_scorer(self):
        """The scorer that ranks: the only one, or the one refit names; None where a callable refit or none decides."""
        scorers, _ = self._get_scorers()
        metric = self.refit.metric if isinstance(self.refit, OneStandardError) else self.refit
        return individual_scorers(scorers).get(metric if isinstance(metric, str) else "score")

    def _run_search(self, evaluate_candidates, *, callback_ctx=None):
        run = self._run
        if run.tuner is None:
            self._score(evaluate_candidates, "search", run.plan, callback_ctx)
            return
        # the searches, and then the scoring of what they found
        context = callback_ctx.subcontext(task_name="search", max_subtasks=len(run.combinations) + 1)
        context.call_on_fit_task_begin(estimator=self)
        try:
            self._score(evaluate_candidates, "evaluate-candidates", self._search_plan(context), context)
        except KeyboardInterrupt:
            if run.tuner.interrupted:
                raise
            # while a fold was preprocessed, a listed candidate fitted or a winner scored: what has been found is kept
            self._score(evaluate_candidates, "", self._found_until_now(), None)
        context.call_on_fit_task_end(estimator=self)

    def _search_plan(self, context) -> list[dict]:
        """The candidates: listed ones as they are, and the winners of continuous searches, which `outcomes` tells apart."""
        run, candidates, left_out = self._run, [], 0
        elsewhere: dict[int, list[Outcome]] = {}
        for number, step in enumerate(run.plan):
            if not isinstance(step, Combination):
                candidates.append(step)
                continue
            if number in elsewhere:
                outcomes = elsewhere[number]
            elif run.stopped or (run.outcomes and self.max_time is not None and run.seconds > self.max_time):
                outcomes = []
            else:
                began = run.seconds
                outcomes = self._tune(step, context)
                elsewhere |= self._in_processes(number, run.seconds - began)
            for outcome in outcomes:
                run.warnings += [(outcome.failure, FitFailedWarning)] if outcome.failure else []
                run.outcomes[len(candidates)] = outcome
                candidates.append(outcome.candidate)
            left_out += not outcomes
            if run.tuner.interrupted:
                # listed candidates would have to be fitted now
                return self._found_until_now()
        if left_out:
            told = f"{left_out} of {len(run.combinations)} combinations of listed values were not searched any more."
            run.warnings.append((told, ConvergenceWarning))
        return candidates

    def _in_processes(self, number: int, seconds: float) -> dict[int, list[Outcome]]:
        """The outcomes of all combinations after this one, where processes earn their start; else none.

        `seconds` is what this one took: the second, because the first has compiled. Callbacks want to see every step, so
        with them all is done here.
        """
        run = self._run
        combinations = [i for i, step in enumerate(run.plan) if isinstance(step, Combination)]
        rest = [i for i in combinations if i > number]
        workers = effective_n_jobs(run.tuner.n_jobs)
        if combinations.index(number) != 1 or workers < 2 or getattr(self, "_skl_callbacks", []):
            return {}
        if seconds * len(rest) < WORTH_PROCESSES:
            return {}
        deadline = None if self.max_time is None else time.time() + self.max_time - run.seconds
        jobs = (delayed(tune_apart)(run.tuner, run.plan[i], run.inits, deadline, blas_threads(run.X)) for i in rest)
        return dict(zip(rest, Parallel(n_jobs=run.tuner.n_jobs)(jobs), strict=True))

    def _found_until_now(self) -> list[dict]:
        """After Ctrl-C: the candidates that the searches have found, and no others."""
        run = self._run
        found = [outcome for outcome in run.outcomes.values() if outcome.found]
        if not found:
            raise KeyboardInterrupt
        run.tuner.interrupted, run.outcomes = True, dict(enumerate(found))
        return [outcome.candidate for outcome in found]

    def _tune(self, step: Combination, context) -> list[Outcome]:
        """The continuous search within one combination of listed values."""
        run = self._run
        searching = context.subcontext(task_name="hypergradient-search", max_subtasks=None)
        searching.call_on_fit_task_begin(estimator=self)
        outcomes = run.tuner(step, run.inits, self._progress(step, searching))
        searching.call_on_fit_task_end(estimator=self)
        return outcomes

    def _score(self, evaluate_candidates, name, candidates, context):
        """The one call of `evaluate_candidates`; solutions are handed over where there are some."""
        run = self._run
        if run.outcomes:
            self.trace_ = trace_of(run.outcomes, len(candidates))
            answers = [run.outcomes[i].answers if i in run.outcomes else None for i in range(len(candidates))]
            self._checked_cv_orig.trains = self.return_train_score or None in answers
            run.handover.expect(answers, self.n_splits_, lambda: self.best_index_, recalls=self._recalls())
        if context is not None:
            context = context.subcontext(
                task_name=name, max_subtasks=len(candidates) * self.n_splits_, sequential_subtasks=False
            ).call_on_fit_task_begin(estimator=self)
        evaluate_candidates(candidates, callback_ctx=context)
        if context is not None:
            context.call_on_fit_task_end(estimator=self)

    def _select_best_index(self, refit, refit_metric, results):
        index = SearchBase._select_best_index(refit, refit_metric, results)
        if self._run.tuner is not None:
            self._run.results = results
        outcome = self._run.outcomes.get(index)
        if outcome is not None:
            interrupted = self._run.tuner.interrupted
            outcome = outcome._replace(status=Status.interrupted, sides={}) if interrupted else outcome
            self.status_, self.message_ = outcome.status.name, outcome.status.value
            self.converged_ = outcome.status in (Status.converged, Status.boundary)
            self.criterion_, self.device_ = outcome.criterion, outcome.device
            self._run.warnings += filter(None, [outcome.warning()])
        return index

    def _progress(self, step: Combination, context):
        """What is done after every evaluation: remember the best, show it, tell the callbacks, look at the clock."""
        run, (prefix, _) = self._run, last_step(step.estimator)

        def progress(evaluation):
            run.evaluations += 1
            params = {**step.listed, **named(prefix, evaluation.hyper)}
            if evaluation.solved and (run.best is None or evaluation.rank < run.best[0].rank):
                run.best = evaluation, params
            if self.verbose >= 2:
                values = ", ".join(f"{name}={show(value)}" for name, value in params.items())
                slope = np.linalg.norm(evaluation.gradient)
                print(f"[HG] {values}; criterion={evaluation.value:.6g}; gradient={slope:.2e}; {run.seconds:.2f}s")
            taken = context.subcontext(task_name="outer-step").call_on_fit_task_begin(estimator=self)
            if taken.call_on_fit_task_end(estimator=self):
                run.stopped = True
                raise Stop(Status.interrupted)
            if self.max_time is not None and run.seconds > self.max_time:
                raise Stop(Status.timeout)
            return False

        return progress

    @property
    def best_so_far_(self) -> dict:
        """The best point of a continuous search that is still running, for callbacks.

        A dict: `params` as `best_params_` will have them, `criterion` (less is better), `gradient_norm`, and `evaluations`
        and `seconds` so far. Not there before the first evaluation and after the fit.
        """
        run = self.__dict__.get("_run")
        if run is None or run.best is None:
            raise AttributeError("best_so_far_ is there while a continuous search is running.")
        evaluation, params = run.best
        return {
            "params": params,
            "criterion": evaluation.value,
            "gradient_norm": float(np.linalg.norm(evaluation.gradient)),
            "evaluations": run.evaluations,
            "seconds": run.seconds,
        }

    def _leave_out_the_refit(self):
        """After Ctrl-C in the refit: what has been found and scored is kept, and there is no model."""
        run = self._run
        run.tuner.interrupted = True
        for name in ("best_estimator_", "refit_time_", "feature_names_in_"):
            self.__dict__.pop(name, None)
        scorers, _ = self._get_scorers()
        self.cv_results_, self.scorer_ = run.results, getattr(scorers, "_scorers", scorers)
        self.status_, self.message_, self.converged_ = Status.interrupted.name, Status.interrupted.value, False
        run.warnings = [(f"{self.status_}: {self.message_}", ConvergenceWarning)]

    def __sklearn_is_fitted__(self):
        return "cv_results_" in vars(self) and (self.refit is False or "best_estimator_" in vars(self))

    def _keep_folds(self, X, y):
        """The winner's estimator of every fold, and its predictions of the rows it has not seen."""
        run = self._run
        if not hasattr(self, "best_index_"):
            told = (
                "return_estimator=True keeps the best candidate's estimators, and without refit there is no best one."
            )
            run.warnings.append((told, UserWarning))
            return
        outcome = run.outcomes.get(self.best_index_)
        if outcome is not None and outcome.answers is not None:
            self.fold_estimators_ = [answer.estimator for answer in outcome.answers[: self.n_splits_]]
        else:
            self.fold_estimators_ = fitted_on(run.estimator, self.best_params_, X, y, run.splits, run.routed.fit)
        self.fold_predictions_ = out_of_fold(self.fold_estimators_, X, run.splits)
