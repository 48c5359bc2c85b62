"""What the maths holds: integer maps between levels, and named columns.

    token_turn [T]   turn_trajectory [K]   trajectory_group [N]      which turn, trajectory, group something is in

Axis letters: T sampled tokens, K turns, N trajectories, G groups, U units of some name. Flat tensors over sampled
tokens, each token once, ordered by (trajectory, turn, position). Nothing is ever inferred from values.
"""

from workbench.batch.columns import BASE_LEVELS, Column, Level, Provenance, Unit, codes, make_column
from workbench.batch.maps import Batch

__all__ = ["BASE_LEVELS", "Batch", "Column", "Level", "Provenance", "Unit", "codes", "make_column"]
