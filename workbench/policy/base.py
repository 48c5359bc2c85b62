"""The contracts of a policy: an engine (tokens in, tokens out) and a renderer (the only place that makes tokens)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import torch

from workbench.envs.base import Tool
from workbench.trajectory import Message, Span


@dataclass(frozen=True)
class Settings:
    """How to sample.

    Args:
        temperature: > 0, or 0 for the most likely token.
        top_p: nucleus, in (0, 1].
        max_new_tokens: at most this many tokens a generation.
        stop_ids: token ids that end a generation (the stopping token is part of it).
    """

    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 64
    stop_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Generation:
    """What an engine sampled.

    Args:
        token_ids: sampled tokens, the stopping one included.
        logprobs: per token, under the distribution sampled from (temperature and nucleus included; 0 at temperature
            0, where it is a point mass); None where unknown (a script).
        stop_reason: "stop" or "length".
        policy_version: version of the weights.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float | None, ...]
    stop_reason: Literal["stop", "length"]
    policy_version: int = 0


class Scores(NamedTuple):
    """Log-probs of given tokens under the engine's policy, one entry a sequence.

    Args:
        logprobs: [n] per scored token.
        entropy: [n] in nats, or None if not asked for.
        top_ids, top_logprobs: [n, k], or None if not asked for.
    """

    logprobs: torch.Tensor
    entropy: torch.Tensor | None = None
    top_ids: torch.Tensor | None = None
    top_logprobs: torch.Tensor | None = None


@runtime_checkable
class Engine(Protocol):
    """Tokens in, tokens out; knows neither chat nor environment."""

    @property
    def version(self) -> int:
        """Version of the weights; `load` raises it."""

    async def generate(
        self, prompts: Sequence[Sequence[int]], settings: Settings, seeds: Sequence[int]
    ) -> list[Generation]:
        """Sample one continuation a prompt. One seed a prompt: a sample does not depend on its batch."""

    def score(
        self,
        sequences: Sequence[Sequence[int]],
        spans: Sequence[tuple[int, int]],
        *,
        temperature: float = 1.0,
        top_k: int = 0,
        entropy: bool = False,
    ) -> list[Scores]:
        """Score tokens [start, stop) of each sequence given all tokens before each."""

    def load(self, weights: Any) -> int:
        """Take new weights (a state dict); return the new version."""


@runtime_checkable
class Renderer(Protocol):
    """Text to tokens and back. Nothing else tokenises."""

    prefix_preserving: bool
    """Does every later prompt extend, token for token, what went before?"""

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Token ids that end a turn."""

    def prompt(self, messages: Sequence[Message], tools: Sequence[Tool]) -> list[Span]:
        """Render the messages before the first turn, up to where the agent begins to write."""

    def observation(self, messages: Sequence[Message], turn: int, *, closed: bool) -> list[Span]:
        """Render what came back after turn `turn`, up to where the agent writes again.

        Args:
            messages: the observations.
            turn: index of the turn they belong to.
            closed: did the generation end by a stop token? If not, the closing token is inserted (origin "inserted").
        """

    def parse(self, token_ids: Sequence[int], message_id: str) -> Message:
        """Read a generation: text and tool calls, or the error of a call as a value (`ToolCall.error`)."""

    def pieces(self, token_ids: Sequence[int]) -> tuple[str, ...]:
        """Return each token's text; joined they are the text."""

    def encode(self, text: str) -> list[int]:
        """Tokenise a text as it stands (no special tokens)."""

    def answer_probe(self, answer: str) -> tuple[list[int], tuple[int, int]]:
        """Return the tokens that force `answer` where the agent would write next, and the [start, stop) of the answer.

        The text is tokenised in place; a token that overlaps the answer is part of it.
        """


@dataclass(frozen=True)
class Policy:
    """An engine that plays by a renderer.

    Args:
        name: readable id ("smollm2", "tiny@chain", a hub id ...).
        engine: samples and scores tokens.
        renderer: turns messages into tokens and back.
    """

    name: str
    engine: Engine
    renderer: Renderer
