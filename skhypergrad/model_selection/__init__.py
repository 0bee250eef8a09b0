"""Model selection by hypergradients, with the interface and the results of `sklearn.model_selection.GridSearchCV`."""

from skhypergrad.model_selection.rules import OneStandardError, one_standard_error
from skhypergrad.model_selection.search import HypergradSearchCV

__all__ = ["HypergradSearchCV", "OneStandardError", "one_standard_error"]
