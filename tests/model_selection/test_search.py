"""HypergradSearchCV: GridSearchCV's semantics with lists, a better optimum with continuous spaces."""

import pickle
import subprocess
import sys
import textwrap
import warnings

import jax
import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.optimize
import scipy.sparse
import sklearn
from scipy.stats import loguniform
from sklearn import datasets
from sklearn.base import clone
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.metrics import accuracy_score, make_scorer, mean_absolute_error
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    RepeatedKFold,
    ShuffleSplit,
    TimeSeriesSplit,
    cross_val_score,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from skhypergrad import BoundaryWarning, HypergradSearchCV, Real
from skhypergrad.bilevel import HOAG, LBFGS, LBFGSB, Direct, Forward, Implicit, Momentum, Newton, Reverse

WIDE = loguniform(1e-4, 1e4)
GRID = np.geomspace(1e-4, 1e4, 60)
TIGHT = {"tol": 1e-9, "max_iter": 10_000}


@pytest.fixture(scope="module")
def cancer():
    X, y = datasets.load_breast_cancer(return_X_y=True)
    return X, y


@pytest.fixture(scope="module")
def diabetes():
    return datasets.load_diabetes(return_X_y=True)


def never_worse(estimator, name, X, y, tolerance=1e-6, **options):
    """The search is at least as good as 60 grid values, and says so without a complaint that is not true."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BoundaryWarning)
        ours = HypergradSearchCV(estimator, {name: WIDE}, **options).fit(X, y)
    grid = GridSearchCV(estimator, {name: GRID}, **options).fit(X, y)
    assert ours.best_score_ >= grid.best_score_ - tolerance * abs(grid.best_score_)
    return ours


@pytest.mark.parametrize("scoring", ["r2", "neg_mean_squared_error", "neg_root_mean_squared_error", None])
def test_ridge_is_never_worse_than_sixty_values(diabetes, scoring):
    ours = never_worse(make_pipeline(StandardScaler(), Ridge()), "ridge__alpha", *diabetes, scoring=scoring)
    assert ours.converged_


@pytest.mark.parametrize("scoring", ["neg_log_loss", "neg_brier_score"])
def test_logistic_regression_is_never_worse_than_sixty_values(cancer, scoring):
    model = make_pipeline(StandardScaler(), LogisticRegression(**TIGHT))
    ours = never_worse(model, "logisticregression__C", *cancer, scoring=scoring)
    assert ours.status_ == "converged"


@pytest.mark.parametrize("scoring", ["accuracy", "roc_auc", "f1"])
def test_a_score_that_is_no_criterion_chooses_among_the_evaluated_points(cancer, scoring):
    model = make_pipeline(StandardScaler(), LogisticRegression(**TIGHT))
    ours = HypergradSearchCV(model, {"logisticregression__C": WIDE}, scoring=scoring).fit(*cancer)
    coarse = GridSearchCV(model, {"logisticregression__C": GRID[::7]}, scoring=scoring).fit(*cancer)
    assert ours.criterion_ == "log_loss"
    assert ours.best_score_ >= coarse.best_score_ - 1e-12


@pytest.mark.parametrize("labels", [["a", "b", "c"], [0, 5, 7]])
@pytest.mark.parametrize("weighted", [False, True])
def test_accuracy_judges_as_scikit_learns_scorer_does(labels, weighted, rng):
    X, y = datasets.load_wine(return_X_y=True)
    y = pd.Series(np.array(labels)[y])
    given = {"sample_weight": rng.uniform(0.5, 2, len(y))} if weighted else {}
    model, known, unknown = (
        RidgeClassifier(),
        make_scorer(accuracy_score),
        make_scorer(lambda *y, **w: accuracy_score(*y, **w)),
    )
    with sklearn.config_context(enable_metadata_routing=weighted):
        if weighted:
            model = model.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
            known, unknown = (scorer.set_score_request(sample_weight=True) for scorer in (known, unknown))
        by_score, by_name, by_call = (
            HypergradSearchCV(model, {"alpha": WIDE}, scoring=scoring, cv=3).fit(X[:, 1:4], y, **given)
            for scoring in (None, known, unknown)
        )
    assert by_score.best_params_ == by_name.best_params_ == by_call.best_params_
    assert by_score.best_score_ == by_name.best_score_ == by_call.best_score_


def test_several_classes_and_several_targets():
    X, y = datasets.load_wine(return_X_y=True)
    model = make_pipeline(StandardScaler(), LogisticRegression(**TIGHT))
    never_worse(model, "logisticregression__C", X, y, scoring="neg_log_loss")
    X, y = datasets.load_linnerud(return_X_y=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BoundaryWarning)
        one = HypergradSearchCV(Ridge(), {"alpha": loguniform(1e-3, 1e6)}, cv=4).fit(X, y)
        each = HypergradSearchCV(Ridge(), {"alpha": Real(1e-3, 1e6, shape=(3,))}, cv=4).fit(X, y)
    assert each.best_params_["alpha"].shape == (3,)
    assert each.best_score_ >= one.best_score_ - 1e-9


def test_each_of_two_targets_has_the_penalty_that_it_would_have_alone(diabetes):
    X, y = diabetes
    targets = np.stack([y, np.random.default_rng(0).normal(y, 100)], axis=1)
    space, cv = {"alpha": Real(1e-3, 1e3, shape=(2,))}, KFold(4)
    found = HypergradSearchCV(Ridge(), space, scoring="neg_mean_squared_error", cv=cv, tol=1e-7).fit(X, targets)
    for target, alpha in zip(targets.T, found.best_params_["alpha"], strict=True):

        def loss(log_alpha, target=target):
            return -cross_val_score(Ridge(np.exp(log_alpha)), X, target, scoring=found.scoring, cv=cv).mean()

        alone = scipy.optimize.minimize_scalar(loss, bounds=np.log([1e-3, 1e3]), options={"xatol": 1e-7})
        assert np.log(alpha) == pytest.approx(alone.x, abs=5e-3)
    # two thirds of them are starts
    assert len(found.trace_["criterion"]) < 40


def test_an_optimum_on_a_bound_is_found_and_told(diabetes):
    X, y = diabetes
    with pytest.warns(BoundaryWarning, match="alpha = 100 .lower bound") as record:
        search = HypergradSearchCV(Ridge(), {"alpha": loguniform(1e2, 1e4)}).fit(X, y)
    assert search.best_params_["alpha"] == 1e2
    assert search.status_ == "boundary"
    assert search.converged_
    assert [w.filename for w in record if w.category is BoundaryWarning] == [__file__]


def test_mixed_spaces_and_lists_of_dicts(cancer):
    X, y = cancer
    pipe = Pipeline([("scale", StandardScaler()), ("clf", LogisticRegression(**TIGHT))])
    space = [
        {"scale": [StandardScaler(), "passthrough"], "clf__C": WIDE, "clf__class_weight": [None, "balanced"]},
        {"clf": [RidgeClassifier()], "clf__alpha": WIDE},
        {"clf": [RandomForestClassifier(n_estimators=3, random_state=0)], "clf__max_depth": [1, 2]},
    ]
    search = HypergradSearchCV(pipe, space, scoring="accuracy", cv=3).fit(X[:150], y[:150])
    assert len(search.cv_results_["params"]) == 4 + 1 + 2
    assert set(search.trace_["candidate"]) == {0, 1, 2, 3, 4}
    assert type(search.best_estimator_) is Pipeline
    assert search.best_score_ == max(search.cv_results_["mean_test_score"])
    for name in ("C", "alpha"):
        assert search.cv_results_[f"param_clf__{name}"].count() in (1, 4)


def test_values_are_plain_floats_and_the_results_are_scikit_learns(diabetes):
    X, y = diabetes
    search = HypergradSearchCV(Ridge(), {"alpha": WIDE}, return_train_score=True).fit(X, y)
    assert type(search.best_params_["alpha"]) is float
    assert search.cv_results_["param_alpha"].dtype == np.float64
    oracle = GridSearchCV(Ridge(), {"alpha": [search.best_params_["alpha"]]}, return_train_score=True).fit(X, y)
    for key in oracle.cv_results_:
        if "score" in key and "time" not in key:
            np.testing.assert_allclose(search.cv_results_[key], oracle.cv_results_[key], rtol=1e-9)
    np.testing.assert_allclose(search.best_estimator_.coef_, oracle.best_estimator_.coef_, rtol=1e-9)
    assert vars(search.best_estimator_).keys() == vars(oracle.best_estimator_).keys()
    # the criterion is the score, fold by fold
    assert -search.trace_["criterion"][-1] == pytest.approx(search.best_score_, rel=1e-9)


def test_lists_only_set_nothing_but_gridsearch_results(diabetes):
    X, y = diabetes
    search = HypergradSearchCV(Ridge(), {"alpha": WIDE}).fit(X, y)
    assert search.status_ == "converged"
    assert search.device_.startswith(jax.default_backend())
    search.set_params(param_grid={"alpha": [0.1, 1.0]}).fit(X, y)
    assert not {"trace_", "status_", "message_", "converged_", "criterion_", "device_"} & set(vars(search))
    grid = GridSearchCV(Ridge(), {"alpha": [0.1, 1.0]}).fit(X, y)
    assert set(vars(search)) - set(vars(grid)) == {
        "criterion", "method", "optimizer", "n_starts", "max_steps", "tol", "max_time", "random_state", "warm_start",
            "return_estimator",
    }  # fmt: skip


def test_lists_work_for_any_estimator(cancer):
    X, y = cancer
    forest = RandomForestClassifier(n_estimators=3, random_state=0)
    ours = HypergradSearchCV(forest, {"max_depth": [1, 2]}, cv=2).fit(X[:80], y[:80])
    grid = GridSearchCV(forest, {"max_depth": [1, 2]}, cv=2).fit(X[:80], y[:80])
    assert ours.best_params_ == grid.best_params_
    assert ours.best_score_ == grid.best_score_


@pytest.mark.parametrize(
    "cv",
    [
        KFold(4, shuffle=True, random_state=0),
        RepeatedKFold(n_splits=3, n_repeats=2, random_state=0),
        ShuffleSplit(3, test_size=0.3, random_state=0),
        TimeSeriesSplit(4),
        [(np.arange(300), np.arange(300, 442)), (np.arange(300) >= 0, np.arange(442) < 100)],
    ],
    ids=lambda cv: type(cv).__name__,
)
def test_any_splitter(diabetes, cv):
    X, y = diabetes
    if isinstance(cv, list):
        cv = [cv[0], (np.arange(442) > 100, np.arange(442) <= 100)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BoundaryWarning)
        never_worse(Ridge(), "alpha", X, y, cv=cv)


def test_a_shuffling_splitter_and_a_generator_are_drawn_once(diabetes):
    X, y = diabetes
    search = HypergradSearchCV(
        Ridge(), {"alpha": WIDE}, cv=KFold(3, shuffle=True, random_state=np.random.RandomState(0))
    ).fit(X, y)
    assert -search.trace_["criterion"][-1] == pytest.approx(search.best_score_, rel=1e-9)
    HypergradSearchCV(Ridge(), {"alpha": WIDE}, cv=(pair for pair in KFold(3).split(X))).fit(X, y)


def test_groups_go_to_the_splitter(diabetes):
    X, y = diabetes
    groups = np.arange(len(y)) % 7
    search = HypergradSearchCV(Ridge(), {"alpha": WIDE}, cv=GroupKFold(3)).fit(X, y, groups=groups)
    assert search.n_splits_ == 3


@pytest.mark.parametrize("make", [Ridge, LogisticRegression], ids=lambda c: c.__name__)
def test_sample_weight_weighs_the_fit_and_the_score(make, rng):
    X, y = datasets.make_classification(60, 6, n_informative=4, random_state=0)
    y = y if make is LogisticRegression else X @ rng.normal(size=6) + rng.normal(size=60)
    weight = rng.integers(0, 3, 60)
    model = make(**TIGHT) if make is LogisticRegression else make()
    name, scoring = ("C", "neg_log_loss") if make is LogisticRegression else ("alpha", "neg_mean_squared_error")
    fold = np.arange(60) % 3
    splits = [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(3)]
    repeated = np.repeat(np.arange(60), weight)
    copies = [(np.flatnonzero(fold[repeated] != k), np.flatnonzero(fold[repeated] == k)) for k in range(3)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BoundaryWarning)
        weighted = HypergradSearchCV(model, {name: WIDE}, scoring=scoring, cv=splits).fit(X, y, sample_weight=weight)
        longer = HypergradSearchCV(model, {name: WIDE}, scoring=scoring, cv=copies).fit(X[repeated], y[repeated])
    assert weighted.best_params_[name] == pytest.approx(longer.best_params_[name], rel=1e-7)
    assert weighted.best_score_ == pytest.approx(longer.best_score_, rel=1e-7)


def test_pipelines_pass_their_own_fit_parameters(diabetes, rng):
    X, y = diabetes
    weight = rng.integers(1, 3, len(y)).astype(float)
    pipe = make_pipeline(StandardScaler(), Ridge())
    search = HypergradSearchCV(pipe, {"ridge__alpha": WIDE}, cv=3).fit(X, y, ridge__sample_weight=weight)
    plain = HypergradSearchCV(pipe, {"ridge__alpha": WIDE}, cv=3).fit(X, y)
    assert search.best_params_ != plain.best_params_
    # routing is off, so the score is not weighted; the search must not weigh it either
    assert -search.trace_["criterion"][-1] == pytest.approx(search.best_score_, rel=1e-9)


def test_text_categories_missing_cells_and_nested_pipelines(diabetes):
    texts = ["a good film", "a bad film", "good good", "bad and worse", "the best", "the worst"] * 10
    y = np.array([1, 0, 1, 0, 1, 0] * 10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BoundaryWarning)
        text = HypergradSearchCV(
            make_pipeline(TfidfVectorizer(), LogisticRegression(**TIGHT)),
            {"logisticregression__C": loguniform(1e-3, 1e2)},
            scoring="neg_log_loss",
        ).fit(texts, y)
    assert -text.trace_["criterion"][-1] == pytest.approx(text.best_score_, rel=1e-4)
    X, y = diabetes
    frame = pd.DataFrame(X[:, :4], columns=list("abcd"))
    frame.iloc[::7, 0] = np.nan
    frame["kind"] = np.array(["x", "y", "z"])[np.arange(len(y)) % 3]
    prepare = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_exclude="number")),
        remainder=make_pipeline(SimpleImputer(), StandardScaler()),
    )
    nested = Pipeline([("prepare", prepare), ("model", Pipeline([("nothing", "passthrough"), ("ridge", Ridge())]))])
    search = never_worse(nested, "model__ridge__alpha", frame, y)
    assert -search.trace_["criterion"][-1] == pytest.approx(search.best_score_, rel=1e-9)


def test_preprocessing_sees_each_folds_training_rows_only(diabetes):
    """A transformer that learns the target: any leak would make the search prefer no penalty."""
    X, y = diabetes
    seen = []

    class Spy(FunctionTransformer):
        def fit(self, X, y=None):
            seen.append(len(X))
            return super().fit(X, y)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        HypergradSearchCV(make_pipeline(Spy(), Ridge()), {"ridge__alpha": WIDE}, cv=3, refit=False).fit(X, y)
    assert len(seen) == 3
    assert set(seen) <= {294, 295}


def test_caching_and_sparse_output(tmp_path, diabetes):
    X, y = diabetes
    pipe = make_pipeline(StandardScaler(), FunctionTransformer(scipy.sparse.csr_array), Ridge(), memory=str(tmp_path))
    cached = HypergradSearchCV(pipe, {"ridge__alpha": WIDE}).fit(X, y)
    plain = HypergradSearchCV(make_pipeline(StandardScaler(), Ridge()), {"ridge__alpha": WIDE}).fit(X, y)
    assert cached.best_params_["ridge__alpha"] == pytest.approx(plain.best_params_["ridge__alpha"], rel=1e-3)


def test_folds_of_a_mixed_space_share_their_preprocessing(diabetes):
    X, y = diabetes
    count = []

    def counted(X):
        count.append(1)
        return X

    pipe = make_pipeline(FunctionTransformer(counted), Ridge())
    space = {"ridge__alpha": WIDE, "ridge__fit_intercept": [True, False]}
    HypergradSearchCV(pipe, space, cv=3, refit=False).fit(X, y)
    # once per fold for training and for test rows, and not again when both winners are scored
    assert len(count) == 2 * 3
    seen = []

    def looks_inside(estimator, X, y):
        seen.append([name for name, _ in estimator.steps])
        return estimator.score(X, y)

    HypergradSearchCV(pipe, space, cv=3, refit=False, scoring=looks_inside, max_steps=1).fit(X, y)
    assert len(count) > 4 * 3
    assert all(names == ["functiontransformer", "ridge"] for names in seen)


def test_frames_of_pandas_and_polars(diabetes):
    X, y = diabetes
    names = [f"c{i}" for i in range(X.shape[1])]
    plain = HypergradSearchCV(Ridge(), {"alpha": WIDE}).fit(X, y)
    for frame in (pd.DataFrame(X, columns=names), pl.DataFrame(X, schema=names)):
        search = HypergradSearchCV(Ridge(), {"alpha": WIDE}).fit(frame, y)
        assert search.best_params_ == plain.best_params_
        assert list(search.feature_names_in_) == names


def test_clone_pickle_repr_and_nesting(diabetes):
    X, y = diabetes
    search = HypergradSearchCV(make_pipeline(PCA(4), Ridge()), {"ridge__alpha": WIDE}, cv=3)
    assert clone(search).get_params()["param_grid"]["ridge__alpha"].support() == (1e-4, 1e4)
    fitted = pickle.loads(pickle.dumps(search)).fit(X, y)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict(X), fitted.predict(X))
    assert len(pickle.dumps(fitted)) < 60_000
    assert "best_estimator_" in fitted._repr_html_()
    assert len(cross_val_score(search, X, y, cv=3)) == 3
    search.set_params(estimator__ridge__fit_intercept=False, tol=1e-3)
    assert search.estimator[-1].fit_intercept is False


def test_everything_kept_is_plain_and_writable(diabetes):
    search = HypergradSearchCV(Ridge(), {"alpha": WIDE}).fit(*diabetes)
    for value in search.trace_.values():
        assert type(value) is np.ndarray
        assert value.flags.writeable
    assert not any("jax" in type(v).__module__ for v in vars(search).values())
    assert not any(name.startswith("_fit") or name in ("_plan", "_outcomes") for name in vars(search))


def test_a_failing_fit_leaves_the_earlier_one_as_it_was(diabetes):
    X, y = diabetes
    search = HypergradSearchCV(Ridge(), {"alpha": WIDE}).fit(X, y)
    before = search.best_params_
    with pytest.raises(ValueError, match="NaN"):
        search.fit(np.where(X > 0.1, np.nan, X), y)
    assert search.best_params_ == before
    assert search.predict(X).shape == y.shape


def test_the_users_data_are_not_written_to(diabetes):
    X, y = (np.array(part) for part in diabetes)
    weight = np.ones(len(y))
    for array in (X, y, weight):
        array.flags.writeable = False
    HypergradSearchCV(Ridge(), {"alpha": WIDE}).fit(X, y, sample_weight=weight)


def test_methods_optimizers_and_criteria_as_objects(diabetes):
    X, y = diabetes
    plain = HypergradSearchCV(Ridge(), {"alpha": WIDE}).fit(X, y)
    other = HypergradSearchCV(
        Ridge(), {"alpha": WIDE}, method=Implicit(LBFGS(), max_steps=500), optimizer=LBFGSB(n_starts=5)
    ).fit(X, y)
    assert other.best_score_ == pytest.approx(plain.best_score_, rel=1e-5)
    absolute = make_scorer(mean_absolute_error, greater_is_better=False)
    judged = HypergradSearchCV(Ridge(), {"alpha": WIDE}, scoring=absolute, criterion="squared_error").fit(X, y)
    assert judged.criterion_ == "squared_error"
    assert (
        judged.best_score_ >= GridSearchCV(Ridge(), {"alpha": GRID[::7]}, scoring=absolute).fit(X, y).best_score_ - 1e-9
    )


def test_multimetric_scoring_and_refit(cancer):
    X, y = cancer
    model = make_pipeline(StandardScaler(), LogisticRegression(**TIGHT))
    space = {"logisticregression__C": WIDE}
    by_name = HypergradSearchCV(model, space, scoring=["neg_log_loss", "accuracy"], refit="neg_log_loss", cv=3).fit(
        X, y
    )
    single = HypergradSearchCV(model, space, scoring="neg_log_loss", cv=3).fit(X, y)
    assert by_name.best_params_ == single.best_params_
    assert "mean_test_accuracy" in by_name.cv_results_
    by_call = HypergradSearchCV(model, space, scoring="accuracy", refit=lambda results: 0, cv=3).fit(X, y)
    assert not hasattr(by_call, "best_score_")
    assert by_call.predict(X).shape == y.shape


def test_a_callable_scorer_sees_the_pipeline_and_the_rows_as_given(diabetes):
    X, y = diabetes
    frame = pd.DataFrame(X, columns=list("abcdefghij"))

    def scorer(estimator, X, y):
        assert list(X.columns) == list("abcdefghij")
        assert type(estimator) is Pipeline
        return -np.mean(np.abs(estimator.predict(X) - y))

    HypergradSearchCV(make_pipeline(StandardScaler(), Ridge()), {"ridge__alpha": WIDE}, scoring=scorer, cv=3).fit(
        frame, y
    )


def test_a_scorer_that_raises_is_error_scores_business(cancer):
    X, y = cancer

    def picky(estimator, X, y):
        raise RuntimeError("no score today")

    search = HypergradSearchCV(LogisticRegression(**TIGHT), {"C": loguniform(1e-3, 1.0)}, scoring=picky, cv=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        search.fit(X[:90, :3], y[:90])
    assert np.isnan(search.best_score_)
    with pytest.raises(RuntimeError, match="no score today"):
        search.set_params(error_score="raise").fit(X[:90, :3], y[:90])


def test_max_time_keeps_the_best_so_far(diabetes):
    with pytest.warns(ConvergenceWarning, match="timeout"):
        search = HypergradSearchCV(Ridge(), {"alpha": WIDE}, max_time=1e-6).fit(*diabetes)
    assert search.status_ == "timeout"
    assert not search.converged_
    assert np.isfinite(search.best_score_)


def test_max_time_is_exceeded_by_one_evaluation_at_most(diabetes):
    search = HypergradSearchCV(Ridge(), {"alpha": WIDE}, n_starts=100_000, max_time=0.2)
    with pytest.warns(ConvergenceWarning, match="timeout"):
        search.fit(*diabetes)
    looked = search.trace_["seconds"][search.trace_["reason"] != "verification"]
    assert 1 < len(looked) < 100_000
    # only the last one may have ended after the time was up
    assert (looked[:-1] <= 0.2).all()


def test_warm_start_begins_at_the_last_optimum(diabetes):
    X, y = diabetes
    search = HypergradSearchCV(Ridge(), {"alpha": WIDE}, warm_start=True).fit(X, y)
    first = search.best_params_["alpha"]
    search.fit(X, y)
    assert np.isclose(search.trace_["alpha"], first, rtol=1e-12).any()
    assert search.best_score_ >= HypergradSearchCV(Ridge(), {"alpha": WIDE}).fit(X, y).best_score_ - 1e-12


def test_verbose_tells_every_evaluation(diabetes, capsys):
    search = HypergradSearchCV(Ridge(), {"alpha": WIDE}, verbose=2).fit(*diabetes)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("[HG]")]
    assert len(lines) in (len(search.trace_["criterion"]) - 1, len(search.trace_["criterion"]))
    assert all(word in lines[0] for word in ("alpha=", "criterion=", "gradient="))


def test_a_solver_that_stops_early_spoils_neither_score_nor_model():
    """What the search compared is what is scored and returned, whatever the estimator's own tolerance is."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 400)) * 30
    y = (X[:, :5].sum(axis=1) + 30 * rng.normal(size=60) > 0).astype(int)
    found = {}
    for tol in (0.5, 1e-10):
        model = LogisticRegression(tol=tol, max_iter=10_000)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BoundaryWarning)
            search = HypergradSearchCV(model, {"C": loguniform(1e-6, 1e2)}, scoring="neg_log_loss", cv=3).fit(X, y)
        found[tol] = search
        assert search.best_estimator_.get_params()["tol"] == tol
        assert "fit" not in vars(search.best_estimator_)
    assert found[0.5].best_score_ == pytest.approx(found[1e-10].best_score_, rel=1e-7)
    own = LogisticRegression(C=found[0.5].best_params_["C"], tol=1e-10, max_iter=10_000).fit(X, y)
    np.testing.assert_allclose(found[0.5].best_estimator_.coef_, own.coef_, rtol=1e-4, atol=1e-7)
    # the estimator is the user's class again: fitting it is fitting it
    refitted = clone(found[0.5].best_estimator_).fit(X, y)
    assert not np.allclose(refitted.coef_, own.coef_, rtol=1e-4)


