"""How likely the gold answer is inside a response: at the ends of segments cut where the policy was unsure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch

from workbench.evidence.base import Meter, Reads, Sees, Values
from workbench.evidence.contexts import Tokens
from workbench.evidence.gold import OnGoldProbe, sound
from workbench.evidence.scoring import score_sampled
from workbench.policy.token_tree import Range
from workbench.recipes.steps import entropy_cuts, entropy_segments
from workbench.rollouts import Rollouts, full_ids
from workbench.trajectory import Group, Trajectory


class _Asked(NamedTuple):
    """A forced answer: whose, behind which sampled token (-1: before the first), its tokens and the answer's place."""

    member: int
    token: int
    ids: Tokens
    span: Range


def contexts(trajectory: Trajectory, rollouts: Rollouts) -> list[Tokens]:
    """Return what stands before each sampled token, in the order of a batch, and at last all of the last sequence."""
    places: list[tuple[int, int, int]] = []
    for number, sequence in enumerate(trajectory.sequences):
        at = sequence.prefix.length if sequence.prefix else 0
        for span in sequence.spans:
            if span.origin == "sampled":
                places += [(span.turn, number, at + i) for i in range(len(span))]
            at += len(span)
    places.sort(key=lambda place: place[0])
    whole = [full_ids(rollouts, trajectory, number) for number in range(len(trajectory.sequences))]
    return [*(whole[number][:at] for _, number, at in places), *(whole[places[-1][1]] for _ in places[:1])]


@dataclass(frozen=True)
class SegmentProbe(OnGoldProbe):
    """Cut a rollout's own tokens where they were uncertain and ask at each cut how likely the gold answer is.

        segment_gold_logprob        at the last token of each segment; its other tokens are unknown
        segment_gold_logprob_start  before the first token

    A rollout with |U| tokens of entropy >= least is split into M = max(1, |U| // cuts) segments. What came back from
    tools belongs to the segment before it. The answer is forced behind the cut in the policy's format, in the middle
    of a line if the cut is there.

    Args:
        policy: whose entropy and belief.
        cuts: uncertain tokens a segment.
        least: nats from which a token is uncertain.
        temperature: of the entropies.

    Unknown without a gold answer or tokens.

    Source: GRPO-VPS, arXiv:2604.20659. Reconstruction: `least`, and that 4 is the number of cuts a segment.
    """

    cuts: int = 4
    least: float = 0.5
    temperature: float = 1.0
    provides: ClassVar[Mapping[str, str]] = {
        "segment_gold_logprob": "token",
        "segment_gold_logprob_start": "trajectory",
    }
    sees: ClassVar[tuple[Sees, ...]] = ("gold",)
    reads: ClassVar[tuple[Reads, ...]] = ("tokens", "gold")

    def __post_init__(self) -> None:
        if self.cuts < 1:
            raise ValueError(f"expected cuts >= 1, got {self.cuts}")

    def ends(self, entropy: torch.Tensor) -> list[int]:
        """Return the index of the last token of each segment."""
        if not len(entropy):
            return []
        count = max(1, len(entropy_cuts(entropy, self.least)) // self.cuts)
        of = entropy_segments(entropy, self.least, count)
        return [*torch.nonzero(of[1:] != of[:-1]).flatten().tolist(), len(of) - 1]

    async def compute(self, group: Group, meter: Meter) -> Mapping[str, Values]:
        """Two kinds of passes: one for the entropies, one for all probes together."""
        entropy = await score_sampled(self.policy, group, meter, temperature=self.temperature, entropy=True)
        before = [contexts(t, Rollouts(group.trajectories)) for t in group]
        sizes = [max(len(rows) - 1, 0) for rows in before]
        own = entropy.values.split(sizes)
        asked = [one for m, t in enumerate(group) for one in self._of(m, t, before[m], own[m])]
        scores = self.probe.score([one.ids for one in asked], [one.span for one in asked], meter)
        found: dict[tuple[int, int], float] = {}
        for one, score in zip(asked, scores, strict=True):
            trajectory, mean = group.trajectories[one.member], float(score.double().mean())
            found[one.member, one.token] = sound(self.policy, mean, trajectory, None)
        tokens = Values.of(found.get((m, j)) for m, n in enumerate(sizes) for j in range(n))
        return {
            "segment_gold_logprob": tokens,
            "segment_gold_logprob_start": Values.of(found.get((m, -1)) for m in range(len(sizes))),
        }

    def _of(self, member: int, trajectory: Trajectory, before: list[Tokens], entropy: torch.Tensor) -> list[_Asked]:
        forced = self.probe.answers(trajectory)
        if not before or not forced:
            return []
        ids, (start, stop) = forced[0]
        return [
            _Asked(
                member,
                token,
                (*before[token + 1], *ids),
                (len(before[token + 1]) + start, len(before[token + 1]) + stop),
            )
            for token in [-1, *self.ends(entropy)]
        ]
