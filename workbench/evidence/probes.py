"""Short sampled probes after each step: is the policy sure of an answer, and is it the right one? For SPAE."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from workbench.evidence.base import Meter, Reads, Sees, Values
from workbench.evidence.contexts import Tokens, after_turn
from workbench.evidence.gold import OnGoldProbe
from workbench.evidence.segments import contexts
from workbench.policy.base import Settings
from workbench.policy.scoring import check_scores
from workbench.recipes.steps import Potential, probe_scores, thought_ends
from workbench.rollouts import Rollouts
from workbench.seeds import seed_for
from workbench.trajectory import Group, Trajectory

Found = tuple[float, float] | None
"""Accuracy and confidence at a place; None if they are not known."""


@dataclass(frozen=True)
class ShortProbes(OnGoldProbe):
    """Base of the providers that let the policy answer at once: what is asked, not where.

    Args:
        policy: who is asked; its engine must give entropies.
        count: N, answers sampled.
        max_tokens: of each.
        temperature: of the sampling; probabilities and entropies are those at temperature 1.
        variant: how tokens are averaged, "paper" or "released".
        seed: of the sampling.
    """

    count: int = 5
    max_tokens: int = 10
    temperature: float = 0.6
    variant: Potential = "paper"
    seed: int = 0
    sees: ClassVar[tuple[Sees, ...]] = ("gold",)
    reads: ClassVar[tuple[Reads, ...]] = ("tokens", "gold")

    async def ask(self, places: Iterable[tuple[Trajectory, Tokens | None]], meter: Meter) -> list[Found]:
        """Ask behind the tokens of each place; equal places are asked once."""
        asked: dict[tuple[Tokens, Tokens, int, int], Found] = {}
        out: list[Found] = []
        for trajectory, seen in places:
            forced = self.probe.answers(trajectory)
            one = None if seen is None or not forced else (seen, tuple(forced[0][0]), *forced[0][1])
            if one is not None and one not in asked:
                asked[one] = await self._ask(one, meter)
            out.append(None if one is None else asked[one])
        return out

    async def _ask(self, place: tuple[Tokens, Tokens, int, int], meter: Meter) -> Found:
        """Accuracy and confidence at one place; None if no probe said anything."""
        seen, answer, start, stop = place
        engine, lead = self.policy.engine, [*seen, *answer[:start]]
        settings = Settings(self.temperature, 1.0, self.max_tokens, tuple(self.policy.renderer.stop_ids))
        seeds = [seed_for("step probe", self.seed, n, *lead) for n in range(self.count)]
        said = await engine.generate([lead] * self.count, settings, seeds)
        rows = [[*lead, *one.token_ids] for one in said if one.token_ids]
        rows.append([*seen, *answer[:stop]])
        spans = [(len(lead), len(row)) for row in rows]
        scores = check_scores(self.policy.name, engine.score(rows, spans, entropy=True), spans, entropy=True)
        meter.count(calls=self.count + len(rows), tokens=sum(map(len, rows)))
        entropies = [one.entropy for one in scores[:-1]]
        if not entropies or any(one is None for one in entropies):
            return None
        gold = scores[-1].logprobs.detach().float().cpu()
        return probe_scores([gold], [torch.as_tensor(one).detach().float().cpu() for one in entropies], self.variant)


@dataclass(frozen=True)
class StepProbe(ShortProbes):
    """Let the policy answer at once after each turn: `step_confidence`, and by the forced gold `step_accuracy`.

    Where the agent would write next, the beginning of an answer is forced; `count` short answers are sampled from there
    and their tokens' entropies say how sure it is; the gold answer forced at the same place says how right. The two are
    put together by `workbench.recipes.steps.probe_scores`. A step is a turn; after the last one is asked, too.

    Args: see `ShortProbes`.

    Unknown without a gold answer or tokens.

    Source: SPAE, arXiv:2601.03823; cii030/SPAE-RL, inference/probe_mechanism_example.py (5 probes of 10 tokens at 0.6).
    Differs: a step there ends at a blank line inside a thought, as for `ThoughtProbe`; entropies there are of the 20
        likeliest tokens.
    """

    provides: ClassVar[Mapping[str, str]] = {"step_accuracy": "turn", "step_confidence": "turn"}

    async def compute(self, group: Group, meter: Meter) -> Mapping[str, Values]:
        """Ask after every turn of a group."""
        rollouts = Rollouts(group.trajectories)
        places = [(t, after_turn(t, k, rollouts) if t.has_tokens else None) for t in group for k in range(len(t.turns))]
        return _two("step", await self.ask(places, meter))


@dataclass(frozen=True)
class ThoughtProbe(ShortProbes):
    """Let the policy answer at once after each step of its thoughts: `thought_accuracy`, `thought_confidence`.

    As `StepProbe`, but a turn is cut into steps (`workbench.recipes.steps.thought_ends`); the two are known at the last
    token of each. Inside a thought the answer is forced behind the cut in the policy's format; at the end of a turn,
    behind what came back. For `spae(step="token")`.

    Args:
        ends: what a step of a thought ends with.
        close: what ends the thought of a turn.
        policy, count, max_tokens, temperature, variant, seed: see `ShortProbes`.

    Unknown inside a step, without a gold answer or tokens.

    Source: SPAE, as `StepProbe`.
    Differs: the script forces a boxed answer in the middle of the thought, whatever the policy's format.
    """

    ends: str = ".\n\n"
    close: str = "</think>"
    provides: ClassVar[Mapping[str, str]] = {"thought_accuracy": "token", "thought_confidence": "token"}

    async def compute(self, group: Group, meter: Meter) -> Mapping[str, Values]:
        """Ask at the end of every step of a group."""
        rollouts = Rollouts(group.trajectories)
        places, size = {}, 0
        for t in group:
            before = contexts(t, rollouts)
            places.update({size + at: (t, before[at + 1]) for at in self.step_ends(t)})
            size += max(len(before) - 1, 0)
        found = dict(zip(places, await self.ask(places.values(), meter), strict=True))
        return _two("thought", [found.get(token) for token in range(size)])

    def step_ends(self, trajectory: Trajectory) -> list[int]:
        """Return the last token of each step, by its place among the sampled tokens of the trajectory."""
        spans = [s for sequence in trajectory.sequences for s in sequence.spans if s.origin == "sampled"]
        pieces: dict[int, list[str]] = {}
        for s in sorted(spans, key=lambda s: s.turn):
            pieces.setdefault(s.turn, []).extend(s.pieces or self.policy.renderer.pieces(s.ids))
        ends, size = [], 0
        for own in pieces.values():
            ends += [size + at for at in thought_ends(own, self.ends, self.close)]
            size += len(own)
        return ends


def _two(name: str, found: list[Found]) -> dict[str, Values]:
    return {
        f"{name}_{what}": Values.of(None if pair is None else pair[at] for pair in found)
        for at, what in enumerate(("accuracy", "confidence"))
    }
