"""The pictures draw the numbers of `trace_` and `cv_results_`, and those that scikit-learn would come to."""

import copy

import matplotlib
import numpy as np
import pytest
from scipy.stats import loguniform
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skhypergrad.bilevel
import skhypergrad.model_selection  # noqa: F401
from skhypergrad import (
    ContourDisplay,
    ConvergenceDisplay,
    HypergradSearchCV,
    PathDisplay,
    Real,
    SensitivityDisplay,
    one_standard_error,
)

matplotlib.use("Agg")
import matplotlib.pyplot as plt

C, WIDE = "logisticregression__C", loguniform(1e-3, 1e3)
MODEL = make_pipeline(StandardScaler(), LogisticRegression(tol=1e-10, max_iter=10_000))
CANCER = load_breast_cancer(return_X_y=True)
DIABETES = load_diabetes(return_X_y=True)
# two targets with penalties of their own: the progression of the disease, and a measurement
PAIR = 20 * np.delete(DIABETES[0][:99], 2, axis=1), np.column_stack([DIABETES[1] / 77 - 2, 20 * DIABETES[0][:, 2]])[:99]


@pytest.fixture(autouse=True)
def no_figure_is_left():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def curve():
    return HypergradSearchCV(MODEL, {C: WIDE}, scoring="neg_log_loss", cv=3).fit(*CANCER)


@pytest.fixture(scope="module")
def pair():
    space = {"alpha": Real(1e-3, 1e3, shape=(2,))}
    return HypergradSearchCV(Ridge(), space, scoring="neg_mean_squared_error", cv=3).fit(*PAIR)


@pytest.fixture(scope="module")
def grid():
    return GridSearchCV(MODEL, {C: [0.01, 0.1, 1.0, 10.0]}, scoring="neg_log_loss", cv=3).fit(*CANCER)


def loss(estimator, X, y, scoring, **params):
    return -cross_val_score(clone(estimator).set_params(**params), X, y, cv=3, scoring=scoring)


def pair_loss(alpha):
    return loss(Ridge(), *PAIR, "neg_mean_squared_error", alpha=np.asarray(alpha)).mean()


@pytest.mark.parametrize("x", ["seconds", "steps", "fits"])
def test_convergence_is_the_best_so_far(curve, grid, x):
    display = ConvergenceDisplay.from_searches({"continuous": curve, "grid": grid}, x=x)
    ours, theirs = display.lines_
    assert [line.get_label() for line in display.lines_] == ["continuous", "grid"]
    assert np.array_equal(ours.get_ydata(), np.minimum.accumulate(curve.trace_["criterion"]))
    assert np.array_equal(theirs.get_ydata(), np.minimum.accumulate(-grid.cv_results_["mean_test_score"]))
    times = grid.cv_results_["mean_fit_time"] + grid.cv_results_["mean_score_time"]
    number = np.arange(1, len(ours.get_ydata()) + 1)
    assert ours.get_xdata() == pytest.approx(
        {"seconds": curve.trace_["seconds"], "steps": number, "fits": 3 * number}[x]
    )
    assert theirs.get_xdata() == pytest.approx(
        {"seconds": 3 * np.cumsum(times), "steps": [1, 2, 3, 4], "fits": [3, 6, 9, 12]}[x]
    )


def test_the_gap_is_to_the_best_of_all(curve, grid):
    display = ConvergenceDisplay.from_searches([curve, grid], gap=True)
    ours, theirs = (line.get_ydata() for line in display.lines_)
    assert display.ax_.get_yscale() == "log"
    assert ours[-1] == 0
    assert theirs[-1] == pytest.approx(-grid.best_score_ - min(curve.trace_["criterion"]))


def test_searches_of_one_class_are_numbered(curve):
    display = ConvergenceDisplay.from_searches([curve, curve])
    assert [*display.curves] == ["HypergradSearchCV 1", "HypergradSearchCV 2"]


def test_seconds_of_several_combinations_add_up():
    search = HypergradSearchCV(Ridge(), {"fit_intercept": [True, False], "alpha": WIDE}, cv=3).fit(*DIABETES)
    (line,) = ConvergenceDisplay.from_searches(search).lines_
    seconds, candidate = search.trace_["seconds"], search.trace_["candidate"]
    assert np.all(np.diff(line.get_xdata()) > 0)
    assert line.get_xdata()[-1] == pytest.approx(seconds[candidate == 0][-1] + seconds[-1])