def test_healthy_data_make_no_noise(cancer, capfd):
    X, y = cancer
    model = make_pipeline(StandardScaler(), LogisticRegression(**TIGHT))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        HypergradSearchCV(model, {"logisticregression__C": WIDE}, scoring="neg_log_loss", cv=3).fit(X, y)
    assert capfd.readouterr() == ("", "")


def test_the_result_is_bitwise_reproducible(cancer):
    X, y = cancer
    model = make_pipeline(StandardScaler(), LogisticRegression(**TIGHT))
    searches = [
        HypergradSearchCV(model, {"logisticregression__C": WIDE}, scoring="neg_log_loss", cv=3, n_jobs=jobs).fit(X, y)
        for jobs in (None, 2)
    ]
    assert searches[0].best_params_ == searches[1].best_params_
    np.testing.assert_array_equal(searches[0].trace_["criterion"], searches[1].trace_["criterion"])


def test_importing_the_package_imports_neither_jax_nor_scikit_learn():
    code = "import sys, skhypergrad; assert not {'jax', 'sklearn'} & set(sys.modules); print(skhypergrad.__version__)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize(
    "how",
    [
        {"method": "implicit", "optimizer": "lbfgsb"},
        {"method": "reverse"},
        {"method": "forward"},
        {"method": "online"},
        {"optimizer": "adam"},
        {"optimizer": "hoag"},
        {"optimizer": HOAG("cubic")},
        {"method": Implicit(Newton(Direct()), linear_solver=Direct())},
        {"method": Reverse(Momentum(2e-3, 0.9), steps=400)},
        {"method": Reverse(Momentum(2e-3, 0.9), steps=400, window=200)},
        {"method": Forward(Momentum(2e-3, 0.9), steps=400)},
    ],
    ids=lambda how: ", ".join(repr(value)[:30] for value in how.values()),
)
@pytest.mark.parametrize("kind", ["ridge", "logistic"])
def test_every_mode_and_optimizer_ends_at_the_same_optimum(kind, how):
    X, y = datasets.load_diabetes(return_X_y=True)
    X = X[:150, :4]
    if kind == "ridge":
        model, space, y = Ridge(), {"ridge__alpha": loguniform(1e-1, 1e3)}, y[:150]
    else:
        model, space, y = LogisticRegression(), {"logisticregression__C": loguniform(1e-3, 1e1)}, y[:150] > 150
    pipeline = make_pipeline(StandardScaler(), model)
    scoring = "r2" if kind == "ridge" else "neg_log_loss"
    usual = HypergradSearchCV(pipeline, space, scoring=scoring, cv=3).fit(X, y)
    other = HypergradSearchCV(pipeline, space, scoring=scoring, cv=3, max_steps=200, **how).fit(X, y)
    (name,) = space
    assert other.status_ == "converged"
    assert np.log(other.best_params_[name]) == pytest.approx(np.log(usual.best_params_[name]), abs=0.02)
    np.testing.assert_allclose(other.best_score_, usual.best_score_, rtol=2e-3)
    assert type(other.best_estimator_) is type(pipeline)


