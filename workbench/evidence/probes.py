"""Short sampled probes after each turn: is the policy sure of an answer, and is it the right one? For SPAE."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from workbench.evidence.base import Meter, Reads, Sees, Values
from workbench.evidence.contexts import Tokens, after_turn
from workbench.evidence.gold import OnGoldProbe
from workbench.policy.base import Settings
from workbench.recipes.steps import Potential, probe_scores
from workbench.rollouts import Rollouts
from workbench.seeds import seed_for
from workbench.trajectory import Group


@dataclass(frozen=True)
class StepProbe(OnGoldProbe):
    """Let the policy answer at once after each turn: `step_confidence`, and by the forced gold `step_accuracy`.

    Where the agent would write next, the beginning of an answer is forced; `count` short answers are sampled from there
    and their tokens' entropies say how sure it is; the gold answer forced at the same place says how right. The two are
    put together by `workbench.recipes.steps.probe_scores`. A step is a turn; after the last one is asked, too.

    Args:
        policy: who is asked; its engine must give entropies.
        count: N, answers sampled.
        max_tokens: of each.
        temperature: of the sampling; probabilities and entropies are those at temperature 1.
        variant: how tokens are averaged, "paper" or "released".
        seed: of the sampling.

    Unknown without a gold answer or tokens.

    Source: SPAE, arXiv:2601.03823; cii030/SPAE-RL, inference/probe_mechanism_example.py (5 probes of 10 tokens at 0.6).
    Differs: a step there ends at a blank line inside a thought; entropies there are of the 20 likeliest tokens.
    """

    count: int = 5
    max_tokens: int = 10
    temperature: float = 0.6
    variant: Potential = "paper"
    seed: int = 0
    provides: ClassVar[Mapping[str, str]] = {"step_accuracy": "turn", "step_confidence": "turn"}
    sees: ClassVar[tuple[Sees, ...]] = ("gold",)
    reads: ClassVar[tuple[Reads, ...]] = ("tokens", "gold")

    async def compute(self, group: Group, meter: Meter) -> Mapping[str, Values]:
        """Ask after every turn of a group; equal places are asked once."""
        rollouts, probe = Rollouts(group.trajectories), self.probe
        places = [(t, k) for t in group for k in range(len(t.turns))]
        asked: dict[tuple[Tokens, Tokens, int, int], tuple[float, float] | None] = {}
        where = []
        for t, k in places:
            seen, forced = after_turn(t, k, rollouts) if t.has_tokens else None, probe.answers(t)
            one = None if seen is None or not forced else (seen, tuple(forced[0][0]), *forced[0][1])
            where.append(one)
            if one is not None and one not in asked:
                asked[one] = await self._ask(one, meter)
        found = [None if one is None else asked[one] for one in where]
        return {
            name: Values.of(None if pair is None else pair[at] for pair in found)
            for at, name in enumerate(("step_accuracy", "step_confidence"))
        }

    async def _ask(self, place: tuple[Tokens, Tokens, int, int], meter: Meter) -> tuple[float, float] | None:
        """Accuracy and confidence at one place; None if no probe said anything."""
        seen, answer, start, stop = place
        engine, lead = self.policy.engine, [*seen, *answer[:start]]
        settings = Settings(self.temperature, 1.0, self.max_tokens, tuple(self.policy.renderer.stop_ids))
        seeds = [seed_for("step probe", self.seed, n, *lead) for n in range(self.count)]
        said = await engine.generate([lead] * self.count, settings, seeds)
        rows = [[*lead, *one.token_ids] for one in said if one.token_ids]
        rows.append([*seen, *answer[:stop]])
        scores = engine.score(rows, [(len(lead), len(row)) for row in rows], entropy=True)
        meter.count(calls=self.count + len(rows), tokens=sum(map(len, rows)))
        entropies = [one.entropy for one in scores[:-1]]
        if not entropies or any(one is None for one in entropies):
            return None
        gold = scores[-1].logprobs.detach().float().cpu()
        return probe_scores([gold], [torch.as_tensor(one).detach().float().cpu() for one in entropies], self.variant)
