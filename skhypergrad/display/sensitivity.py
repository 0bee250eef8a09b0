"""What a hyperparameter alone changes, near the chosen point."""

from __future__ import annotations

import numpy as np

from skhypergrad.display.drawing import BLACK, BLUE, GREY, ORANGE, SKY, Picture, label, legend_above
from skhypergrad.display.reading import evaluated, swept
from skhypergrad.model_selection.rules import standard_error


class SensitivityDisplay(Picture):
    """How much the criterion rises when one hyperparameter alone is moved away from the chosen point.

    Local: it says nothing of larger moves, or of several hyperparameters at once. The dashed line is the standard error of
    the criterion over the folds: what the one-standard-error rule takes for equally good. Differences on the same folds are
    known more accurately than that.

    Parameters
    ----------
    points : Evaluated
        What the search evaluated.
    rises : ndarray of shape (2, n_coordinates)
        The criterion at the smaller and at the larger value, less that at the chosen point.
    clipped : ndarray of bool of shape (2, n_coordinates)
        Whether a bound made the move shorter.
    factor : float
        What was divided and multiplied by on the log scale.

    Attributes
    ----------
    bars_ : list of two matplotlib BarContainer, for the smaller and for the larger values
    line_ : matplotlib Line2D, the standard error
    ax_, figure_ : matplotlib Axes and Figure
    """

    def __init__(self, *, points, rises, clipped, factor):
        self.points = points
        self.rises = rises
        self.clipped = clipped
        self.factor = factor

    @classmethod
    def from_search(cls, search, X, y, *, factor=np.e, fit_params=None, ax=None, bar_kw=None):
        """Evaluate the criterion on either side of the chosen point, by the search itself, and draw.

        Parameters
        ----------
        search : HypergradSearchCV
            Fitted, with continuous values in its best candidate; listed ones stay as they are there. A splitter without a
            fixed `random_state` draws other folds than it did for the search.
        X, y : as in the search's `fit`
        factor : float, default=e
            What values on the log scale are divided and multiplied by, larger than 1. Those on the linear scale are moved by
            a tenth of their interval. Bounds are not crossed.
        fit_params : dict, default=None
            What the search's `fit` was given besides X and y.
        ax : matplotlib Axes, default=None
            None for a new figure.
        bar_kw : dict, default=None
            For `Axes.barh`.

        Returns
        -------
        SensitivityDisplay

        Raises
        ------
        NotFittedError, ValueError
            ValueError for a factor of 1 or less, and where nothing continuous was searched.
        """
        if not factor > 1:
            raise ValueError(f"factor must be larger than 1, got {factor!r}.")
        points = evaluated(search)
        low, high = points.bounds
        here = points.theta[points.chosen]
        steps = np.diag([np.log(factor) if real.scale == "log" else 1.0 for real in points.reals])
        wanted = here + np.stack([-steps, steps])
        moved = np.clip(wanted, low, high)
        folds = swept(search, points, np.vstack([here, *moved]), X, y, fit_params)
        rises = folds[1:].mean(axis=1).reshape(2, -1) - folds[0].mean()
        clipped = np.any(moved != wanted, axis=2)
        return cls(points=points, rises=rises, clipped=clipped, factor=factor).plot(ax, bar_kw=bar_kw)

    def plot(self, ax=None, *, bar_kw=None):
        """Draw; parameters as in `from_search`, returns self."""
        points, order = self.points, np.argsort(np.nanmax(np.abs(self.rises), axis=0))
        ax, places = self._begin(ax, figsize=(6.4, 1.9 + 0.45 * len(order))), np.arange(len(order))
        scales, times = {real.scale for real in points.reals}, "e" if self.factor == np.e else f"{self.factor:g}"
        words = (
            (0.2, SKY, f"divided by {times}", "a tenth less"),
            (-0.2, BLUE, f"multiplied by {times}", "a tenth more"),
        )
        self.bars_ = []
        for side, (row, colour, on_log, on_linear) in enumerate(words):
            moves = [on_log] * ("log" in scales) + [f"{on_linear} of the interval"] * ("linear" in scales)
            look = {"height": 0.36, "color": colour, "label": " or ".join(moves)} | (bar_kw or {})
            self.bars_.append(ax.barh(places + row, self.rises[side, order], **look))
            for k in np.flatnonzero(self.clipped[side, order]):
                at, look = (max(self.rises[side, order[k]], 0), places[k] + row), {"va": "center", "color": GREY}
                ax.annotate("to the bound", at, (4, 0), textcoords="offset points", fontsize="small", **look)
        error = standard_error(points.splits[points.chosen])
        self.line_ = ax.axvline(error, c=ORANGE, ls="--", lw=1.6, label="1 standard error")
        ax.axvline(0, c=BLACK, lw=0.8)
        values = points.values[points.chosen]
        ax.set_yticks(places, [f"{points.names[k]} = {values[k]:.3g}" for k in order])
        ax.set(xlabel=label(points.called, "rise of the {}"))
        ax.set_title("Local sensitivity: one hyperparameter moved at a time", pad=24)
        # room for what is written beside the longest bar
        ax.margins(x=0.15)
        legend_above(ax)
        return self
