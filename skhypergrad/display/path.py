"""The validation curve of one hyperparameter, and the way of the search along it."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import CubicHermiteSpline, PchipInterpolator

from skhypergrad.bilevel import Real
from skhypergrad.display.drawing import BLUE, GREY, SKY, Picture, label, mark, scale_axis
from skhypergrad.display.reading import evaluated
from skhypergrad.model_selection.rules import standard_error

# What is shown beyond the bounds, as a share of the interval.
MARGIN = 0.04


class PathDisplay(Picture):
    """The validation curve of one hyperparameter, from the values and slopes that a search evaluated; nothing is fitted.

    The line is the cubic Hermite interpolation of the criterion on the free scale, which takes the slopes into account; the
    thin lines are the folds, by monotone cubics without slopes. The band reaches one standard error of the mean over the
    folds, taken as independent, above the lowest value.

    Parameters
    ----------
    points : Evaluated
        What the search evaluated, of one coordinate.

    Attributes
    ----------
    lines_ : list of matplotlib Line2D, the mean and then the folds
    band_ : matplotlib Rectangle, one standard error above the lowest value
    marks_ : list of matplotlib artists, the evaluated points
    ax_, figure_ : matplotlib Axes and Figure
    """

    def __init__(self, *, points):
        self.points = points

    @classmethod
    def from_search(cls, search, parameter=None, *, ax=None, line_kw=None):
        """Draw the trace of a fitted search.

        Parameters
        ----------
        search : HypergradSearchCV
            Fitted, with one continuous value in its best candidate. Of several combinations of listed values, the winner's is
            drawn.
        parameter : str, default=None
            Name of the hyperparameter, to be sure that it is the one.
        ax : matplotlib Axes, default=None
            None for a new figure.
        line_kw : dict, default=None
            For the `Axes.plot` of the mean.

        Returns
        -------
        PathDisplay

        Raises
        ------
        NotFittedError, ValueError
            ValueError for anything but one continuous value, and for a search of a single point.
        """
        points = evaluated(search)
        if len(points.names) != 1:
            raise ValueError(
                f"A curve shows one continuous value, and this search has {len(points.names)}: {', '.join(points.names)}. "
                "Draw ContourDisplay for two of them, SensitivityDisplay for any number."
            )
        if parameter is not None and parameter.rsplit("__", 1)[-1] != points.names[0]:
            raise ValueError(f"This search has tuned {points.names[0]!r} continuously, and not {parameter!r}.")
        if len(points.criterion) < 2:
            raise ValueError("One evaluated point makes no curve; use the default optimizer, or Sweep(20).")
        return cls(points=points).plot(ax, line_kw=line_kw)

    def curve(self, theta) -> np.ndarray:
        """The interpolated criterion, mean over the folds, at `theta` on the free scale; NaN beyond the evaluated points."""
        order = np.argsort(self.points.theta[:, 0])
        x, slopes = self.points.theta[order, 0], self.points.gradient[order, 0]
        return CubicHermiteSpline(x, self.points.criterion[order], slopes, extrapolate=False)(theta)

    def plot(self, ax=None, *, line_kw=None):
        """Draw; parameters as in `from_search`, returns self."""
        ax, points = self._begin(ax), self.points
        (real,), order = points.reals, np.argsort(points.theta[:, 0])
        x = points.theta[order, 0]
        fine = np.union1d(np.linspace(x[0], x[-1], 500), x)
        values = real.to_hyper(fine)
        folds = PchipInterpolator(x, points.splits[order])(fine)
        look = {"c": BLUE, "lw": 2, "label": "mean of the folds"} | (line_kw or {})
        self.lines_ = ax.plot(values, self.curve(fine), **look)
        self.lines_ += ax.plot(values, folds, c=GREY, lw=0.7, alpha=0.6)
        self.lines_[1].set_label("folds")
        lowest = points.criterion[points.best]
        error = standard_error(points.splits[points.best])
        self.band_ = ax.axhspan(lowest, lowest + error, color=SKY, alpha=0.35, lw=0, label="1 standard error")
        self.marks_ = mark(ax, points, points.values[:, 0], points.criterion)

        ax.set(xlabel=f"hyperparameter {points.names[0]}", ylabel=label(points.called), xscale=real.scale)
        scale_axis(ax, "y", np.concatenate([folds.ravel(), points.criterion]))
        for bound, beyond in zip((real.low, real.high), _widened(real), strict=True):
            ax.axvspan(bound, beyond, color=GREY, alpha=0.25, lw=0)
        ax.set_xlim(_widened(real))
        ax.legend(frameon=False)
        return self


def _widened(real: Real) -> tuple[float, float]:
    """The interval and a margin, on its own scale."""
    if real.scale == "log":
        ratio = (real.high / real.low) ** MARGIN
        return real.low / ratio, real.high * ratio
    width = MARGIN * (real.high - real.low)
    return real.low - width, real.high + width
