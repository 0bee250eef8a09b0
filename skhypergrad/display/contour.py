"""The criterion over two hyperparameters, and the way of the search on it."""

from __future__ import annotations

import numpy as np

from skhypergrad.display.drawing import BLUE, ORANGE, Picture, label, legend_above, mark, shades
from skhypergrad.display.reading import evaluated, swept, to_hyper

# Length of the arrows, as a share of the shorter side.
ARROW = 0.07


class ContourDisplay(Picture):
    """The criterion over two hyperparameters, and the way of the search on it.

    An arrow shows the direction of minus the hypergradient on the free scale; all have the same length. They are left out
    close to the chosen point, where the direction means little, and close to one another.

    Parameters
    ----------
    points : Evaluated
        What the search evaluated, of two coordinates.
    grid : ndarray of shape (2, n)
        The values of either hyperparameter, natural scale, in the order of `points.names`.
    criterion : ndarray of shape (n, n)
        The criterion there, the first hyperparameter along the rows; NaN where it could not be solved.
    parameters : list of two str
        What is along the horizontal and the vertical axis.

    Attributes
    ----------
    contour_ : matplotlib QuadContourSet
    colorbar_ : matplotlib Colorbar
    lines_ : list of matplotlib Line2D, one for every descent
    arrows_ : list of matplotlib Annotation
    marks_ : list of matplotlib artists, the evaluated points
    ax_, figure_ : matplotlib Axes and Figure
    """

    def __init__(self, *, points, grid, criterion, parameters):
        self.points = points
        self.grid = grid
        self.criterion = criterion
        self.parameters = parameters

    @classmethod
    def from_search(cls, search, X, y, *, parameters=None, resolution=15, fit_params=None, ax=None, contour_kw=None):
        """Evaluate the criterion on a lattice, by the search itself, and draw.

        Parameters
        ----------
        search : HypergradSearchCV
            Fitted, with two continuous values in its best candidate; listed ones stay as they are there. A splitter without
            a fixed `random_state` draws other folds than it did for the search.
        X, y : as in the search's `fit`
        parameters : sequence of two str, default=None
            Columns of `trace_`, for the horizontal and the vertical axis. None for the order of `param_grid`.
        resolution : int, default=15
            Values of each hyperparameter, from bound to bound: `resolution ** 2` evaluations.
        fit_params : dict, default=None
            What the search's `fit` was given besides X and y.
        ax : matplotlib Axes, default=None
            None for a new figure.
        contour_kw : dict, default=None
            For `Axes.contourf`.

        Returns
        -------
        ContourDisplay

        Raises
        ------
        NotFittedError, ValueError
            ValueError for anything but two continuous values, and for other names than theirs.
        """
        points = evaluated(search)
        if len(points.names) != 2:
            raise ValueError(
                f"A map shows two continuous values, and this search has {len(points.names)}: {', '.join(points.names)}. "
                f"Draw {'PathDisplay' if len(points.names) == 1 else 'SensitivityDisplay'}."
            )
        parameters = points.names if parameters is None else [*parameters]
        if sorted(parameters) != sorted(points.names):
            raise ValueError(f"parameters must be {points.names[0]!r} and {points.names[1]!r}, got {parameters!r}.")
        theta = np.linspace(points.bounds[0], points.bounds[1], resolution)
        lattice = np.stack(np.meshgrid(*theta.T, indexing="ij"), axis=-1).reshape(-1, 2)
        criterion = swept(search, points, lattice, X, y, fit_params).mean(axis=1).reshape(resolution, resolution)
        grid = to_hyper(points.reals, theta).T
        return cls(points=points, grid=grid, criterion=criterion, parameters=parameters).plot(ax, contour_kw=contour_kw)

    def plot(self, ax=None, *, contour_kw=None):
        """Draw; parameters as in `from_search`, returns self."""
        ax, points = self._begin(ax, figsize=(6.4, 5)), self.points
        order = [points.names.index(name) for name in self.parameters]
        low, high = np.nanmin(self.criterion), np.nanmax(self.criterion)
        # closer where the criterion is low: equal steps would leave the optimum in one colour
        look = {"levels": low + (high - low) * np.linspace(0, 1, 13) ** 2, "cmap": shades("w", "#707070")}
        surface = *self.grid[order], self.criterion.transpose(order).T
        self.contour_ = ax.contourf(*surface, **(look | (contour_kw or {})))
        ax.contour(*surface, self.contour_.levels, colors="w", linewidths=0.5)
        look = {"label": label(points.called), "format": "%.3g", "aspect": 30}
        self.colorbar_ = self.figure_.colorbar(self.contour_, ax=ax, **look)

        x, y = points.values.T[order]
        self.lines_ = [ax.plot(x[path], y[path], c=BLUE, lw=1.2, zorder=3)[0] for path in points.descents]
        look = {"arrowstyle": "-|>", "color": ORANGE, "lw": 1.4, "shrinkA": 0, "shrinkB": 0}
        arrows = self._directions()
        self.arrows_ = [ax.annotate("", head[order], tail[order], arrowprops=look, zorder=5) for tail, head in arrows]
        self.marks_ = mark(ax, points, x, y)

        for which, i in zip("xy", order, strict=True):
            real = points.reals[i]
            ax.set(**{f"{which}scale": real.scale, f"{which}label": f"hyperparameter {points.names[i]}"})
            ax.set(**{f"{which}lim": (real.low, real.high)})
        # a unit of the free scale is as long on either axis, so that arrows are perpendicular to contours
        width, height = np.ptp(points.bounds, axis=0)[order]
        ax.set_box_aspect(np.clip(height / width, 0.5, 2))
        legend_above(ax)
        return self

    def _directions(self):
        """Tails and heads of the arrows on the natural scale."""
        points, (low, high) = self.points, self.points.bounds
        length, taken = ARROW * np.min(high - low), [points.theta[points.chosen]]
        for tail, slope in zip(points.theta, points.gradient, strict=True):
            if np.linalg.norm(slope) > 0 and min(np.linalg.norm(tail - t) for t in taken) > 1.5 * length:
                taken.append(tail)
                yield to_hyper(points.reals, np.stack([tail, tail - length * slope / np.linalg.norm(slope)]))