def test_an_unrolled_winner_is_fitted_by_scikit_learn(diabetes):
    X, y = diabetes
    space = {"alpha": loguniform(1e-1, 1e3)}
    found = HypergradSearchCV(Ridge(), space, method=Reverse(Momentum(2e-3, 0.9), steps=5), cv=3).fit(X, y)
    own = Ridge(**found.best_params_).fit(X, y)
    np.testing.assert_allclose(found.best_estimator_.coef_, own.coef_, rtol=1e-12)


def test_a_learning_rate_is_not_a_hyperparameter_of_the_estimator():
    with pytest.raises(ValueError, match="cannot be unrolled"):
        HypergradSearchCV(Ridge(), {"alpha": loguniform(1e-1, 1e3)}, method=Reverse(Newton(), steps=3))


def table(search):
    """All numbers of a search that do not tell the time."""
    kept = {key: value for key, value in search.trace_.items() if key != "seconds"}
    scores = {key: value for key, value in search.cv_results_.items() if not key.endswith("_time")}
    return repr((kept, scores, search.best_params_, search.best_estimator_[-1].coef_.tolist()))


def test_combinations_may_be_searched_in_processes_with_the_same_result(cancer, monkeypatch):
    X, y = cancer
    model = make_pipeline(StandardScaler(), LogisticRegression())
    space = {"logisticregression__C": WIDE, "logisticregression__class_weight": [None, "balanced", {0: 2}, {1: 3}]}
    search = HypergradSearchCV(model, space, cv=3, scoring="neg_log_loss")
    here = table(search.fit(X, y))
    monkeypatch.setattr("skhypergrad.model_selection.search.WORTH_PROCESSES", 0.0)
    assert table(search.set_params(n_jobs=2).fit(X, y)) == here
    with pytest.warns(ConvergenceWarning, match="3 of 4 combinations"):
        search.set_params(max_time=1e-6).fit(X, y)


