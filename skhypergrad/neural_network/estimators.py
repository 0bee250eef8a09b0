"""Multilayer perceptrons whose penalty and learning rate are tuned while they are trained."""

from __future__ import annotations

import warnings
from dataclasses import replace
from numbers import Integral
from numbers import Real as RealNumber
from typing import Any, ClassVar

import numpy as np
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.callback import with_callbacks
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit, check_cv
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from skhypergrad.adapters._compat import Interval, StrOptions, check_sample_weight
from skhypergrad.prediction import FromRaw
from skhypergrad.steps import TellsSteps

# What can be tuned, with its bounds and scale; the rates of a solver besides.
SPACES: dict[str, tuple[float, float, Any]] = {
    "alpha": (1e-6, 1e2, "log"),
    "learning_rate_init": (1e-6, 10.0, "log"),
    "init_scale": (0.1, 10.0, "log"),
    "momentum": (0.0, 0.99, "linear"),
    "beta_1": (0.0, 0.99, "linear"),
    "beta_2": (0.9, 0.9999, "linear"),
}
RATES = {
    "adam": ("learning_rate_init", "beta_1", "beta_2"),
    "momentum": ("learning_rate_init", "momentum"),
    "sgd": ("learning_rate_init",),
}

# Where trainings begin that are compared for a moment, besides the given learning rate.
LEARNING_RATES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)

# Epochs with an order of their own; a longer training begins with the first one again.
ORDERS = 50

# Steps between two moves of the hyperparameters, at least; they are whole epochs.
STRETCH = 5

# Of the moves: their length, what is remembered of old steps, moves before starts are compared, and where a run that
# diverges goes.
RATE, DISCOUNT, TRIAL, CALMER = 0.15, 0.995, 2, 1 / 3


