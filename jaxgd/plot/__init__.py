"""Pictures of runs and fits, drawn by matplotlib: `pip install "jaxgd[plot]"`.

Every function takes `ax=`, an Axes to draw into (None makes a figure), and returns it. None of them shows a figure or changes a
setting of matplotlib; all of them raise ImportError if it is not installed. Colours are those of M. Okabe and K. Ito, Color
Universal Design (2008), which colour-blind people tell apart; lines and markers differ wherever colours do. Long histories and
large tables are thinned before they are drawn, so that every extreme stays where it is.
"""

from jaxgd.plot._boundary import decision_boundary
from jaxgd.plot._cost import cost
from jaxgd.plot._ends import starts, sweep
from jaxgd.plot._fit import correlation, fit
from jaxgd.plot._paths import path, paths_grid
from jaxgd.plot._profiles import contour, profile

__all__ = ["contour", "correlation", "cost", "decision_boundary", "fit", "path", "paths_grid", "profile", "starts", "sweep"]
