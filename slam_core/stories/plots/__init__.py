"""The plots: each casts its characters, forks at `World.twist`, and tells scenes and an end.

Between the scene with the fork and the end stands one that does not tell which way it went.
"""

from slam_core.stories.plots import choosing, having, seeking
from slam_core.stories.plots.registry import PLOTS, Plot

__all__ = ["PLOTS", "Plot", "choosing", "having", "seeking"]