class _TunesWhileTraining(TellsSteps, BaseEstimator):
    """What both networks share."""

    _parameter_constraints: ClassVar[dict] = {
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions({"identity", "logistic", "tanh", "relu"})],
        "solver": [StrOptions(set(RATES))],
        "alpha": [Interval(RealNumber, 0, None, closed="left")],
        "learning_rate_init": [Interval(RealNumber, 0, None, closed="neither")],
        "momentum": [Interval(RealNumber, 0, 1, closed="left")],
        "beta_1": [Interval(RealNumber, 0, 1, closed="left")],
        "beta_2": [Interval(RealNumber, 0, 1, closed="left")],
        "init_scale": [Interval(RealNumber, 0, None, closed="neither")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "tune": [str, "array-like"],
        "per_layer": ["boolean"],
        "schedule": [Interval(Integral, 1, None, closed="left")],
        "method": [StrOptions({"auto", "online", "forward", "reverse"})],
        "cv": ["cv_object", None],
        "validation_fraction": [Interval(RealNumber, 0, 1, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        hidden_layer_sizes=(100,),
        activation="relu",
        *,
        solver="adam",
        alpha=1e-4,
        learning_rate_init=1e-3,
        momentum=0.9,
        beta_1=0.9,
        beta_2=0.999,
        init_scale=1.0,
        batch_size="auto",
        tune=("alpha", "learning_rate_init"),
        per_layer=False,
        schedule=1,
        method="auto",
        cv=None,
        validation_fraction=0.1,
        max_iter=200,
        n_iter_no_change=15,
        random_state=None,
        verbose=0,
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.learning_rate_init = learning_rate_init
        self.momentum = momentum
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.init_scale = init_scale
        self.batch_size = batch_size
        self.tune = tune
        self.per_layer = per_layer
        self.schedule = schedule
        self.method = method
        self.cv = cv
        self.validation_fraction = validation_fraction
        self.max_iter = max_iter
        self.n_iter_no_change = n_iter_no_change
        self.random_state = random_state
        self.verbose = verbose

    def _train(self, X, y, weight, n_trained, loss, criterion, score, *, center=0.0, unit=1.0):
        """Tune and train.

        y is (n_samples, n_outputs) as the loss wants it; rows from `n_trained` on are a validation set that was given;
        `score(raw, rows, weight)` judges a moment. `center` and `unit`, (n_outputs,) each, turn raw predictions into those
        that are kept.
        """
        from skhypergrad.bilevel import criteria, losses, networks, tune
        from skhypergrad.bilevel.lessons import starting_weights
        from skhypergrad.bilevel.solution import Interrupted, columns

        sizes = self._sizes(X.shape[1], y.shape[1])
        fixed, space = self._space(len(sizes) - 1)
        rng = check_random_state(self.random_state)
        splits = self._splits(X, y, weight, n_trained, rng)
        start = starting_weights(sizes, self.activation, rng, X.dtype)
        data, axes, batches = self._lessons(X, y.astype(X.dtype), weight, splits, start, fixed, rng)
        problem = networks.held_out_rows(
            networks.MLP(getattr(losses, loss), self.activation), getattr(criteria, criterion)
        )
        judged = [(k, test) for k, (_, test) in enumerate(splits) if len(test)]

        def judge(params):
            raws = [(self._forward([(c[k], b[k]) for c, b in params], X[test]), test) for k, test in judged]
            return -float(np.mean([score(raw, test, weight[test]) for raw, test in raws]))

        method, optimizer, options = self._course(space, batches)
        with self._told(X, y) as told:

            def after(evaluation):
                if self.verbose:
                    self._show(evaluation)
                return told(evaluation)

            try:
                solution = tune(
                    problem, method, optimizer, space, data, task_axes=axes, judge=judge, callback=after, **options
                )
                interrupted = None
            except Interrupted as error:
                solution, interrupted = error.solution, error
        if solution.params is None:
            if interrupted is not None:
                raise interrupted
            raise ValueError(
                f"{type(self).__name__} could not be trained: no learning rate that was tried led to finite weights. Scale "
                "the features, for instance by StandardScaler in a pipeline, and tune learning_rate_init or lower it."
            )
        trace = [e for e in solution.trace if e.solved]
        best = min(trace, key=lambda e: e.rank)
        self.coefs_ = [np.array(coef[-1]) for coef, _ in solution.params]
        self.intercepts_ = [np.array(intercept[-1]) for _, intercept in solution.params]
        self.coefs_[-1] = (self.coefs_[-1] * unit).astype(X.dtype)
        self.intercepts_[-1] = (self.intercepts_[-1] * unit + center).astype(X.dtype)
        for name in space.reals:
            value = solution.hyper[name]
            setattr(self, f"{name}_", float(value) if np.ndim(value) == 0 else np.array(value))
        self.criterion_, self.validation_score_ = float(best.value), -float(best.judged)
        self.trace_, self.status_ = columns(solution.trace), solution.status.name
        self.n_iter_, self.n_layers_, self.n_outputs_ = len(solution.trace), len(sizes), sizes[-1]
        self._tell(solution, optimizer)
        if interrupted is not None:
            raise interrupted

    @property
    def _online(self) -> bool:
        return self.method == "online" or (self.method == "auto" and self.schedule == 1)

    def _course(self, space, batches):
        """The method and the optimizer, and for `tune` what else they need."""
        from skhypergrad.bilevel import Forward, RealTime, Reverse
        from skhypergrad.bilevel.networks import Training
        from skhypergrad.model_selection.named import optimizer_of

        training = Training("momentum" if self.solver == "sgd" else self.solver)
        if not self._online:
            steps = self.max_iter * batches
            training = replace(training, steps=steps if self.schedule > 1 else None)
            method = (Forward if self.method == "forward" else Reverse)(training, steps)
            return method, optimizer_of("auto", space, online=False, n_starts="auto", max_steps=50, seed=0), {}
        epochs = -(-STRETCH // batches)
        rates = np.array([name.startswith("learning_rate_init") for name, _ in space.coordinates()])
        starts = []
        if rates.any():
            given = space.init()
            others = [np.where(rates, np.log(rate), given) for rate in LEARNING_RATES]
            # the given one takes the place of the nearest
            nearest = int(np.argmin([np.max(np.abs(given - other)) for other in others]))
            if np.max(np.abs(given - others[nearest])) < np.log(10) / 2:
                others.pop(nearest)
            starts = [tuple(map(float, start)) for start in [given, *others]]
        optimizer = RealTime(
            rate=RATE,
            starts=tuple(starts),
            trial=TRIAL,
            patience=self.n_iter_no_change,
            retreat=tuple(map(float, np.where(rates, np.log(CALMER), 0.0))),
        )
        method = Forward(training, epochs * batches, discount=DISCOUNT)
        return method, optimizer, {"restart": False, "max_steps": -(-self.max_iter // epochs)}

    def _show(self, evaluation):
        values = ", ".join(
            f"{name}={np.array2string(np.asarray(v), precision=3)}" for name, v in evaluation.hyper.items()
        )
        print(f"[HG] {values}; loss={evaluation.value:.4g}; score={-evaluation.judged:.4g}; {evaluation.seconds:.2f}s")

    def _tell(self, solution, optimizer):
        """What the user must know of how it was trained."""
        for message in self._remarks(solution, optimizer):
            warnings.warn(message, ConvergenceWarning, stacklevel=4)

    def _remarks(self, solution, optimizer):
        if solution.status.name == "interrupted":
            yield f"{solution.status.name}: {solution.status.value}"
        if not self._online:
            return
        if not solution.trace[0].solved:
            bad = ", ".join(f"{name} = {np.max(value):.3g}" for name, value in solution.trace[0].hyper.items())
            yield f"The training diverged where it was to begin, at {bad}: it began at another learning rate."
        diverged = [e for e in solution.trace[optimizer.compared([e.solved for e in solution.trace]) :] if not e.solved]
        if diverged and "learning_rate_init" in solution.hyper:
            rates = ", ".join(f"{np.max(e.hyper['learning_rate_init']):.3g}" for e in diverged)
            yield (
                f"The training diverged on its way, at learning_rate_init = {rates}: it went back to its best moment, with a "
                "third of the rate there, and from then on stayed below that."
            )
        if solution.status.name == "max_steps":
            yield f"The held-out loss was still falling after max_iter={self.max_iter} epochs: raise max_iter."

    def _lessons(self, X, y, weight, splits, start, fixed, rng):
        """The tasks, their axes, and the mini-batches of an epoch."""
        from skhypergrad.bilevel.lessons import lessons

        trains = [train[weight[train] > 0] for train, _ in splits]
        size = min(200 if self.batch_size == "auto" else int(self.batch_size), max(map(len, trains)))
        # where one batch holds all rows their order makes no difference, and they stay as they are
        orders = [
            train[None] if len(train) <= size else np.stack([rng.permutation(train) for _ in range(ORDERS)])
            for train in trains
        ]
        tests = [test for _, test in splits]
        weights = [weight] * len(splits)
        data, axes = lessons(X, y, weights, orders, size, tests, [weight[test] for test in tests], start, fixed)
        return data, axes, int(data.batches.max())

    def _sizes(self, n_features, n_outputs):
        hidden = np.atleast_1d(self.hidden_layer_sizes)
        usable = hidden.ndim == 1 and np.issubdtype(hidden.dtype, np.integer) and np.all(hidden > 0)
        if hidden.size and not usable:
            raise ValueError(f"hidden_layer_sizes must be positive integers, got {self.hidden_layer_sizes!r}.")
        return [n_features, *map(int, hidden), n_outputs]

    def _space(self, n_layers) -> tuple[dict, Any]:
        """What is fixed, and the space of what is tuned."""
        from skhypergrad.bilevel.space import Real, Space

        known = ("alpha", *RATES[self.solver], "init_scale")
        tuned = (self.tune,) if isinstance(self.tune, str) else tuple(self.tune)
        unknown = [name for name in tuned if name not in known]
        if unknown or not tuned:
            told = f"{', '.join(map(repr, unknown))} cannot be tuned" if unknown else "tune is empty"
            raise ValueError(
                f"{told}: {type(self).__name__}(solver={self.solver!r}) has {', '.join(map(repr, known))}."
            )
        if self.schedule > 1 and self.method == "online":
            raise ValueError(
                "method='online' has no schedule, since its learning rate follows a course of its own: use "
                "method='reverse' or 'forward' with schedule > 1."
            )
        if self.schedule > 1 and "learning_rate_init" not in tuned:
            raise ValueError("schedule > 1 is one of tuned learning rates: put 'learning_rate_init' into tune.")
        if "init_scale" in tuned and self._online:
            raise ValueError(
                "init_scale acts at the beginning of a training only, which method='online' has just one of: "
                "use method='forward' or 'reverse', or leave it out."
            )
        values = {name: getattr(self, name) for name in ("alpha", "init_scale", *RATES["adam"], "momentum")}
        if self.solver == "sgd":
            values["momentum"] = 0.0
        fixed = {name: value for name, value in values.items() if name not in tuned} | {"epsilon": 1e-8}
        reals = {}
        for name in tuned:
            low, high, scale = SPACES[name]
            shape = (n_layers,) if self.per_layer else ()
            if name == "learning_rate_init" and self.schedule > 1:
                shape = (self.schedule, *shape)
            init: Any = np.broadcast_to(np.clip(values[name], low, high), shape)
            reals[name] = Real(low, high, scale, shape, init if shape else float(init))
        return fixed, Space(reals)

    def _splits(self, X, y, weight, n_trained, rng):
        """(train, test) of every task; with folds all rows, without a test set, are the last."""
        labels = self._labels(y)
        if n_trained < len(X):
            return [(np.arange(n_trained), np.arange(n_trained, len(X)))]
        if self.cv is None:
            return [self._validation_split(np.flatnonzero(weight > 0), labels, rng)]
        cv = check_cv(self.cv, labels, classifier=labels is not None)
        folds = [
            (np.asarray(train), np.asarray(test)) for train, test in cv.split(X, labels if labels is not None else y)
        ]
        for k, (train, test) in enumerate(folds):
            for name, rows in (("training", train), ("held-out", test)):
                if not weight[rows].sum() > 0:
                    raise ValueError(f"Split {k} has no {name} rows of positive weight.")
        return [*folds, (np.arange(len(X)), np.arange(0))]

    def _validation_split(self, rows, labels, rng):
        """(train, test), stratified where there are labels, and with a row for each of them where that can be."""
        size = int(np.ceil(self.validation_fraction * len(rows)))
        split = ShuffleSplit
        if labels is not None:
            size, split = max(size, len(np.unique(labels[rows]))), StratifiedShuffleSplit
        try:
            drawn = split(1, test_size=size, random_state=rng.randint(2**31 - 1))
            ((train, test),) = drawn.split(rows, None if labels is None else labels[rows])
        except ValueError as error:
            raise ValueError(
                f"There is no validation set of {size} rows in {len(rows)} (n_samples = {len(rows)}): {error} "
                "Change validation_fraction, or give folds by cv."
            ) from error
        train, test = rows[train], rows[test]
        missed = [] if labels is None else sorted(set(labels[rows]) - set(labels[test]))
        if missed:
            warnings.warn(
                f"Of {len(missed)} classes, {self.classes_[missed[0]]!r} for one, there is no row in the validation set: "
                "raise validation_fraction, or give folds by cv.",
                UserWarning,
                stacklevel=5,
            )
        return train, test

    def _labels(self, y):
        return None

    def _forward(self, layers, X):
        """Raw predictions (n_samples, n_outputs), by NumPy alone."""
        activation = {"identity": lambda x: x, "logistic": expit, "tanh": np.tanh, "relu": lambda x: np.maximum(x, 0)}
        for coef, intercept in layers[:-1]:
            X = activation[self.activation](X @ np.asarray(coef) + np.asarray(intercept))
        coef, intercept = layers[-1]
        return X @ np.asarray(coef) + np.asarray(intercept)

    def _raw(self, X):
        check_is_fitted(self, "coefs_")
        X = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        return self._forward(list(zip(self.coefs_, self.intercepts_, strict=True)), X)

    def _checked(self, X, y, sample_weight, X_val, y_val, **options):
        """(X, y, weight, n_trained): validated, with a validation set that was given at the end."""
        self._validate_params()
        X, y = validate_data(self, X, y, dtype=(np.float64, np.float32), ensure_min_samples=2, **options)
        n_trained = len(X)
        if sample_weight is None:
            weight = np.ones(n_trained)
        else:
            weight = check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        if (X_val is None) != (y_val is None):
            raise ValueError("X_val and y_val make a validation set together: give both, or none.")
        if X_val is not None:
            X_val, y_val = validate_data(self, X_val, y_val, reset=False, dtype=X.dtype, **options)
            X, y = np.concatenate([X, X_val]), np.concatenate([y, y_val])
            weight = np.concatenate([weight, np.ones(len(X_val))])
        return X, y, weight, n_trained


class BilevelMLPClassifier(FromRaw, ClassifierMixin, _TunesWhileTraining):
    """A multilayer perceptron for classification that tunes its penalty and learning rate while it is trained.

    Several trainings, with learning rates far apart, are begun side by side and compared after a few epochs; the best one
    goes on, and after every epoch its hyperparameters follow the derivative of the log loss of held-out rows, which travels
    along with the weights. The moment with the best held-out accuracy is kept.

    Parameters
    ----------
    hidden_layer_sizes : int or array-like of int, default=(100,)
    activation : {"identity", "logistic", "tanh", "relu"}, default="relu"
        As in `sklearn.neural_network.MLPClassifier`, and so are the starting weights and the objective.
    solver : {"adam", "momentum", "sgd"}, default="adam"
        "momentum" is the heavy ball, "sgd" the same without momentum.
    alpha, learning_rate_init, momentum, beta_1, beta_2, init_scale : float
        Where tuning begins for those in `tune`, and their values for the others: 1e-4, 1e-3, 0.9, 0.9, 0.999 and 1.
        `init_scale` multiplies the starting coefficients.
    batch_size : int or "auto", default="auto"
        Rows of a step; "auto" for 200, or all where there are fewer.
    tune : str or sequence of str, default=("alpha", "learning_rate_init")
        Of "alpha", "init_scale" (only with "forward" or "reverse") and the rates of the solver: "learning_rate_init", and
        "beta_1", "beta_2" or "momentum".
    per_layer : bool, default=False
        Whether each layer has hyperparameters of its own.
    schedule : int, default=1
        With more than one, that many learning rates at equal distances from the first step of a training to its last are
        tuned, and between two of them the rate changes by the same factor at every step. For whole trainings: an online one
        changes its learning rate by itself.
    method : {"auto", "online", "forward", "reverse"}, default="auto"
        "auto" is "online", one training as described, or "reverse" with a schedule. "forward" and "reverse" train anew for
        `max_iter` epochs at every evaluation, and differentiate the whole run; hyperparameters are then constant in time, but
        for a schedule.
    cv : int, splitter, iterable of splits or None, default=None
        Folds that are trained at once, with the same hyperparameters, beside all rows, whose network is kept. None for one
        split by `validation_fraction`; the network then has not seen the validation rows, as with scikit-learn's
        `early_stopping`.
    validation_fraction : float, default=0.1
        Of the rows, stratified by class.
    max_iter : int, default=200
        Epochs after the comparison of the starts, at most.
    n_iter_no_change : int, default=15
        Moves without a lower held-out loss after which the training goes back to its best moment with a third of the
        learning rate; at the third time it ends.
    random_state : int, RandomState instance or None, default=None
        Of starting weights, validation split and mini-batches.
    verbose : int, default=0
        Whether to print a line for every move.

    Attributes
    ----------
    alpha_, learning_rate_init_, ... : float or ndarray of shape (n_layers,)
        Of what was tuned, at the moment that was kept; `trace_` has the whole course. With a schedule learning rates have a
        leading axis of its length.
    coefs_, intercepts_ : list of ndarray
        As in scikit-learn.
    classes_ : ndarray of shape (n_classes,)
    criterion_ : float
        Held-out log loss in nats at that moment.
    validation_score_ : float
        Held-out accuracy; the moment was chosen by it, so that it is a little too good.
    trace_ : dict of ndarray
        A row for every move.
    status_ : str
        How the training ended; one of the names of `skhypergrad.bilevel.Status`.
    n_iter_ : int
        Moves, those of the starts included.
    n_layers_, n_outputs_, n_features_in_, feature_names_in_
        As in scikit-learn.

    Raises
    ------
    ValueError
        At fit, for `tune` of a name the solver has not, a validation set that would miss a class, or data for which no
        learning rate leads to finite weights.
    KeyboardInterrupt
        On Ctrl-C, with the best moment so far kept.

    Warns
    -----
    ConvergenceWarning
        When the given learning rate diverged, or a later one, when the loss was still falling after `max_iter` epochs, and
        when a callback or Ctrl-C ended the training.

    Notes
    -----
    Source: Franceschi et al. (2017), real-time hyperparameter optimization; Donini et al. (2020), who let its memory fade.
    Predictions need NumPy only.

    Callbacks of scikit-learn (`set_callbacks`) are told of every move, as a task "outer-step" within "fit"; one that returns
    True ends the training, and its best moment is kept.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skhypergrad import BilevelMLPClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BilevelMLPClassifier((10,), random_state=0).fit(X, y)
    >>> bool(model.score(X, y) > 0.9)
    True
    """

    @with_callbacks
    def fit(self, X, y, sample_weight=None, *, X_val=None, y_val=None):
        """Tune and train.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            float32 rows are trained on in float32, all others in float64.
        y : array-like of shape (n_samples,)
        sample_weight : array-like of shape (n_samples,), default=None
            In the training and in the criterion.
        X_val, y_val : like X and y, default=None
            A validation set of your own, in place of `cv` and `validation_fraction`.

        Returns
        -------
        self
        """
        X, y, weight, n_trained = self._checked(X, y, sample_weight, X_val, y_val)
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        self.classes_, code = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"{type(self).__name__} needs samples of at least 2 classes in the data, but the data contains only one "
                f"class: {self.classes_[0]!r}"
            )
        several = len(self.classes_) > 2

        def accuracy(raw, rows, weight):
            said = np.argmax(raw, axis=1) if several else (raw[:, 0] > 0).astype(int)
            return np.average(said == code[rows], weights=weight)

        target = np.eye(len(self.classes_))[code] if several else code[:, None].astype(float)
        self._train(X, target, weight, n_trained, "multinomial" if several else "logistic", "log_loss", accuracy)
        return self

    def _labels(self, y):
        return np.argmax(y, axis=1) if y.shape[1] > 1 else y[:, 0].astype(int)


class BilevelMLPRegressor(RegressorMixin, _TunesWhileTraining):
    """A multilayer perceptron for regression that tunes its penalty and learning rate while it is trained.

    See `BilevelMLPClassifier` for the parameters and for how it is trained; here the squared error of held-out rows is
    descended, and chooses the moment that is kept. The network is trained on targets less their mean, in units of their
    standard deviation, and so `alpha` is meant; predictions are in the units of y.

    Attributes
    ----------
    criterion_ : float
        Held-out mean squared error in these units, mean over the targets.
    validation_score_ : float
        Minus the same, in squared units of y where there is one target.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skhypergrad import BilevelMLPRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = BilevelMLPRegressor((20,), random_state=0).fit(X, y)
    >>> bool(model.score(X, y) > 0.4)
    True
    """

    @with_callbacks
    def fit(self, X, y, sample_weight=None, *, X_val=None, y_val=None):
        """Tune and train.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
        sample_weight : array-like of shape (n_samples,), default=None
        X_val, y_val : like X and y, default=None
            As in `BilevelMLPClassifier`.

        Returns
        -------
        self
        """
        X, y, weight, n_trained = self._checked(X, y, sample_weight, X_val, y_val, multi_output=True, y_numeric=True)
        self._flat = y.ndim == 1
        y = np.asarray(y, float).reshape(len(X), -1)
        center = np.average(y, axis=0, weights=weight)
        unit = np.sqrt(np.average((y - center) ** 2, axis=0, weights=weight))
        unit = np.where(unit > 0, unit, 1.0)
        target = (y - center) / unit

        def score(raw, rows, weight):
            return -np.average(np.mean(((raw - target[rows]) * unit) ** 2, axis=1), weights=weight)

        self._train(X, target, weight, n_trained, "squared", "squared_error", score, center=center, unit=unit)
        return self

    def predict(self, X):
        """Predicted targets, (n_samples,) or (n_samples, n_targets)."""
        raw = self._raw(X)
        return raw[:, 0] if self._flat else raw

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
