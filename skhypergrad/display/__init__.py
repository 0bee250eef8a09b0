"""Pictures of fitted searches, in scikit-learn's Display protocol.

    ConvergenceDisplay    best value so far against time, for several searches, scikit-learn's own among them
    PathDisplay           one hyperparameter: the validation curve, from the search's own evaluations
    ContourDisplay        two hyperparameters: the criterion as a map, and how the search moved on it
    SensitivityDisplay    what a hyperparameter alone changes, near the optimum

`from_search` (`from_searches`) draws; the display keeps what was drawn, and `plot` draws it again. Values are those of the
criterion, a loss: smaller is better. Matplotlib is imported when something is drawn.
"""

from skhypergrad.display.contour import ContourDisplay
from skhypergrad.display.convergence import ConvergenceDisplay
from skhypergrad.display.path import PathDisplay
from skhypergrad.display.sensitivity import SensitivityDisplay

__all__ = ["ContourDisplay", "ConvergenceDisplay", "PathDisplay", "SensitivityDisplay"]