@pytest.mark.parametrize(
    ("scoring", "criterion"),
    [
        (None, "r2"),
        ("r2", "r2"),
        ("neg_mean_squared_error", "squared_error"),
        ("neg_root_mean_squared_error", "root_squared_error"),
    ],
)
def test_scores_that_are_criteria_are_drawn_as_losses(scoring, criterion):
    search = RandomizedSearchCV(Ridge(), {"alpha": WIDE}, n_iter=3, scoring=scoring, random_state=0).fit(*DIABETES)
    display = ConvergenceDisplay.from_searches(search)
    assert display.called == criterion
    assert np.array_equal(display.lines_[0].get_ydata(), np.minimum.accumulate(-search.cv_results_["mean_test_score"]))


def test_other_scores_share_no_axis(curve):
    accuracy = GridSearchCV(MODEL, {C: [0.1, 1.0]}, cv=3).fit(*CANCER)
    with pytest.raises(ValueError, match=r"ours has log_loss, listed has scoring=None\..*'neg_log_loss'"):
        ConvergenceDisplay.from_searches({"ours": curve, "listed": accuracy})
    # squared errors of the raw values there, of the predicted labels here
    options = {"scoring": "neg_mean_squared_error", "cv": 3}
    raw = HypergradSearchCV(RidgeClassifier(), {"alpha": WIDE}, **options).fit(*CANCER)
    labels = GridSearchCV(RidgeClassifier(), {"alpha": [0.1, 1.0]}, **options).fit(*CANCER)
    with pytest.raises(ValueError, match="cannot share an axis"):
        ConvergenceDisplay.from_searches([raw, labels])


def test_the_curve_goes_through_what_was_evaluated(curve):
    display, trace = PathDisplay.from_search(curve, C), curve.trace_
    finest = {c: np.argmin(np.where(trace["C"] == c, trace["tol"], np.inf)) for c in trace["C"]}
    for c, row in finest.items():
        assert display.curve(np.log(c)) == pytest.approx(trace["criterion"][row], rel=1e-12)
    mean, *folds = display.lines_
    assert len(folds) == 3
    assert np.min(mean.get_ydata()) == pytest.approx(-curve.best_score_, rel=1e-5)
    # between two starting values a factor of 10 apart
    assert display.curve(np.log(0.03)) == pytest.approx(
        loss(MODEL, *CANCER, "neg_log_loss", **{C: 0.03}).mean(), rel=0.02
    )


def test_unsolved_and_less_accurate_evaluations_do_not_count(curve):
    search, trace = copy.copy(curve), curve.trace_
    last = {name: column[-1] for name, column in trace.items()}
    worse = {**last, "criterion": 9.0, "tol": 0.1}
    unsolved = {**last, "C": 5.0, "criterion": np.nan, "d_C": np.nan, "solved": False}
    search.trace_ = {name: np.append(column, [worse[name], unsolved[name]]) for name, column in trace.items()}
    search.trace_["solved"] = search.trace_["solved"].astype(bool)
    before, after = (PathDisplay.from_search(s).points for s in (curve, search))
    assert np.array_equal(before.values, after.values)
    assert np.array_equal(before.criterion, after.criterion)


def test_the_slopes_of_the_curve_are_those_of_the_loss(curve):
    (row,) = np.flatnonzero(np.isclose(curve.trace_["C"], 10.0))
    up, down = (loss(MODEL, *CANCER, "neg_log_loss", **{C: 10 * np.exp(step)}).mean() for step in (0.01, -0.01))
    # a starting value, evaluated at low accuracy
    assert curve.trace_["d_C"][row] == pytest.approx((up - down) / 0.02, rel=0.02)


def test_the_band_is_one_standard_error_above_the_best(curve):
    display = PathDisplay.from_search(curve)
    scores = [curve.cv_results_[f"split{k}_test_score"][0] for k in range(3)]
    assert display.band_.get_y() == pytest.approx(-curve.best_score_, rel=1e-6)
    assert display.band_.get_height() == pytest.approx(np.std(scores, ddof=1) / np.sqrt(3), rel=1e-5)


def test_the_path_tells_starts_from_descent_and_shows_the_bounds(curve):
    display, trace = PathDisplay.from_search(curve), curve.trace_
    starts, descent, _, chosen = display.marks_
    assert starts.get_xdata() == pytest.approx(trace["C"][trace["tol"] == trace["tol"][0]])
    moved = trace["C"][(trace["tol"] < trace["tol"][0]) & (trace["reason"] != "verification")]
    assert np.asarray(descent.get_offsets())[:, 0] == pytest.approx(np.array(list(dict.fromkeys(moved))))
    assert chosen.get_xdata() == pytest.approx([curve.best_params_[C]])
    left, right = display.ax_.get_xlim()
    assert left < 1e-3 < 1e3 < right
    assert display.ax_.get_xscale() == "log"


