"""Engines in processes of their own: `Players` is an `Engine` that spreads what it is asked over Ray actors.

A player that dies is replaced, gets the weights of the others, and what it was asked is asked of another one. Episodes
live in the driver: what died is one call, never a rollout.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from workbench.policy.base import Generation, Scores, Settings
from workbench.runs import Run
from workbench.train.shipping import unpack

DEATHS = 3  # of one player, in a row, that are mended
Call = Callable[[Any], Any]
"""Asks an actor; returns what Ray gives at once, to be waited for."""

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
                self.load(folder, version)

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

    def load(self, folder: str, version: int) -> int:
        """Take the weights of a folder, in place, unless it has this version already; return the version it has."""
        from safetensors.torch import load_file

        from workbench.policy.hf import HFEngine

        if self.engine.version != version:
            plain = isinstance(self.engine, HFEngine)
            self.engine.load(load_file(f"{folder}/model.safetensors") if plain else folder)
        return self.engine.version

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
        self.positions = self._ask_each(lambda actor: actor.about.remote())[0][1]

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
        while True:
            actor = self.actors[number]
            try:
                found = await asyncio.wrap_future(actor.generate.remote(prompts, settings, seeds).future())
            except lost() as error:
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
        parts = [(n, a, b) for n, (a, b) in enumerate(_even(len(sequences), len(self.actors))) if a < b]

        def call(a: int, b: int) -> Call:
            return lambda actor: actor.score.remote(sequences[a:b], spans[a:b], temperature, top_k, entropy)

        return [one for part in self._ask([(n, call(a, b)) for n, a, b in parts]) for one in part]

    def probe(self, ids: list[int]) -> dict[str, list[float]]:
        """Return what each player says of the last tokens of a fixed sequence."""
        return {f"player {n}": said for n, said in enumerate(self._ask_each(lambda actor: actor.probe.remote(ids)))}

    def load(self, weights: str | Path | None) -> int:
        """Give all players the weights of a folder, in place.

        Args:
            weights: folder with `model.safetensors`; None only counts the version up (of weights loaded later).
        """
        self._version += 1
        if weights is not None:
            self.folder = str(weights)
            found = self._ask_each(lambda actor: actor.load.remote(self.folder, self._version))
            if set(found) != {self._version}:
                raise RuntimeError(f"players have the versions {found} of the weights, expected {self._version}")
        return self._version

    # -- deaths --------------------------------------------------------------------------------------------

    def _ask_each(self, call: Call) -> list[Any]:
        return self._ask([(number, call) for number in range(len(self.actors))])

    def _ask(self, calls: Sequence[tuple[int, Call]]) -> list[Any]:
        """Ask players, all at once, by number; one that dies is made anew and asked again."""
        asked = [(number, call, self.actors[number], call(self.actors[number])) for number, call in calls]
        return [self._answer(*one) for one in asked]

    def _answer(self, number: int, call: Call, actor: Any, ref: Any) -> Any:
        import ray

        while True:
            try:
                found = ray.get(ref)
            except lost() as error:
                self._replace(number, actor, error)
                actor = self.actors[number]
                ref = call(actor)
                continue
            self.deaths[number] = 0
            return found

    def _replace(self, number: int, dead: Any, error: Exception) -> None:
        """Make a player anew with the weights of the others; once, however many calls have seen it die."""
        import ray

        if self.actors[number] is not dead:
            return
        why = " ".join(str(error).split())[-600:]
        if getattr(error, "actor_init_failed", False):  # by an error of its own: so would the next one
            raise RuntimeError(f"player {number} cannot begin: {why}") from error
        self.deaths[number] += 1
        self.restarts += 1
        if self.deaths[number] > DEATHS:
            raise RuntimeError(f"player {number} died {self.deaths[number]} times in a row, the last time by: {why}")
        with suppress(Exception):  # as a rule it is gone
            ray.kill(dead)  # else it is beyond reach only, and would keep its processor or GPU
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


def lost() -> tuple[type[Exception], ...]:
    """Return the errors of a player that is gone, or of an answer that went with the machine it lay on."""
    from ray.exceptions import ObjectLostError, RayActorError

    return RayActorError, ObjectLostError


def _even(count: int, hands: int) -> list[tuple[int, int]]:
    """Cut `count` neighbours into `hands` runs of like length, [start, stop) each.

    Example:
        >>> _even(5, 2)
        [(0, 3), (3, 5)]
    """
    size, more = divmod(count, hands)
    starts = [n * size + min(n, more) for n in range(hands + 1)]
    return list(zip(starts, starts[1:], strict=False))
