"""An engine that says what it is told: for tests, oracle play and demonstrations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from workbench.policy.base import Generation, Scores, Settings

Script = Callable[[Sequence[int], int], Sequence[int]]
"""From (prompt tokens, seed) to the tokens to say."""


class ScriptedEngine:
    """Replay token lists, or call a function from prompt to tokens.

    A script is no distribution, so the log-probs of what it says are unknown (None), not 0: nothing trains on them.

    Args:
        script: a function (prompt, seed) -> tokens; or token lists, one for each prompt in the order they come.
        version: version it starts with.

    Example:
        >>> import asyncio
        >>> engine = ScriptedEngine([[7, 8, 9]])
        >>> asyncio.run(engine.generate([[1]], Settings(stop_ids=(8,)), [0]))[0].token_ids
        (7, 8)
    """

    def __init__(self, script: Script | Iterable[Sequence[int]], *, version: int = 0):
        self._script = script if callable(script) else _replay(script)
        self._version = version

    @property
    def version(self) -> int:
        """Version of the script; `load` raises it."""
        return self._version

    async def generate(
        self, prompts: Sequence[Sequence[int]], settings: Settings, seeds: Sequence[int]
    ) -> list[Generation]:
        """Say what the script says, cut after a stop token and at `max_new_tokens`."""
        if len(prompts) != len(seeds):
            raise ValueError(f"expected one seed a prompt: {len(prompts)} prompts, {len(seeds)} seeds")
        said = [self._script(list(p), seed) for p, seed in zip(prompts, seeds, strict=True)]
        return [self._cut([int(i) for i in ids], settings) for ids in said]

    def _cut(self, ids: list[int], settings: Settings) -> Generation:
        end = next((n + 1 for n, i in enumerate(ids) if i in settings.stop_ids), len(ids))
        ids = ids[: min(end, settings.max_new_tokens)]
        stopped = bool(ids) and ids[-1] in settings.stop_ids
        return Generation(tuple(ids), (None,) * len(ids), "stop" if stopped else "length", self._version)

    def score(
        self,
        sequences: Sequence[Sequence[int]],
        spans: Sequence[tuple[int, int]],
        *,
        temperature: float = 1.0,
        top_k: int = 0,
        entropy: bool = False,
    ) -> list[Scores]:
        """Refuse: a script has no probabilities."""
        raise NotImplementedError("a scripted engine cannot score tokens; score with a model's engine")

    def load(self, weights: Any) -> int:
        """Take a new script (None keeps the old one); return the new version."""
        if weights is not None:
            self._script = weights if callable(weights) else _replay(weights)
        self._version += 1
        return self._version


def _replay(lists: Iterable[Sequence[int]]) -> Script:
    waiting = iter([list(ids) for ids in lists])

    def script(prompt: Sequence[int], seed: int) -> Sequence[int]:
        try:
            return next(waiting)
        except StopIteration:
            raise IndexError("the script is over: there were more prompts than token lists") from None

    return script
