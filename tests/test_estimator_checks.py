"""Every scikit-learn estimator check passes for searches with continuous and with listed spaces; none is excused."""

import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from skhypergrad import HypergradSearchCV, Real

# Real rather than loguniform: its repr, part of the tests' names, is the same in every process
SPACES = [Real(1e-3, 1e3), [0.1, 1.0]]
MODELS = [
    (Ridge(), "alpha"),
    (LogisticRegression(), "C"),
    (make_pipeline(PCA(), Ridge()), "ridge__alpha"),
    (make_pipeline(PCA(), LogisticRegression()), "logisticregression__C"),
]


@pytest.fixture(autouse=True)
def nothing_global_is_touched():
    """Not asked here: the checks, and PCA within them, draw from NumPy's global generator themselves."""


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(
    [HypergradSearchCV(model, {name: space}, cv=2, error_score="raise") for model, name in MODELS for space in SPACES]
)
def test_estimator_checks(estimator, check):
    check(estimator)
