"""Worlds and batches in which a trap would show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from small_worlds import ASK, Arms, Bandit, gambler, llama

from workbench.batch import Batch
from workbench.envs.base import Step, Task
from workbench.policy.base import Policy
from workbench.policy.hf import HFEngine
from workbench.policy.scripted import ScriptedEngine
from workbench.rollouts import Rollouts
from workbench.trajectory import Message, Span, Trajectory, Turn
from workbench.trajectory import Sequence as Tokens

CHATML = (
    "{% for m in messages %}{{ '<|start|>' + m['role'] + '\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant\n' }}{% endif %}"
)
DROPS_THINKING = CHATML.replace("m['content']", "(m['content'].split('</think>\n\n') | last)")


# ------------------------------------------------------------------------------------------ a world by script


@dataclass
class Told:
    """A world that answers each action with the next of its replies.

    Args:
        replies: what comes back, in order; a text goes on, a number ends the episode with that outcome.
        history: messages before the question: (role, text).
    """

    replies: tuple[Any, ...] = (1.0,)
    history: tuple[tuple[str, str], ...] = ()
    tools: tuple[Any, ...] = ()
    state_key: str = "-"
    max_turns: int = 6
    done: int = field(default=0, init=False)

    def tasks(self, split: str, count: int, seed: int = 0) -> list[Task]:
        return [Task(f"{split}-{seed}-{n}", "?") for n in range(count)]

    def fresh(self) -> Told:
        return Told(self.replies, self.history, self.tools, max_turns=self.max_turns)

    def reset(self, task: Task, seed: int) -> tuple[Message, ...]:
        before = [message(f"h{n}", role, text) for n, (role, text) in enumerate(self.history)]
        return (*before, message("ask", "user", "red box ?"))

    async def step(self, action: Message) -> Step:
        reply, self.done = self.replies[self.done], self.done + 1
        if not isinstance(reply, str):
            return Step(done=True, outcome=reply)
        return Step((message(f"reply{self.done}", "user", reply),))


def message(name: str, role: str, text: str) -> Message:
    return Message(name, role, parts=text)  # type: ignore[arg-type]


def says(renderer: Any, *lines: Sequence[int], asked: list[list[int]] | None = None) -> Policy:
    """A policy that says these tokens, one list a prompt; `asked` keeps the prompts."""
    waiting = iter(lines)

    def script(prompt: Sequence[int], seed: int) -> Sequence[int]:
        if asked is not None:
            asked.append(list(prompt))
        return next(waiting)

    return Policy("script", ScriptedEngine(script), renderer)


class LongWords(Arms):
    """Arms, in a world whose words are `width` tokens long."""

    def __init__(self, width: int = 1):
        self.width = width

    def observation(self, messages: Sequence[Message], turn: int, *, closed: bool) -> list[Span]:
        return [Span((ASK,) * self.width, "observation", turn, messages[0].id)]


def wordy(width: int, **settings: Any) -> Policy:
    """A random policy of three tokens in a world of long words."""
    return Policy("gambler", HFEngine(llama(3, **settings)), LongWords(width))


# ------------------------------------------------------------------------------------------------ batches by hand


def story(
    name: str,
    turns: Sequence[Sequence[float | None]],
    *,
    group: str = "g",
    outcome: float | None = 1.0,
    rewards: Sequence[float | None] | None = None,
    skip: Sequence[int] = (),
    gap: int = 1,
) -> Trajectory:
    """A trajectory of token ids 1, 2, 3 ...: a prompt token, then each turn's sampled ones and `gap` observed ones.

    Args:
        turns: log-probs of the tokens of each turn; None is unknown.
        skip: turns that must not be trained.
    """
    ids = iter(range(1, 10_000))
    spans = [Span((next(ids),), "prompt")]
    made = []
    for k, logprobs in enumerate(turns):
        action = message(f"{name}.a{k}", "assistant", "x")
        spans.append(Span(tuple(next(ids) for _ in logprobs), "sampled", k, action.id, logprobs=tuple(logprobs)))
        back = message(f"{name}.o{k}", "user", "y")
        spans.append(Span(tuple(next(ids) for _ in range(gap)), "observation", k, back.id))
        made.append(
            Turn(
                action,
                (back,),
                trainable=k not in skip,
                why_not="not this one" if k in skip else "",
                reward=None if rewards is None else rewards[k],
                state_key=f"s{k}",
            )
        )
    return Trajectory(name, group, turns=tuple(made), sequences=(Tokens(tuple(spans)),), outcome=outcome)


def batch_of(*stories: Trajectory) -> Batch:
    return Rollouts(stories).batch()


def played(pulls: int = 2, tasks: int = 2, size: int = 4, policy: Policy | None = None, **settings: Any) -> Any:
    """(policy, rollouts) of a bandit of several pulls."""
    from workbench.rollout import play

    policy = policy or gambler()
    env = Bandit(pulls)
    return policy, play(policy, env, env.tasks("train", tasks), size=size, seed=3, progress=quiet, **settings)


def quiet(done: int, total: int, text: str) -> None:
    """Show nothing."""


class Table(torch.nn.Module):
    """Instead of a model: logits [B, L, V] that are parameters of their own, whatever the ids."""

    def __init__(self, logits: torch.Tensor):
        super().__init__()
        self.logits = torch.nn.Parameter(logits.detach().clone())

    def forward(self, input_ids: Any, use_cache: bool = False, logits_to_keep: int = 0, **_: Any) -> Any:
        return type("Out", (), {"logits": self.logits[:, -logits_to_keep:]})
