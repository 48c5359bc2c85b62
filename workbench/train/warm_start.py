"""What a policy is warm-started on: a scripted player's demonstrations, mistakes included."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from workbench import envs
from workbench.envs import dialogue, sudoku, toolbox
from workbench.envs.base import Task
from workbench.envs.demonstrate import imperfect_demonstration, spoiled_lookup
from workbench.envs.facet import spoiled
from workbench.envs.games import any_move
from workbench.envs.misread import Habit, misread_search, with_misreading
from workbench.policy.renderers import PlainText
from workbench.seeds import seed_for
from workbench.trajectory import Example, Trajectory
from workbench.transforms import imitate, with_tokens

REASON = "warm start: imperfect demonstration"
LENGTH = {"facet": "clues", "tictactoe": "opening", "sudoku": "empty", "dialogue": "worst", "toolbox": "changes"}
"""The knob for the number of searches a question takes, where it is not called hops."""
SPOIL = {
    "chain": spoiled_lookup,
    "known": spoiled_lookup,
    "facet": spoiled,
    "toolbox": toolbox.spoiled,
    "dialogue": dialogue.any_reply,
    "sudoku": any_move,
}
"""What makes a random mistake, for worlds whose script can be given a habit."""
HABITS: Mapping[str, Habit] = {
    "toolbox": toolbox.add_for_take,
    "dialogue": dialogue.hasty,
    "sudoku": sudoku.row_only,
}
"""What the script does by habit, where it is not the misreading of a search."""


def demonstrations(
    world: str,
    tokenizer: Any,
    count: int,
    error_rate: float,
    seed: int,
    hops: Sequence[int] = (3,),
    misread: float = 0.0,
    knobs: Mapping[str, Any] | None = None,
) -> list[Example]:
    """Play `count` training tasks of a world by script and return them as examples; mistakes are learned, too.

    Args:
        world: "chain", or another world with `imperfect_demonstration(task, rng, error_rate)`.
        tokenizer: of the model; the text is plain, without worked examples.
        count: tasks, each played once.
        error_rate: share of turns the script spoils.
        seed: of tasks and mistakes.
        hops: searches a question takes (in "facet": its clues); each value gets an equal part of the tasks. Short ones
            teach to copy an answer long before a chain of three is ever followed to its end.
        misread: how often the script follows its habit where that applies: it reads some words as others (see
            `workbench.envs.misread`), or what `HABITS` says.
        knobs: other knobs of the world.

    Raises:
        ValueError: the world has no scripted player.
    """
    from tqdm import tqdm

    made: list[Example] = []
    for number, length in enumerate(hops):
        env: Any = envs.load(world, **{**(knobs or {}), LENGTH.get(world, "hops"): length})
        if not hasattr(env, "imperfect_demonstration"):
            raise ValueError(f"world {world!r} has no scripted player (a method `imperfect_demonstration`)")
        if misread and world not in SPOIL:
            raise ValueError(f"world {world!r}: misreading is known for {sorted(SPOIL)}; use misread 0")
        renderer = PlainText(tokenizer, tools=env.tools)
        share = count // len(hops) + (number < count % len(hops))
        tasks = tqdm(env.tasks("train", share, seed), desc=f"demonstrations, {length} hops", delay=2.0, mininterval=1.0)
        played = (_play(env, task, renderer, error_rate, seed, misread) for task in tasks)
        made += imitate(played, origins=("forced",), reason=REASON)
    return made


def _play(env: Any, task: Task, renderer: PlainText, error_rate: float, seed: int, misread: float) -> Trajectory:
    rng = random.Random(seed_for("demonstration", seed, task.id))
    if misread:
        world = task.id.partition("-")[0]
        choose = with_misreading(SPOIL[world], error_rate, misread, HABITS.get(world, misread_search))
        played = imperfect_demonstration(env, task, rng, 1.0, choose)
    else:
        played = env.imperfect_demonstration(task, rng, error_rate)
    return with_tokens(played, renderer, env.tools)


def start(name: str, seed: int, world: str = "chain") -> tuple[Any, Any]:
    """Return (model, tokenizer) to train: "tiny" from nothing, in the words of a world, "tiny@<world>" from where that
    start ends, or any causal model of transformers."""
    kind, _, other = name.partition("@")
    if kind == "tiny":
        from workbench.policy import tiny, tiny_tokenizer

        spoken = tiny_tokenizer.load(tiny_tokenizer.file_of(world))
        return tiny.load(other) if other else (tiny.model(seed_for("tiny", seed)), spoken)
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(name, dtype="float32"), AutoTokenizer.from_pretrained(name)
