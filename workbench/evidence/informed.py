"""What knowing the answer says of a turn: the sampled tokens scored twice by one policy, once told the answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from workbench.evidence.answers import gold_answers
from workbench.evidence.base import Meter, Provider, Reads, Sees, Values
from workbench.evidence.scoring import check_vocabulary, model_hash, score_sampled
from workbench.policy.base import Policy
from workbench.rollouts import Rollouts
from workbench.trajectory import Group, RecordError, Trajectory


@dataclass(frozen=True)
class InformedLogprobs(Provider):
    """Score every sampled token as it was asked, and with the answer written behind the question.

        logprob_plain     = log pi(y_j | q, ctx)
        logprob_informed  = log pi(y_j | q + hint, ctx)

    Both at one temperature, by the same weights. The hint stands in the last message of the prompt and moves what
    follows; the conversation itself is the same. Unknown where there is no gold answer.

    Args:
        policy: who scores; its renderer must be the one that made the prompts.
        hint: put behind the question, "{}" is the answer (the first accepted one).
        temperature: of both.

    Source: PBSD, arXiv:2606.09348: the teacher is the policy given the verified answer. Reconstruction: the wording.
    """

    policy: Policy = field(metadata={"key": False})
    hint: str = " (The answer is {}.)"
    temperature: float = 1.0
    provides: ClassVar[Mapping[str, str]] = {"logprob_informed": "token", "logprob_plain": "token"}
    sees: ClassVar[tuple[Sees, ...]] = ("gold",)
    reads: ClassVar[tuple[Reads, ...]] = ("tokens", "gold", "messages")

    def __post_init__(self) -> None:
        if "{}" not in self.hint:
            raise ValueError(f"expected a hint with {{}} where the answer goes, got {self.hint!r}")

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The fields, and who renders the prompt."""
        return {**super().parameters, "policy": self.policy.name}

    @property
    def model(self) -> str:
        """Hash of the scoring policy's weights."""
        return model_hash(self.policy)

    @property
    def policy_version(self) -> int:
        """Version of the scoring policy's weights."""
        return self.policy.engine.version

    def check(self, rollouts: Rollouts) -> None:
        """Refuse rollouts of which nothing can be scored.

        Raises:
            RecordError: no trajectory has tokens, or none has a gold answer, or the policy has another tokenizer.
        """
        if not any(t.has_tokens for t in rollouts):
            raise RecordError("no trajectory has tokens to score; play the tasks with a policy", field="sequences")
        if not any(gold_answers(t) for t in rollouts):
            problem = "no trajectory has a gold answer to be told; give gold={'answer': ...}"
            raise RecordError(problem, field="gold")
        check_vocabulary(self.policy, rollouts)

    async def compute(self, group: Group, meter: Meter) -> Mapping[str, Values]:
        """Two forward passes a sequence."""

        def plain(trajectory: Trajectory, ids: tuple[int, ...]) -> tuple[int, ...] | None:
            return ids if gold_answers(trajectory) else None

        def informed(trajectory: Trajectory, ids: tuple[int, ...]) -> tuple[int, ...] | None:
            return self.told(trajectory, group, ids)

        return {
            name: await score_sampled(self.policy, group, meter, temperature=self.temperature, lead=lead)
            for name, lead in (("logprob_informed", informed), ("logprob_plain", plain))
        }

    def told(self, trajectory: Trajectory, group: Group, ids: tuple[int, ...]) -> tuple[int, ...] | None:
        """Return the tokens of a sequence with the answer in its prompt; None without a gold answer.

        Raises:
            RecordError: the sequence does not begin with the prompt as this policy renders it.
        """
        golds, prompt = gold_answers(trajectory), trajectory.path(group).prompt
        if not golds:
            return None
        if not prompt:
            raise RecordError("it has no prompt to tell the answer in", trajectory=trajectory.id, field="prompt")
        *head, last = prompt
        hinted = replace(last, parts=last.text + self.hint.replace("{}", golds[0]))  # type: ignore[arg-type]
        asked, now = (
            [i for span in self.policy.renderer.prompt(m, ()) for i in span.ids] for m in (prompt, [*head, hinted])
        )
        if list(ids[: len(asked)]) != asked:
            problem = f"its tokens do not begin with the prompt as {self.policy.name!r} renders it; give who played it"
            raise RecordError(problem, trajectory=trajectory.id, field="sequences")
        return (*now, *ids[len(asked) :])
