"""The turns of one episode, in order; and the group of those of one task instance."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any, NamedTuple

from workbench.trajectory.checks import check_trajectory
from workbench.trajectory.messages import Message
from workbench.trajectory.records import Record, RecordError, frozen, members, require
from workbench.trajectory.sequences import Sequence, Span
from workbench.trajectory.turns import Turn

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Trajectory(Record):
    """The turns of one episode, in order.

    A branch owns only what it sampled: its `turns` begin after turn `parent[1]` of trajectory `parent[0]`, and its
    sequences point to the parent's tokens by `prefix`. `path()` gives the whole story.

    Args:
        id: stable and readable, `run/step/task/sample[.branch]`.
        group: id of the task instance; trajectories of one group are compared with each other.
        prompt: messages before the first turn; empty for a branch.
        turns: in order.
        sequences: the tokens, or empty if they are not known (then token credit and training are unavailable).
        parent: (trajectory id, index of the last shared turn) if it was branched; index -1 branches at the prompt.
        outcome: verifiable end result; None is unknown.
        rewards: named further end results.
        gold: the reference answer and whatever else the task knows (gold tool trace ...).
        truncated: did it end by a limit, not by itself?
        stop_reason: why the episode ended.
        extra: fields of a reader's format that have no place here.
    """

    id: str
    group: str
    prompt: tuple[Message, ...] = ()
    turns: tuple[Turn, ...] = ()
    sequences: tuple[Sequence, ...] = ()
    parent: tuple[str, int] | None = None
    outcome: float | None = None
    rewards: Mapping[str, float | None] = field(default_factory=dict)
    gold: Mapping[str, Any] = field(default_factory=dict)
    truncated: bool = False
    stop_reason: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("rewards", "gold", "extra"):
            object.__setattr__(self, name, frozen(getattr(self, name)))
        if self.parent is not None:
            object.__setattr__(self, "parent", (str(self.parent[0]), int(self.parent[1])))
        try:
            for name, kind in (("prompt", Message), ("turns", Turn), ("sequences", Sequence)):
                object.__setattr__(self, name, members(getattr(self, name), kind, name))
            check_trajectory(self)
        except RecordError as error:
            raise error.at(trajectory=self.id) from None

    # -- the story ---------------------------------------------------------------------------------------

    @property
    def messages(self) -> tuple[Message, ...]:
        """Own messages, in order."""
        return (*self.prompt, *(message for turn in self.turns for message in turn.messages))

    @property
    def has_tokens(self) -> bool:
        """True if the token ids of its turns are known."""
        return bool(self.sequences)

    @property
    def text(self) -> str:
        """The conversation as plain text, one paragraph a message."""
        return "\n\n".join(f"[{m.role}{' ' + m.author if m.author else ''}] {m.text}" for m in self.messages)

    def path(self, others: Mapping[str, Trajectory] | Iterable[Trajectory] = ()) -> Trajectory:
        """Return the whole story of a branch: its ancestors' turns up to the branching point, then its own.

        Args:
            others: the trajectories among which its ancestors are (a mapping by id, or any iterable).

        Returns:
            a trajectory without parent and without sequences of its own ancestors' making; itself if it is a root.

        Raises:
            RecordError: an ancestor is not among `others`.
        """
        if self.parent is None:
            return self
        by_id = others if isinstance(others, Mapping) else {t.id: t for t in others}
        parent_id, last = self.parent
        if parent_id not in by_id:
            raise RecordError(
                f"its parent {parent_id!r} is not here; read both together", trajectory=self.id, field="parent"
            )
        whole = by_id[parent_id].path(by_id)
        if last >= len(by_id[parent_id].turns):
            problem = f"branches after turn {last} of {parent_id!r}, which has {len(by_id[parent_id].turns)}"
            raise RecordError(problem, trajectory=self.id, field="parent")
        first_own = len(whole.turns) - len(by_id[parent_id].turns)
        shared = whole.turns[: first_own + last + 1]
        return replace(self, prompt=whole.prompt, turns=(*shared, *self.turns), sequences=(), parent=None)

    def sampled(self, turn: int) -> tuple[Span, ...]:
        """Return the sampled spans of one turn, in order."""
        return tuple(s for seq in self.sequences for s in seq.spans if s.turn == turn and s.origin == "sampled")

    def __len__(self) -> int:
        return len(self.turns)

    def __getitem__(self, key: int | slice) -> Turn | tuple[Turn, ...]:
        return self.turns[key]

    def search(self, pattern: str, *, regex: bool = False) -> list[Match]:
        """Find text in the messages.

        Args:
            pattern: what to look for; upper and lower case are not told apart.
            regex: read `pattern` as a regular expression.

        Returns:
            one `Match(trajectory, turn, message, start, stop, excerpt)` a hit; turn is -1 in the prompt.

        Example:
            >>> hello = Message("m0", "user", "Hello world")
            >>> Trajectory("a", "g", prompt=(hello,)).search("WORLD")[0].excerpt
            'Hello world'
        """
        compiled = re.compile(pattern if regex else re.escape(pattern), re.IGNORECASE)
        owned = [(-1, m) for m in self.prompt] + [(k, m) for k, turn in enumerate(self.turns) for m in turn.messages]
        return [
            Match(self.id, k, m.id, hit.start(), hit.end(), m.text[max(0, hit.start() - 40) : hit.end() + 40])
            for k, m in owned
            for hit in compiled.finditer(m.text)
        ]

    def to_frame(self) -> pd.DataFrame:
        """Return one row a turn: agent, action text, calls, observation text, reward, tokens, trainable."""
        import pandas as pd

        rows = [
            {
                "trajectory": self.id,
                "group": self.group,
                "turn": k,
                "agent": turn.agent,
                "action": turn.action.text,
                "calls": [call.name for call in turn.calls],
                "observation": "\n".join(m.text for m in turn.observations),
                "reward": turn.reward,
                "tokens": sum(len(s) for s in self.sampled(k)) if self.has_tokens else None,
                "trainable": turn.trainable,
                "stop_reason": turn.stop_reason,
            }
            for k, turn in enumerate(self.turns)
        ]
        return pd.DataFrame(rows, columns=list(_FRAME)).astype({"reward": "float64", "tokens": "Int64"})

    def diff(self, other: Trajectory) -> list[Difference]:
        """Compare the turns of two trajectories, aligned by their text.

        Returns:
            `Difference(kind, turns, other_turns)` per run: kind is "equal", "replace", "delete" or "insert" (as
            difflib names them), the two others are ranges of turn indices.
        """
        matcher = SequenceMatcher(a=[_turn_key(t) for t in self.turns], b=[_turn_key(t) for t in other.turns])
        return [Difference(kind, range(a, b), range(c, d)) for kind, a, b, c, d in matcher.get_opcodes()]


_FRAME = (
    *("trajectory", "group", "turn", "agent", "action", "calls", "observation", "reward", "tokens"),
    *("trainable", "stop_reason"),
)


class Match(NamedTuple):
    """One hit of a text search."""

    trajectory: str
    turn: int
    message: str
    start: int
    stop: int
    excerpt: str


class Difference(NamedTuple):
    """One run of turns that two trajectories share or not."""

    kind: str
    turns: range
    other_turns: range


def _turn_key(turn: Turn) -> tuple[Any, ...]:
    return (turn.agent, turn.action.text, tuple(c.raw for c in turn.calls), tuple(m.text for m in turn.observations))


@dataclass(frozen=True)
class Group(Record):
    """Trajectories of one task instance.

    Args:
        id: the group id; every member carries it.
        trajectories: members, in order; branches may be among them.
    """

    id: str
    trajectories: tuple[Trajectory, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "trajectories", members(self.trajectories, Trajectory, "trajectories"))
        seen: set[str] = set()
        for t in self.trajectories:
            require(t.group == self.id, f"belongs to group {t.group!r}, not {self.id!r}", trajectory=t.id)
            require(t.id not in seen, "the id is used twice in its group", trajectory=t.id, field="id")
            seen.add(t.id)

    def __len__(self) -> int:
        return len(self.trajectories)

    def __iter__(self) -> Iterator[Trajectory]:
        return iter(self.trajectories)

    def __getitem__(self, key: int | slice) -> Trajectory | tuple[Trajectory, ...]:
        return self.trajectories[key]

    def to_frame(self) -> pd.DataFrame:
        """Return one row a turn of all members."""
        import pandas as pd

        frames = [t.to_frame() for t in self.trajectories] or [Trajectory("-", "-").to_frame()]
        return pd.concat(frames, ignore_index=True)
