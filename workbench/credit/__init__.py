"""The algebra of credit: stages, chains of them, and their trace."""

from workbench.credit.accumulate import backup, count_before, gae, reward_to_go
from workbench.credit.combine import apply, mix, multiply
from workbench.credit.core import (
    Chain,
    Combine,
    Credit,
    Node,
    Stage,
    TraceStep,
    Work,
    chain,
    stage,
)
from workbench.credit.levels import average, place, spread, total
from workbench.credit.normalise import add, center, clip, minmax, scale, zscore
from workbench.credit.params import ColumnRef, Schedule, column, linear, number
from workbench.credit.peers import (
    Peers,
    batch,
    batch_and_turn,
    by,
    position,
    role,
    same_state,
    siblings,
    task,
    task_and_turn,
    trajectory,
)
from workbench.credit.rules import same_level, within_trajectory
from workbench.credit.signal import delta, difference, read, share
from workbench.credit.unknown import drop, fill, forget
from workbench.credit.where import Where, above, constant, equals, fewer_than, first, last

__all__ = [name for name in dir() if not name.startswith("_")]
