"""The simplest candidate that is as good as the best one, as far as the folds can tell.

Source: Breiman, Friedman, Olshen & Stone (1984), section 3.4.3; Hastie, Tibshirani & Friedman, The Elements of Statistical
Learning, section 7.10.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Towards which end of these hyperparameters a model is simpler.
SIMPLER = {"alpha": "largest", "C": "smallest"}


@dataclass(frozen=True)
class OneStandardError:
    """The rule as an object; made by `one_standard_error`, which describes it."""

    parameter: str
    simplest: str
    metric: str = "score"

    def __call__(self, cv_results) -> int:
        means = np.asarray(cv_results[f"mean_test_{self.metric}"], float)
        if np.isnan(means).all():
            return 0
        best = int(np.nanargmax(means))
        values = cv_results[f"param_{self.parameter}"]
        masked = np.ma.getmaskarray(values)
        strength = np.array([np.nan if gone else float(v) for v, gone in zip(values.data, masked, strict=True)])
        # larger is simpler from here on
        strength = strength if self.simplest == "largest" else -strength
        good = (means >= self.least(cv_results, best)) & ~np.isnan(strength)
        if not good.any():
            return best
        # of equally simple ones the better
        return int(max(np.flatnonzero(good), key=lambda i: (strength[i], means[i])))

    def least(self, cv_results, best: int) -> float:
        """The mean score that counts as equally good: the best less its standard error over the splits."""
        splits = [key for key in cv_results if key.startswith("split") and key.endswith(f"_test_{self.metric}")]
        scores = np.array([cv_results[key][best] for key in splits], float)
        return float(np.mean(scores) - standard_error(scores))


def standard_error(scores) -> float:
    """Standard error of the mean of the splits' scores, as if they were independent; 0 for a single split."""
    scores = np.asarray(scores, float)
    return float(np.std(scores, ddof=1) / np.sqrt(len(scores))) if len(scores) > 1 else 0.0


def one_standard_error(parameter: str, *, simplest: str | None = None, metric: str = "score") -> OneStandardError:
    """A rule for `refit=`: the simplest candidate whose mean score is within one standard error of the best one's.

    Works in `HypergradSearchCV` and in scikit-learn's own searches. Among listed candidates it chooses one of them. Where
    `HypergradSearchCV` tunes `parameter` continuously, the search goes on from the optimum towards simpler models, to where
    the score has fallen by one standard error, and `cv_results_` has a row for either.

    Parameters
    ----------
    parameter : str
        Name of the hyperparameter in `param_grid` that makes a model simpler or not, for instance "ridge__alpha".
    simplest : {"largest", "smallest"}, default=None
        Which values of it make for simpler models. None knows "alpha" (largest) and "C" (smallest).
    metric : str, default="score"
        Name of the scorer that decides, when there are several.

    Returns
    -------
    OneStandardError
        Callable, cv_results -> index. The standard error is that of the mean over the splits, taken as independent:
        `std_test / sqrt(n_splits - 1)`. As with every callable `refit`, the search then has no `best_score_`.

    Raises
    ------
    ValueError
        When `simplest` is neither given nor known.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.linear_model import Ridge
    >>> from sklearn.model_selection import GridSearchCV
    >>> from skhypergrad import one_standard_error
    >>> X, y = load_diabetes(return_X_y=True)
    >>> grid = {"alpha": [0.001, 0.01, 0.1, 1.0]}
    >>> GridSearchCV(Ridge(), grid, refit=one_standard_error("alpha")).fit(X, y).best_params_
    {'alpha': 0.1}
    """
    last = parameter.rsplit("__", 1)[-1]
    simplest = simplest or SIMPLER.get(last)
    if simplest not in ("largest", "smallest"):
        raise ValueError(
            f"Say which values of {parameter!r} make for simpler models: simplest='largest' or simplest='smallest', "
            f"got {simplest!r}."
        )
    return OneStandardError(parameter, simplest, metric)
