"""The best value so far, of one search or several."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
from sklearn.base import is_regressor
from sklearn.utils.validation import check_is_fitted

from skhypergrad.adapters.base import lookup
from skhypergrad.adapters.scoring import CRITERIA, criterion_of
from skhypergrad.display.drawing import CALLED, COLOURS, Picture, label, scale_axis
from skhypergrad.display.reading import winner_of

X_LABELS = {"seconds": "time (s)", "steps": "evaluations", "fits": "fits (evaluations times folds)"}


class ConvergenceDisplay(Picture):
    """The best value so far, against time or work, of one search or several.

    Parameters
    ----------
    curves : dict of str to ndarray of shape (2, n_evaluations)
        For every search, x and the smallest criterion so far.
    x : {"seconds", "steps", "fits"}
    called : str
        Name of the criterion, as in `HypergradSearchCV.criterion_`.

    Attributes
    ----------
    lines_ : list of matplotlib Line2D, one for every search
    ax_, figure_ : matplotlib Axes and Figure

    Examples
    --------
    >>> from scipy.stats import loguniform
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.linear_model import Ridge
    >>> from skhypergrad import ConvergenceDisplay, HypergradSearchCV
    >>> X, y = load_diabetes(return_X_y=True)
    >>> search = HypergradSearchCV(Ridge(), {"alpha": loguniform(1e-4, 1e4)}).fit(X, y)
    >>> display = ConvergenceDisplay.from_searches(search, x="steps")
    """

    def __init__(self, *, curves, x, called):
        self.curves = curves
        self.x = x
        self.called = called

    @classmethod
    def from_searches(cls, searches, *, x="seconds", gap=False, ax=None, line_kw=None):
        """Draw fitted searches in one picture; give all of them the same data and the same splits.

        Parameters
        ----------
        searches : search, list of searches, or dict of str to search
            Fitted `HypergradSearchCV`, `GridSearchCV` or `RandomizedSearchCV`. The keys are the names in the legend.
        x : {"seconds", "steps", "fits"}, default="seconds"
            "seconds": of a continuous search, those of its evaluations, compilation included, preprocessing, final scoring
            and refit not. Of listed candidates, the time of fits and scores in a single process, preprocessing included.
            "steps": evaluations or candidates. "fits": these times the number of folds; an evaluation of a continuous
            search counts as one fit a fold, though it is warm-started and brings the derivative along.
        gap : bool, default=False
            Whether the difference from the best value of all is drawn, on a log axis; where there is none, the line ends at
            the bottom. Evaluations of low accuracy count as they are.
        ax : matplotlib Axes, default=None
            None for a new figure.
        line_kw : dict, default=None
            For `Axes.plot`.

        Returns
        -------
        ConvergenceDisplay

        Raises
        ------
        NotFittedError, ValueError
            ValueError for searches that do not measure the same thing, and for an unknown `x`.
        """
        if x not in X_LABELS:
            raise ValueError(f"x must be one of {[*X_LABELS]}, got {x!r}.")
        searches = _named(searches)
        measured = {name: _measured(search) for name, search in searches.items()}
        (called, _), *others = {*measured.values()}
        if others or called is None:
            told = ", ".join(
                f"{name} has {what or f'scoring={searches[name].scoring!r}'}" for name, (what, _) in measured.items()
            )
            raise ValueError(
                f"These searches cannot share an axis: {told}. A continuous search is drawn by the criterion it descends, "
                "listed candidates by their score; these are the same numbers, up to the sign, for scoring="
                f"{', '.join(repr(scoring) for *_, scoring in CALLED.values())}, except with classifiers that are fitted to "
                "squared errors. Give all searches the same one of these."
            )
        curves = {name: _curve(search, x) for name, search in searches.items()}
        return cls(curves=curves, x=x, called=called).plot(ax, gap=gap, line_kw=line_kw)

    def plot(self, ax=None, *, gap=False, line_kw=None):
        """Draw; parameters as in `from_searches`, returns self."""
        ax = self._begin(ax)
        least = min(np.nanmin(best) for _, best in self.curves.values())
        self.lines_ = []
        for (name, (x, best)), colour in zip(self.curves.items(), itertools.cycle(COLOURS)):
            look = {"c": colour, "lw": 2, "drawstyle": "steps-post", "marker": "o", "markevery": [-1], "label": name}
            self.lines_ += ax.plot(x, best - least if gap else best, **(look | (line_kw or {})))
        if gap:
            # a line that reaches a gap of zero ends at the bottom
            ax.set_yscale("log", nonpositive="clip")
            for line in self.lines_:
                ends = line.get_xdata()[-1:], [0 if line.get_ydata()[-1] <= 0 else np.nan]
                ax.plot(*ends, "v", c=line.get_color(), ms=8, transform=ax.get_xaxis_transform(), clip_on=False)
        else:
            scale_axis(ax, "y", np.concatenate([best for _, best in self.curves.values()]))
        scale_axis(ax, "x", np.concatenate([x for x, _ in self.curves.values()]))
        what = "{}, gap to the best of all" if gap else "best {} so far"
        ax.set(xlabel=X_LABELS[self.x], ylabel=label(self.called, what))
        ax.legend(frameon=False)
        return self


def _named(searches) -> dict:
    if isinstance(searches, dict):
        return searches
    searches = searches if isinstance(searches, (list, tuple)) else [searches]
    names = [type(search).__name__ for search in searches]
    return {f"{n} {i}" if names.count(n) > 1 else n: s for i, (n, s) in enumerate(zip(names, searches, strict=True), 1)}


def _measured(search) -> tuple[str | None, bool]:
    """The criterion that a search's numbers are, up to the sign, and whether of predictions; None if unknown."""
    check_is_fitted(search, "cv_results_")
    if hasattr(search, "trace_"):
        return search.criterion_, lookup(winner_of(search).estimator).criteria_are_scores
    scorer = search.scorer_.get(search.refit) if search.multimetric_ else search.scorer_
    scores = [name for name in CRITERIA if name != "r2" or is_regressor(search.estimator)]
    return criterion_of(scorer, SimpleNamespace(criteria=scores, criteria_are_scores=True)), True


def _curve(search, x: str) -> np.ndarray:
    """x and the best so far, (2, n_evaluations)."""
    if hasattr(search, "trace_"):
        trace = search.trace_
        values, seconds = trace["criterion"], trace["seconds"]
        # the clock begins anew with every combination of listed values
        begins = np.diff(trace.get("candidate", np.zeros(len(values))), prepend=0) != 0
        begins[:1] = False
        seconds = seconds + np.cumsum(np.where(begins, np.roll(seconds, 1), 0.0))
    else:
        results = search.cv_results_
        values = -results[f"mean_test_{search.refit if search.multimetric_ else 'score'}"]
        seconds = np.cumsum(results["mean_fit_time"] + results["mean_score_time"]) * search.n_splits_
    steps = np.arange(1.0, len(values) + 1)
    taken = {"seconds": seconds, "steps": steps, "fits": steps * search.n_splits_}[x]
    return np.stack([taken, np.fmin.accumulate(values)])