def test_the_path_is_that_of_the_winning_combination():
    space = {"fit_intercept": [False, True], "alpha": WIDE}
    search = HypergradSearchCV(Ridge(), space, cv=3, refit=one_standard_error("alpha")).fit(*DIABETES)
    trace, points = search.trace_, PathDisplay.from_search(search, "alpha").points
    # each combination has two candidates: its best, and a simpler one
    alike = [i for i, params in enumerate(search.cv_results_["params"]) if params["fit_intercept"]]
    assert len(alike) == 2
    assert {*points.values[:, 0]} == {*trace["alpha"][np.isin(trace["candidate"], alike)]}
    assert points.values[points.chosen, 0] == search.best_params_["alpha"] > points.values[points.best, 0]


def test_a_linear_space_has_a_linear_axis():
    space = {"alpha": Real(0.0, 1.0, scale="linear")}
    search = HypergradSearchCV(Ridge(), space, scoring="neg_mean_squared_error", cv=3).fit(*DIABETES)
    assert PathDisplay.from_search(search).ax_.get_xscale() == "linear"
    display = SensitivityDisplay.from_search(search, *DIABETES)
    alpha = search.best_params_["alpha"]
    base, up = (loss(Ridge(), *DIABETES, "neg_mean_squared_error", alpha=a).mean() for a in (alpha, alpha + 0.1))
    assert display.bars_[1][0].get_width() == pytest.approx(up - base, rel=1e-4)
    assert display.bars_[1].get_label() == "a tenth more of the interval"


def test_contour_values_are_cross_validated_losses(pair):
    display = ContourDisplay.from_search(pair, *PAIR, resolution=4)
    assert display.grid == pytest.approx(np.tile(np.geomspace(1e-3, 1e3, 4), (2, 1)))
    for i, j in ((0, 3), (2, 1)):
        alpha = display.grid[0, i], display.grid[1, j]
        assert display.criterion[i, j] == pytest.approx(pair_loss(alpha), rel=1e-6)
    swapped = ContourDisplay.from_search(pair, *PAIR, resolution=4, parameters=["alpha[1]", "alpha[0]"])
    assert swapped.ax_.get_xlabel() == display.ax_.get_ylabel() == "hyperparameter alpha[1]"
    assert np.asarray(swapped.contour_.levels) == pytest.approx(np.asarray(display.contour_.levels))
    assert swapped.marks_[0].get_xdata() == pytest.approx(display.marks_[0].get_ydata())


def test_arrows_point_down_the_slope(pair):
    display, trace = ContourDisplay.from_search(pair, *PAIR, resolution=3), pair.trace_
    assert len(display.arrows_) > 5
    for arrow in display.arrows_:
        tail, move = np.log(arrow.xyann), np.log(arrow.xy) - np.log(arrow.xyann)
        row = np.argmin(np.abs(np.log(trace["alpha[0]"]) - tail[0]) + np.abs(np.log(trace["alpha[1]"]) - tail[1]))
        slope = np.array([trace["d_alpha[0]"][row], trace["d_alpha[1]"][row]])
        inside = np.all((np.array(arrow.xy) > 1.001e-3) & (np.array(arrow.xy) < 0.999e3))
        assert not inside or move / np.linalg.norm(move) == pytest.approx(-slope / np.linalg.norm(slope), abs=1e-2)
        assert move @ slope < 0
    paths = [np.stack(line.get_data(), axis=1) for line in display.lines_]
    rows = np.stack([trace["alpha[0]"], trace["alpha[1]"]], axis=1)
    assert all((rows == point).all(axis=1).any() for path in paths for point in path)


def test_listed_values_stay_at_the_winners():
    space = {"fit_intercept": [False, True], "alpha": Real(1e-3, 1e3, shape=(2,))}
    X, Y = PAIR[0], PAIR[1] + 3  # fitted better with an intercept
    search = HypergradSearchCV(Ridge(), space, scoring="neg_mean_squared_error", cv=3).fit(X, Y)
    display = ContourDisplay.from_search(search, X, Y, resolution=2)
    expected = loss(Ridge(), X, Y, "neg_mean_squared_error", alpha=np.array([1e3, 1e-3])).mean()
    assert search.best_params_["fit_intercept"]
    assert display.criterion[1, 0] == pytest.approx(expected, rel=1e-6)


