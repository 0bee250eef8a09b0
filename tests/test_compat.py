"""The private names of scikit-learn that the package stands on are there and as expected."""

import inspect

import pytest
from sklearn.metrics import check_scoring, get_scorer
from sklearn.model_selection import GridSearchCV

from skhypergrad.adapters import _compat


def test_the_search_base_has_the_hooks_that_are_overridden():
    base = _compat.SearchBase
    assert issubclass(GridSearchCV, base)
    for hook in (
        "_run_search",
        "_check_input_parameters",
        "_get_routed_params_for_fit",
        "_get_scorers",
        "_select_best_index",
    ):
        assert callable(getattr(base, hook))
    assert list(inspect.signature(base._check_input_parameters).parameters) == ["self", "X", "y", "split_params"]
    assert "callback_ctx" in inspect.signature(GridSearchCV._run_search).parameters


def test_scorers_can_be_recognised():
    from sklearn.linear_model import Ridge
    from sklearn.metrics import mean_squared_error, r2_score

    assert _compat.scorer_parts(get_scorer("neg_mean_squared_error")) == (mean_squared_error, -1, {})
    assert _compat.scorer_parts(get_scorer("r2")) == (r2_score, 1, {})
    assert _compat.scorer_parts(lambda estimator, X, y: 0.0) is None
    assert _compat.is_default_scorer(check_scoring(Ridge()))
    assert not _compat.is_default_scorer(get_scorer("r2"))


def test_validation_helpers_have_their_signatures():
    assert {"sample_weight", "X", "dtype", "ensure_non_negative"} <= set(
        inspect.signature(_compat.check_sample_weight).parameters
    )
    assert list(inspect.signature(_compat.check_method_params).parameters)[:2] == ["X", "params"]


def test_an_estimator_can_be_asked_to_check_its_parameters():
    from sklearn.linear_model import Ridge

    _compat.validate_params(Ridge())
    with pytest.raises(ValueError, match="'alpha' parameter of Ridge"):
        _compat.validate_params(Ridge(alpha="much"))
