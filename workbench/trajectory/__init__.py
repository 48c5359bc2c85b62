"""What happened: messages, turns, sequences, trajectories, groups; and what is trained on: examples, pairs.

    message -> turn -> trajectory -> group (same task instance)              what happened
    token -> span -> sequence                                                what one forward pass saw

Everything here is frozen and checked when it is made. An error names the trajectory, the turn and the field.
Unknown is `None`, never 0.
"""

from workbench.trajectory.messages import PART_KINDS, ROLES, Message, Part, PartKind, Role, ToolCall
from workbench.trajectory.records import RecordError
from workbench.trajectory.sequences import ORIGINS, Origin, Prefix, Sequence, Span
from workbench.trajectory.story import Difference, Group, Match, Trajectory
from workbench.trajectory.training import Example, Pair
from workbench.trajectory.turns import Turn

__all__ = [
    "ORIGINS",
    "PART_KINDS",
    "ROLES",
    "Difference",
    "Example",
    "Group",
    "Match",
    "Message",
    "Origin",
    "Pair",
    "Part",
    "PartKind",
    "Prefix",
    "RecordError",
    "Role",
    "Sequence",
    "Span",
    "ToolCall",
    "Trajectory",
    "Turn",
]