def test_sensitivities_are_differences_of_cross_validated_losses(pair):
    display, best = SensitivityDisplay.from_search(pair, *PAIR, factor=2), pair.best_params_["alpha"]
    widths = {}
    for bars in display.bars_:
        for bar, tick in zip(bars, display.ax_.get_yticklabels(), strict=True):
            widths[tick.get_text().split(" = ")[0], bars.get_label()] = bar.get_width()
    for name, scale in (("alpha[0]", [2, 1]), ("alpha[1]", [1, 2])):
        for move, moved in (("multiplied by 2", best * scale), ("divided by 2", best / scale)):
            assert widths[name, move] == pytest.approx(pair_loss(moved) - pair_loss(best), rel=1e-4)
    sizes = [max(bar.get_width() for bar in bars) for bars in zip(*display.bars_, strict=True)]
    assert sizes == sorted(sizes)
    scores = [pair.cv_results_[f"split{k}_test_score"][0] for k in range(3)]
    assert display.line_.get_xdata()[0] == pytest.approx(np.std(scores, ddof=1) / np.sqrt(3), rel=1e-5)
    assert "Local" in display.ax_.get_title()


def test_moves_end_at_the_bounds(pair):
    display, best = SensitivityDisplay.from_search(pair, *PAIR, factor=1e9), pair.best_params_["alpha"]
    assert display.clipped.all()
    assert display.rises[0, 1] == pytest.approx(pair_loss([best[0], 1e-3]) - pair_loss(best), rel=1e-4)
    assert [text.get_text() for text in display.ax_.texts] == ["to the bound"] * 4


def test_displays_draw_into_the_given_axes(curve, pair):
    figure, axes = plt.subplots(2, 2)
    flat = axes.ravel()
    displays = [
        ConvergenceDisplay.from_searches(curve, ax=flat[0], line_kw={"c": "k"}),
        PathDisplay.from_search(curve, ax=flat[1], line_kw={"c": "k"}),
        ContourDisplay.from_search(pair, *PAIR, resolution=2, ax=flat[2], contour_kw={"cmap": "cividis"}),
        SensitivityDisplay.from_search(pair, *PAIR, ax=flat[3], bar_kw={"height": 0.1}),
    ]
    assert all(d.ax_ is ax and d.figure_ is figure for d, ax in zip(displays, flat, strict=True))
    for display in displays:
        assert display.plot() is display
        assert display.figure_ is not figure
    assert len(plt.get_fignums()) == 5


DRAW = {
    "convergence": lambda search: ConvergenceDisplay.from_searches(search),
    "path": lambda search: PathDisplay.from_search(search),
    "contour": lambda search: ContourDisplay.from_search(search, *CANCER),
    "sensitivity": lambda search: SensitivityDisplay.from_search(search, *CANCER),
}


@pytest.mark.parametrize("draw", DRAW.values(), ids=DRAW)
def test_a_search_must_be_fitted(draw):
    with pytest.raises(NotFittedError):
        draw(HypergradSearchCV(MODEL, {C: WIDE}))


@pytest.mark.parametrize("draw", [DRAW["path"], DRAW["contour"], DRAW["sensitivity"]])
def test_lists_leave_no_trace(draw, grid):
    ours = HypergradSearchCV(MODEL, {C: [0.1, 1.0]}, scoring="neg_log_loss", cv=3).fit(*CANCER)
    for search in (ours, grid):
        with pytest.raises(ValueError, match="listed values only, and no trace"):
            draw(search)


def test_a_listed_winner_has_no_picture():
    grids = [{"alpha": [0.01]}, {"alpha": loguniform(1e2, 1e4)}]
    search = HypergradSearchCV(Ridge(), grids, cv=3).fit(*DIABETES)
    assert hasattr(search, "trace_")
    assert search.best_params_ == {"alpha": 0.01}
    with pytest.raises(ValueError, match="best candidate of this search has listed values only"):
        PathDisplay.from_search(search)


def test_what_cannot_be_drawn_is_refused_with_what_can(curve, pair):
    with pytest.raises(ValueError, match=r"one continuous value, and this search has 2.*ContourDisplay"):
        PathDisplay.from_search(pair)
    with pytest.raises(ValueError, match=r"two continuous values, and this search has 1: C\. Draw PathDisplay"):
        ContourDisplay.from_search(curve, *CANCER)
    with pytest.raises(ValueError, match="has tuned 'C' continuously, and not 'alpha'"):
        PathDisplay.from_search(curve, "alpha")
    with pytest.raises(ValueError, match=r"must be 'alpha\[0\]' and 'alpha\[1\]'"):
        ContourDisplay.from_search(pair, *PAIR, parameters=["alpha[0]", "alpha[0]"])
    with pytest.raises(ValueError, match="factor must be larger than 1, got 1"):
        SensitivityDisplay.from_search(pair, *PAIR, factor=1)
    with pytest.raises(ValueError, match="x must be one of"):
        ConvergenceDisplay.from_searches(curve, x="time")
