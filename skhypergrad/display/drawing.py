"""What the pictures have in common: axes, colours, marks and words."""

from __future__ import annotations

from typing import Any

import numpy as np

from skhypergrad.adapters._compat import check_matplotlib_support
from skhypergrad.display.reading import Evaluated

# Okabe & Ito (2008): told apart by colour-blind readers.
BLUE, ORANGE, GREEN, PURPLE, SKY, BLACK = COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#000000",
)  # fmt: skip
GREY = "#8A8A8A"

# Largest over smallest value from which on an axis is logarithmic.
LOG = 5

# What a criterion is called, its unit, and the scoring that it is with the sign flipped.
CALLED = {
    "log_loss": ("log loss", "nats", "neg_log_loss"),
    "brier": ("Brier score", "", "neg_brier_score"),
    "squared_error": ("mean squared error", "squared units of the target", "neg_mean_squared_error"),
    "root_squared_error": ("root mean squared error", "units of the target", "neg_root_mean_squared_error"),
    "r2": ("minus R²", "", "r2"),
}


def label(called: str, what: str = "{} on held-out rows") -> str:
    """An axis of the criterion that is called so, with its unit."""
    name, unit, _ = CALLED[called]
    return f"{what.format(name)}\n({', '.join(filter(None, [unit, 'mean of the folds']))})"


class Picture:
    """What all displays do with their axes."""

    ax_: Any
    figure_: Any

    def _begin(self, ax, figsize=(6.4, 4.4)):
        check_matplotlib_support(f"{type(self).__name__}.plot")
        import matplotlib.pyplot as plt

        if ax is None:
            _, ax = plt.subplots(figsize=figsize, layout="constrained")
        ax.spines[["top", "right"]].set_visible(False)
        self.ax_, self.figure_ = ax, ax.figure
        return ax


def scale_axis(ax, which: str, values) -> None:
    """A logarithmic axis where the values are positive and of different size, with round numbers on it."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = np.nanmin(values), np.nanmax(values)
    if low > 0 and high > LOG * low:
        ax.set(**{f"{which}scale": "log"})
        axis = getattr(ax, f"{which}axis")
        if high < 1e3 * low:
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())


def mark(ax, points: Evaluated, x, y) -> list:
    """Starting values hollow, descents filled and darker from one to the next, the chosen point in a ring."""
    moves, front = np.flatnonzero(~points.starts), {"zorder": 4, "clip_on": False}
    marks = ax.plot(x[points.starts], y[points.starts], "o", mec=BLUE, mfc="w", ms=7, label="starting values", **front)
    if len(moves):
        colours = shades("w", BLUE, "#00263E")(np.linspace(0.35, 1, len(moves)))
        marks.append(ax.scatter(x[moves], y[moves], 55, colours, ec="w", lw=0.8, **front))
        marks += ax.plot([], [], "o", mec="w", mfc=BLUE, ms=8, label="descent, light to dark")
    ring = {"mec": ORANGE, "mfc": "none", "ms": 16, "mew": 2.2}
    return [*marks, *ax.plot(x[points.chosen], y[points.chosen], "o", label="chosen", **ring, **front)]


def legend_above(ax) -> None:
    """A legend that hides no point."""
    look = {"bbox_to_anchor": (0.5, 1), "ncols": 3, "columnspacing": 1, "handletextpad": 0.4}
    ax.legend(frameon=False, loc="lower center", **look)


def shades(*colours):
    """A colour map from each colour to the next."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("shades", colours)