def test_listed_candidates_are_fitted_in_processes_beside_a_continuous_search(diabetes):
    grids = [{"alpha": WIDE}, {"alpha": [1.0, 2.0]}]
    alone = HypergradSearchCV(Ridge(), grids, cv=3).fit(*diabetes)
    both = HypergradSearchCV(Ridge(), grids, cv=3, n_jobs=2).fit(*diabetes)
    assert (alone.cv_results_["mean_test_score"] == both.cv_results_["mean_test_score"]).all()


def test_another_process_finds_the_same_bits(cancer):
    X, y = cancer
    script = """
        import numpy as np
        from sklearn.datasets import load_breast_cancer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        from skhypergrad import HypergradSearchCV, Real
        X, y = load_breast_cancer(return_X_y=True)
        model = make_pipeline(StandardScaler(), LogisticRegression())
        search = HypergradSearchCV(model, {"logisticregression__C": Real(1e-4, 1e4)}, cv=3, scoring="neg_log_loss")
        search.fit(X, y)
        print(search.best_params_["logisticregression__C"].hex(), search.best_score_.hex())
    """
    told = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    model = make_pipeline(StandardScaler(), LogisticRegression())
    for n_jobs in (None, 2):
        options = {"cv": 3, "scoring": "neg_log_loss", "n_jobs": n_jobs}
        search = HypergradSearchCV(model, {"logisticregression__C": Real(1e-4, 1e4)}, **options).fit(X, y)
        mine = f"{search.best_params_['logisticregression__C'].hex()} {float(search.best_score_).hex()}"
        assert told.stdout.strip() == mine
