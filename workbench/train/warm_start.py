"""What a policy is warm-started on: a scripted player's demonstrations, mistakes included."""

from __future__ import annotations

import random
from typing import Any

from workbench import envs
from workbench.policy.renderers import PlainText
from workbench.seeds import seed_for
from workbench.trajectory import Example, Trajectory
from workbench.transforms import imitate, with_tokens

REASON = "warm start: imperfect demonstration"


def demonstrations(world: str, tokenizer: Any, count: int, error_rate: float, seed: int) -> list[Example]:
    """Play `count` training tasks of a world by script and return them as examples; mistakes are learned, too.

    Args:
        world: "chain", or another world with `imperfect_demonstration(task, rng, error_rate)`.
        tokenizer: of the model; the text is plain, without worked examples.
        count: tasks, each played once.
        error_rate: share of turns the script spoils.
        seed: of tasks and mistakes.

    Raises:
        ValueError: the world has no scripted player.
    """
    from tqdm import tqdm

    env: Any = envs.load(world)
    if not hasattr(env, "imperfect_demonstration"):
        raise ValueError(f"world {world!r} has no scripted player (a method `imperfect_demonstration`)")
    renderer = PlainText(tokenizer, tools=env.tools)
    tasks = tqdm(env.tasks("train", count, seed), desc="demonstrations", delay=2.0)

    def play(task: Any) -> Trajectory:
        rng = random.Random(seed_for("demonstration", seed, task.id))
        return with_tokens(env.imperfect_demonstration(task, rng, error_rate), renderer, env.tools)

    return imitate((play(task) for task in tasks), origins=("forced",), reason=REASON)


def start(name: str, seed: int) -> tuple[Any, Any]:
    """Return (model, tokenizer) to train: "tiny" from nothing, or any causal model of transformers."""
    if name == "tiny":
        from workbench.policy import tiny, tiny_tokenizer

        return tiny.model(seed_for("tiny", seed)), tiny_tokenizer.load()
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(name, dtype="float32"), AutoTokenizer.from_pretrained(name)
