"""scikit-learn's callbacks, told of every evaluation of an estimator that tunes itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sklearn.callback import CallbackSupportMixin


class TellsSteps(CallbackSupportMixin):
    """Mixin: `set_callbacks`, and the tasks "fit" and "outer-step".

    A callback that returns True at the end of an "outer-step" ends the search there; what was found is kept. The `fit` needs
    the decorator `sklearn.callback.with_callbacks`.
    """

    @contextmanager
    def _told(self, X, y) -> Iterator[Callable]:
        """Within a fit: what `tune` is to call after every evaluation."""
        fit = self._init_callback_context(max_subtasks=None)
        fit.call_on_fit_task_begin(estimator=self, X=X, y=y)

        def told(evaluation) -> bool:
            step = fit.subcontext(task_name="outer-step").call_on_fit_task_begin(estimator=self)
            return step.call_on_fit_task_end(estimator=self)

        yield told
        fit.call_on_fit_task_end(estimator=self, X=X, y=y)
