"""A pytest plugin: scikit-learn's own tests meet `HypergradSearchCV` under the name of `GridSearchCV`.

It changes a global of scikit-learn, before the tests are collected and before `sklearn.utils.estimator_checks`, whose table
of instances is keyed by the class, is imported: so it runs in a process of its own.
"""

import json
import os

import sklearn.model_selection

from skhypergrad import HypergradSearchCV

fits = {"all": 0, "continuous": 0}
original = HypergradSearchCV.fit


def counted(self, X, y=None, **params):
    fits["all"] += 1
    done = original(self, X, y, **params)
    fits["continuous"] += hasattr(self, "trace_")
    return done


counted.__doc__ = original.__doc__
HypergradSearchCV.fit = counted
grid_search = sklearn.model_selection.GridSearchCV
sklearn.model_selection.GridSearchCV = HypergradSearchCV

outcomes: dict[str, int] = {}
names: list[str] = []


def pytest_runtest_logreport(report):
    # a test that fails while it is set up or torn down counts as failed
    if report.when == "call" or report.outcome != "passed":
        outcomes[report.outcome] = outcomes.get(report.outcome, 0) + 1
        names.append(report.nodeid)


def pytest_sessionfinish():
    with open(os.environ["SKHYPERGRAD_BORROWED"], "w") as file:
        json.dump({"fits": fits, "outcomes": outcomes, "names": names}, file)
