"""How the engine's verified solutions reach scikit-learn's own scoring and refit, which fit nothing twice.

`BaseSearchCV` clones the estimator once per candidate and split, in that order, sets the candidate's parameters and calls
`fit`. The clones handed out here are the user's own class; their `fit` takes over the state of an estimator that was written
from the solution, where there is one, and is the class's own where there is none. So what is scored and returned is what
the search compared, not a fit that stopped early.
"""

from __future__ import annotations

import copy

import numpy as np
from sklearn.base import clone


class FixedSplits:
    """Splits drawn once: the search and the final scoring see the same folds.

    Parameters
    ----------
    splits : list of (train, test), row numbers or masks

    Attributes
    ----------
    trains : bool
        Whether anything is going to be fitted or scored on training rows: scikit-learn copies them for every candidate and
        split. If not it is handed one of them.
    """

    def __init__(self, splits):
        self.splits = [(_numbers(train), _numbers(test)) for train, test in splits]
        self.trains = True

    def split(self, X=None, y=None, **params):
        return iter(self.splits if self.trains else [(train[:1], test) for train, test in self.splits])

    def get_n_splits(self, X=None, y=None, **params):
        return len(self.splits)


class Handover:
    """Hands out the clones that `BaseSearchCV` asks for (see the module).

    Parameters
    ----------
    estimator : the search's own
    """

    def __init__(self, estimator):
        self.estimator, self.answers = estimator, iter(())
        self.base, self.unfitted = clone(estimator), clone(estimator)
        self.base.__dict__["__sklearn_clone__"] = self._hand_out
        self.begun = False

    def _hand_out(self):
        if not self.begun:
            self.begun = True
            return self.base
        answer = next(self.answers, None)
        if answer is None:
            return clone(self.estimator)
        # until it takes over, nothing but its parameters will be set
        plain = copy.deepcopy(self.unfitted)
        plain.__dict__["fit"] = _TakeOver(plain, answer)
        return plain

    def expect(self, answers, n_splits, best, *, recalls):
        """Line up what will be asked for: every candidate's splits, then the refit of whichever is best.

        Parameters
        ----------
        answers : list, for each candidate None or a list of Answer, a split each and one for all rows
        n_splits : int
        best : callable, () -> index of the best candidate, asked for when it is known
        recalls : bool
            Whether estimators of a split will be asked of nothing but its test rows, and by nothing that looks at them.
        """

        def in_order():
            for row in answers:
                parts = [None] * n_splits if row is None else row[:n_splits]
                yield from (part and (part.on_test_rows if recalls else part.estimator) for part in parts)
            row = answers[best()]
            yield row[n_splits].estimator if row is not None and len(row) > n_splits else None

        self.answers = in_order()


class _TakeOver:
    """A `fit` that takes over the state of a fitted estimator of the same class."""

    def __init__(self, estimator, answer):
        self.estimator, self.answer = estimator, answer

    def __call__(self, X, y=None, **params):
        del self.estimator.__dict__["fit"]
        self.estimator.__dict__.update(self.answer.__dict__)
        return self.estimator


def _numbers(rows):
    rows = np.asarray(rows)
    return np.flatnonzero(rows) if rows.dtype == bool else rows
