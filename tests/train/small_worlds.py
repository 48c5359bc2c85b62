"""Worlds and policies small enough to train on in a test."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from workbench.envs.base import Step, Task
from workbench.envs.chain import Chain
from workbench.policy import tiny_tokenizer
from workbench.policy.base import Generation, Policy, Settings
from workbench.policy.hf import HFEngine
from workbench.policy.renderers import PlainText
from workbench.trajectory import Message, Span


def llama(vocabulary: int, **settings: Any) -> Any:
    """A random Llama of a few thousand parameters, the same each time."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    rest = {"num_key_value_heads": 2, "max_position_embeddings": 256, "initializer_range": 0.1}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary, **{**sizes, **rest, **settings})).eval()


# ---------------------------------------------------------------------------------- a bandit of two arms

LEFT, RIGHT, ASK = 0, 1, 2


class Arms:
    """A renderer without text: an action is one token, the world's words are another."""

    prefix_preserving = True
    stop_ids: tuple[int, ...] = (LEFT, RIGHT, ASK)  # one token is an action

    def prompt(self, messages: Sequence[Message], tools: Sequence[Any]) -> list[Span]:
        return [Span((ASK,), "prompt", message=messages[0].id)]

    def observation(self, messages: Sequence[Message], turn: int, *, closed: bool) -> list[Span]:
        return [Span((ASK,), "observation", turn, messages[0].id)]

    def parse(self, token_ids: Sequence[int], message_id: str) -> Message:
        return Message(message_id, "assistant", parts=str(token_ids[0]))  # type: ignore[arg-type]

    def pieces(self, token_ids: Sequence[int]) -> tuple[str, ...]:
        return tuple(str(i) for i in token_ids)

    def encode(self, text: str) -> list[int]:
        return []

    def answer_probe(self, answer: str) -> tuple[list[int], tuple[int, int]]:
        raise NotImplementedError


@dataclass
class Bandit:
    """Two arms, pulled `pulls` times; the outcome is 1 if every pull was right."""

    pulls: int = 1
    tools: tuple[Any, ...] = ()
    state_key: str = "-"
    always: float | None = None  # an outcome that does not depend on what is done
    never_ends: bool = False

    @property
    def max_turns(self) -> int:
        return self.pulls

    def tasks(self, split: str, count: int, seed: int = 0) -> list[Task]:
        return [Task(f"{split}-{seed}-{n}", "?") for n in range(count)]

    def fresh(self) -> Bandit:
        return Bandit(self.pulls, always=self.always, never_ends=self.never_ends)

    def reset(self, task: Task, seed: int) -> tuple[Message, ...]:
        self.done, self.right = 0, True
        return (Message("ask", "user", parts="?"),)  # type: ignore[arg-type]

    async def step(self, message: Message) -> Step:
        self.done += 1
        self.right = self.right and message.text == str(RIGHT)
        if self.done == self.pulls and not self.never_ends:
            return Step(done=True, outcome=float(self.right) if self.always is None else self.always)
        return Step((Message(f"again{self.done}", "user", parts="?"),))  # type: ignore[arg-type]

    def snapshot(self) -> Mapping[str, Any]:
        return {"done": self.done, "right": self.right}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        self.done, self.right = snapshot["done"], snapshot["right"]


def gambler(model: Any = None) -> Policy:
    """A random policy of three tokens."""
    return Policy("gambler", HFEngine(llama(3) if model is None else model), Arms())


# --------------------------------------------------------------------------- a chain world that is played well


class Guided(HFEngine):
    """Say what a script says, with the log-probs the model gives it: a sampled policy that gets somewhere.

    Every third seed goes wrong at once, so that outcomes differ.
    """

    def __init__(self, model: Any, tokenizer: Any):
        super().__init__(model)
        self.tokenizer = tokenizer

    def sample(self, prompts: Sequence[Sequence[int]], settings: Settings, seeds: Sequence[int]) -> list[Generation]:
        said = [self._say(self.tokenizer.decode(list(p)), seed) for p, seed in zip(prompts, seeds, strict=True)]
        whole = [[*p, *ids] for p, ids in zip(prompts, said, strict=True)]
        spans = [(len(p), len(w)) for p, w in zip(prompts, whole, strict=True)]
        scores = self.score(whole, spans, temperature=settings.temperature)
        pairs = zip(said, scores, strict=True)
        return [Generation(tuple(ids), tuple(s.logprobs.tolist()), "stop", self.version) for ids, s in pairs]

    def _say(self, text: str, seed: int) -> list[int]:
        asked = re.search(r"what is the (.*) \?", text)
        assert asked is not None, text
        *relations, thing = asked.group(1).split(" of the ")
        last, thing = thing.split(" of ")
        relations.append(last)
        values = re.findall(r"Result: the .* is (.*)", text)
        left = relations[: len(relations) - len(values)]
        line = f"Search: {left[-1]} of {values[-1] if values else thing}" if left else f"Answer: {values[-1]}"
        return self.tokenizer(("Answer: 0" if seed % 3 == 0 else line) + "\n")["input_ids"]


def chain(**settings: Any) -> tuple[Policy, Chain]:
    """A guided policy and the world it plays."""
    tokenizer, env = tiny_tokenizer.load(), Chain(hops=2)
    engine = Guided(llama(tiny_tokenizer.SIZE, **settings), tokenizer)
    return Policy("guided", engine, PlainText(tokenizer, tools=env.tools)), env
