"""Which turns were taken in the same state: the column `state`, for methods that compare within a state (GiGPO)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import ClassVar, Literal

import torch

from workbench.evidence.base import Meter, Provider, Reads, Sees, Values
from workbench.trajectory import Group, Trajectory

How = Literal["key or text", "text", "similar text"]
HOWS: tuple[How, ...] = ("key or text", "text", "similar text")


def state_text(trajectory: Trajectory, turn: int) -> str:
    """Return what the agent saw last before a turn: the observations of the turn before, or the prompt.

    Args:
        trajectory: a whole story (`Trajectory.path` of a branch).
        turn: index of the turn.

    Source: GiGPO, anchor observation.
    """
    seen = trajectory.turns[turn - 1].observations if turn > 0 else trajectory.prompt
    return "\n".join(message.text for message in seen)


def cluster(texts: Sequence[str], threshold: float) -> list[str]:
    """Return for each text the representative of its cluster: the first text it is similar enough to.

    In order: a text joins the oldest cluster whose first member it resembles with
    difflib's ratio >= threshold, else it opens one. The result depends on the order.

    Args:
        texts: in order of appearance.
        threshold: in (0, 1]; 1 only joins equal texts.

    Source: GiGPO, released `cluster_by_similarity` (threshold 0.95).

    Example:
        >>> cluster(["you see a red door", "you see a red door.", "it rains"], 0.9)
        ['you see a red door', 'you see a red door', 'it rains']
    """
    heads: list[str] = []
    joined: dict[str, str] = {}
    for text in texts:
        if text not in joined:
            near = next((head for head in heads if _similar(head, text, threshold)), None)
            if near is None:
                heads.append(text)
            joined[text] = text if near is None else near
    return [joined[text] for text in texts]


def _similar(a: str, b: str, threshold: float) -> bool:
    matcher = SequenceMatcher(None, a, b)  # the quick ratios are upper bounds, so they only save time
    return all(ratio() >= threshold for ratio in (matcher.real_quick_ratio, matcher.quick_ratio, matcher.ratio))


def state_code(key: str) -> int:
    """Number a state: the first 63 bits of the SHA-256 of its key, so that equal keys agree everywhere.

    Example:
        >>> state_code("kitchen") == state_code("kitchen"), state_code("kitchen") == state_code("hall")
        (True, False)
    """
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 1


@dataclass(frozen=True)
class StateIdentity(Provider):
    """Say which state each turn was taken in: equal numbers are the same state.

    Args:
        how: "key or text": the state keys the world recorded, or, in a group where a turn has none, the text the
            agent saw last; "text": always that text; "similar text": that text, joined with one that resembles it.
            A text with a counter or a time stamp never repeats; use keys or "similar text" there.
        threshold: for "similar text", see `cluster`.

    Source: GiGPO (arXiv 2505.10978), anchor states within a task.
    """

    how: How = "key or text"
    threshold: float = 0.95
    provides: ClassVar[Mapping[str, str]] = {"state": "turn"}
    sees: ClassVar[tuple[Sees, ...]] = ("group",)
    reads: ClassVar[tuple[Reads, ...]] = ("messages", "states")

    def __post_init__(self) -> None:
        if self.how not in HOWS or not 0 < self.threshold <= 1:
            raise ValueError(f"expected how in {HOWS}, threshold in (0, 1]; got {self.how!r}, {self.threshold}")

    async def compute(self, group: Group, meter: Meter) -> Mapping[str, Values]:
        """Number the states of one task."""
        keys = [turn.state_key for t in group for turn in t.turns]
        if self.how == "key or text" and all(key is not None for key in keys):
            names = [f"key {key}" for key in keys]
        else:
            names = [f"text {text}" for text in self._texts(group)]
        coded = torch.tensor([state_code(name) for name in names], dtype=torch.int64)
        return {"state": Values(coded, torch.ones(len(names), dtype=torch.bool))}

    def _texts(self, group: Group) -> list[str]:
        texts: list[str] = []
        for t in group:
            whole = t.path(group)
            own = len(whole.turns) - len(t.turns)
            texts += [state_text(whole, k) for k in range(own, len(whole.turns))]
        return cluster(texts, self.threshold) if self.how == "similar text" else texts
