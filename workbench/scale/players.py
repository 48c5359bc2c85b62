"""Engines in processes of their own: `Players` is an `Engine` that spreads what it is asked over Ray actors.

A player that dies is replaced, gets the weights of the others, and what it was asked is asked of another one. Episodes
live in the driver: what died is one call, never a rollout.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from workbench.policy.base import Generation, Scores, Settings
from workbench.runs import Run
from workbench.train.shipping import unpack

DEATHS = 3  # of one player, in a row, that are mended

# ------------------------------------------------------------------------------------------------ the actor


class Player:
    """Holds one engine; the class of the actor.

    Args:
        path: of the run.
        folder: weights it starts with, a Hugging Face folder; "" is what the run began with ("hf" only).
        version: of these weights.
        options: "engine" ("hf", "vllm") and what `VLLMEngine` takes.
    """

    def __init__(self, path: str, folder: str, version: int, options: dict[str, Any]):
        import torch

        config, options = Run(path).config, dict(options)
        torch.set_num_threads(config["threads"])
        self.engine: Any
        if options.pop("engine") == "vllm":
            from workbench.policy.vllm import VLLMEngine

            self.engine = VLLMEngine(folder, version=version, **options)
        else:
            known = version - 1 if folder else version
            self.engine = _hf_engine(unpack(config["policy"], Path(path) / "code"), known, options["device"])
            if folder:
                self.load(folder)

    def generate(self, prompts: Any, settings: Settings, seeds: Any) -> list[Generation]:
        """Sample one continuation a prompt."""
        return self.engine.sample(prompts, settings, seeds)

    def score(self, sequences: Any, spans: Any, temperature: float, top_k: int, entropy: bool) -> list[Scores]:
        """Score spans of sequences."""
        return self.engine.score(sequences, spans, temperature=temperature, top_k=top_k, entropy=entropy)

    def probe(self, ids: list[int]) -> list[float]:
        """Score the last tokens of a fixed sequence; see `workbench.policy.agreement`."""
        from workbench.policy.agreement import engine_logprobs

        return engine_logprobs(self.engine, ids)

    def load(self, folder: str) -> int:
        """Take the weights of a folder; return their version."""
        from safetensors.torch import load_file

        from workbench.policy.hf import HFEngine

        plain = isinstance(self.engine, HFEngine)
        return self.engine.load(load_file(f"{folder}/model.safetensors") if plain else folder)

    def about(self) -> tuple[int, int | None]:
        """Return the version of the weights, and how many tokens a sequence may have."""
        return self.engine.version, self.engine.positions


def _hf_engine(policy: Any, version: int, device: str) -> Any:
    from workbench.policy.hf import HFEngine

    model = policy.engine.model
    model = model.merge_and_unload() if hasattr(model, "merge_and_unload") else model
    return HFEngine(model.requires_grad_(False).to(device), version=version)


# ------------------------------------------------------------------------------------------------ the engine


class Players:
    """An engine made of several; see `workbench.policy.base.Engine`.

    Args:
        make: starts one, given the folder and the version of the weights; returns the handle of the actor.
        count: how many.
        folder, version: of the weights they start with.
    """

    def __init__(self, make: Callable[[str, int], Any], count: int, folder: str, version: int):
        self.make, self.folder, self._version = make, folder, version
        self.actors = [make(folder, version) for _ in range(count)]
        self.deaths = [0] * count
        self.restarts, self.positions = 0, None

    @property
    def version(self) -> int:
        """Version of the weights; `load` raises it."""
        return self._version

    def ready(self) -> None:
        """Wait until all are up."""
        import ray

        for number in range(len(self.actors)):
            self.positions = self._retried(number, lambda actor: ray.get(actor.about.remote()))[1]

    async def generate(
        self, prompts: Sequence[Sequence[int]], settings: Settings, seeds: Sequence[int]
    ) -> list[Generation]:
        """Sample one continuation a prompt: neighbours, which share a beginning, go to the same player."""
        parts = [range(a, b) for a, b in _even(len(prompts), len(self.actors))]
        asked = [
            self._generate(number, [prompts[i] for i in part], settings, [seeds[i] for i in part])
            for number, part in enumerate(parts)
            if len(part)
        ]
        return [one for part in await asyncio.gather(*asked) for one in part]

    async def _generate(self, number: int, prompts: Any, settings: Settings, seeds: Any) -> list[Generation]:
        from ray.exceptions import RayActorError

        while True:
            actor = self.actors[number]
            try:
                found = await asyncio.wrap_future(actor.generate.remote(prompts, settings, seeds).future())
            except RayActorError as error:
                self._replace(number, actor, error)
                number = self._another(number)
                continue
            self.deaths[number] = 0
            return found

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
        import ray

        parts = [(a, b) for a, b in _even(len(sequences), len(self.actors)) if a < b]
        call = lambda n, a, b: self.actors[n].score.remote(sequences[a:b], spans[a:b], temperature, top_k, entropy)  # noqa: E731
        refs = [call(number, a, b) for number, (a, b) in enumerate(parts)]
        found: list[Scores] = []
        for number, ((a, b), ref) in enumerate(zip(parts, refs, strict=True)):
            first = [ref]

            def once(actor: Any, number: int = number, a: int = a, b: int = b, first: list[Any] = first) -> Any:
                return ray.get(first.pop() if first else call(number, a, b))

            found += self._retried(number, once)
        return found

    def probe(self, ids: list[int]) -> dict[str, list[float]]:
        """Return what each player says of the last tokens of a fixed sequence."""
        import ray

        ask = lambda actor: ray.get(actor.probe.remote(ids))  # noqa: E731
        return {f"player {n}": self._retried(n, ask) for n in range(len(self.actors))}

    def load(self, weights: str | Path | None) -> int:
        """Give all players the weights of a folder, in place.

        Args:
            weights: folder with `model.safetensors`; None only counts the version up (of weights loaded later).
        """
        import ray

        self._version += 1
        if weights is None:
            return self._version
        self.folder = str(weights)
        refs = [actor.load.remote(self.folder) for actor in self.actors]
        for number, ref in enumerate(refs):
            first = [ref]
            version = self._retried(
                number,
                # one that is made anew begins with these weights
                lambda actor, first=first: ray.get(first.pop()) if first else ray.get(actor.about.remote())[0],
            )
            if version != self._version:
                raise RuntimeError(f"player {number} has version {version} of the weights, expected {self._version}")
        return self._version

    def _retried(self, number: int, call: Callable[[Any], Any]) -> Any:
        """Ask one player; make it anew as long as it dies."""
        from ray.exceptions import RayActorError

        while True:
            actor = self.actors[number]
            try:
                found = call(actor)
            except RayActorError as error:
                self._replace(number, actor, error)
                continue
            self.deaths[number] = 0
            return found

    def _replace(self, number: int, dead: Any, error: Exception) -> None:
        """Make a player anew with the weights of the others; once, however many calls have seen it die."""
        if self.actors[number] is not dead:
            return
        self.deaths[number] += 1
        self.restarts += 1
        if self.deaths[number] > DEATHS:
            why = " ".join(str(error).split())[-600:]
            raise RuntimeError(f"player {number} died {self.deaths[number]} times in a row, the last time by: {why}")
        print(f"player {number} died; a new one begins with version {self._version}", flush=True)
        self.actors[number] = self.make(self.folder, self._version)

    def _another(self, number: int) -> int:
        """Return who has died least lately: a new player is not up yet."""
        return min(range(len(self.actors)), key=lambda n: (self.deaths[n], n == number))

    def close(self) -> None:
        """End them."""
        import ray

        for actor in self.actors:
            ray.kill(actor)


def _even(count: int, hands: int) -> list[tuple[int, int]]:
    """Cut `count` neighbours into `hands` runs of like length, [start, stop) each.

    Example:
        >>> _even(5, 2)
        [(0, 3), (3, 5)]
    """
    size, more = divmod(count, hands)
    starts = [n * size + min(n, more) for n in range(hands + 1)]
    return list(zip(starts, starts[1:], strict=False))
