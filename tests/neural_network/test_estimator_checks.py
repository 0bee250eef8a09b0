"""Every scikit-learn estimator check passes; none is excused."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from skhypergrad import BilevelMLPClassifier


@pytest.fixture(autouse=True)
def nothing_global_is_touched():
    """Not asked here: the checks draw from NumPy's global generator themselves."""


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks([BilevelMLPClassifier((10,), max_iter=100, random_state=0)])
def test_estimator_checks(estimator, check):
    check(estimator)
