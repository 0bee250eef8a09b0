"""Texts that were vectorised once are what each fold's vectoriser makes of them."""

import numpy as np
import pytest
import scipy.sparse
from scipy.stats import loguniform
from sklearn.base import clone
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler

from skhypergrad import HypergradSearchCV
from skhypergrad.adapters import linear_task, task
from skhypergrad.adapters.text import vectorized

WORDS = np.array([f"word{i}" for i in range(40)])


@pytest.fixture
def texts(rng):
    """Some 60 texts of words that become rarer and rarer, two kinds of them; one has no word at all."""
    y = rng.integers(0, 2, 60)
    weights = 1 / np.arange(1, 41) ** 1.2
    rows = [rng.choice(40, rng.integers(3, 20), p=w / w.sum()) for w in weights * (1 + np.outer(y, np.arange(40) % 3))]
    found = [" ".join(WORDS[row]) for row in rows]
    found[7] = "?"
    return np.array(found), y


HEADS = [
    [TfidfVectorizer()],
    [TfidfVectorizer(sublinear_tf=True, smooth_idf=False, norm="l1", min_df=2)],
    [TfidfVectorizer(norm=None, ngram_range=(1, 2))],
    [TfidfVectorizer(use_idf=False, analyzer="char")],
    [TfidfVectorizer(vocabulary=WORDS[:30].tolist())],
    [CountVectorizer(binary=True)],
    [CountVectorizer(min_df=3), TfidfTransformer()],
]


@pytest.mark.parametrize("head", HEADS, ids=str)
def test_rows_are_those_of_a_vectorizer_that_was_fitted_on_the_fold(head, texts):
    X, y = texts
    pipeline = make_pipeline(*head, LogisticRegression())
    splits = [*StratifiedKFold(4, shuffle=True, random_state=0).split(X, y), (np.arange(60), np.arange(1))]
    found = vectorized(pipeline, X, y, splits, {})
    everything = found.folds[-1].pipeline[:-1]
    names = everything.get_feature_names_out()
    for k, (train, _) in enumerate(splits):
        fitted = clone(pipeline).fit(X[train], y[train])[:-1]
        known = {word: i for i, word in enumerate(fitted.get_feature_names_out())}
        expected = np.zeros((60, len(names)))
        theirs = fitted.transform(X).toarray()
        for j, word in enumerate(names):
            if word in known:
                expected[:, j] = theirs[:, known[word]]
        assert known.keys() <= set(names)
        np.testing.assert_allclose(found.rows(k, np.arange(60)).toarray(), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    "head",
    [
        [TfidfVectorizer(min_df=0.1)],
        [TfidfVectorizer(max_df=0.5)],
        [TfidfVectorizer(max_df=40)],
        [CountVectorizer(max_features=10)],
        [TfidfVectorizer(), MaxAbsScaler()],
        [TfidfVectorizer(min_df=46)],
        [type("Own", (TfidfVectorizer,), {})()],
    ],
    ids=str,
)
def test_what_cannot_be_told_from_all_texts_is_run(head, texts):
    X, y = texts
    splits = list(StratifiedKFold(4).split(X, y))
    common = np.array([text + " always" for text in X])
    assert vectorized(make_pipeline(*head, Ridge()), common, y, splits, {}) is None


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("model", [LogisticRegression(), Ridge()], ids=lambda m: type(m).__name__)
def test_a_search_is_the_same_as_with_a_vectorizer_for_each_fold(model, dense, texts, monkeypatch):
    X, y = texts
    pipeline = make_pipeline(TfidfVectorizer(), model)
    classifies = isinstance(model, LogisticRegression)
    name, scoring = ("logisticregression__C", "neg_log_loss") if classifies else ("ridge__alpha", "r2")
    space = {name: loguniform(1e-2, 1e2)}
    if not dense:
        monkeypatch.setattr(linear_task, "DENSE_CELLS", 0)
    cv = StratifiedKFold(4)
    asked = []
    monkeypatch.setattr(task, "vectorized", lambda *args: asked.append(1) or vectorized(*args))
    search = HypergradSearchCV(pipeline, space, scoring=scoring, cv=cv, error_score="raise")
    once = clone(search).fit(X, y)
    assert asked
    again = clone(search).set_params(return_estimator=True).fit(X, y)
    assert len(asked) == 1
    assert once.best_params_[name] == pytest.approx(again.best_params_[name], rel=1e-3)
    assert once.best_score_ == pytest.approx(again.best_score_, rel=1e-6)
    best = clone(pipeline).set_params(**once.best_params_)
    best[-1].set_params(tol=1e-10, max_iter=10_000)
    assert once.best_score_ == pytest.approx(cross_val_score(best, X, y, scoring=scoring, cv=cv).mean(), rel=1e-6)
    fitted = best.fit(X, y)
    np.testing.assert_allclose(once.best_estimator_[-1].coef_, fitted[-1].coef_, rtol=1e-4, atol=1e-6)
    assert once.best_estimator_[0].vocabulary_ == fitted[0].vocabulary_
    assert scipy.sparse.issparse(once.best_estimator_[0].transform(X))
