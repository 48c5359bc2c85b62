"""The ways TRL's `GRPOTrainer` has to play several turns with a model of this size, made to play the chain world.

An episode is the same on every route: the question, lines `Search: ...` answered by `Result: ...`, at most the world's
turns, over with `Answer: ...`; a turn is at most 32 tokens; the world's own code answers and judges.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from halves.common import WORLD
from workbench.envs.base import Task
from workbench.trajectory import Message, ToolCall

LINE = 32  # tokens of a turn, at most
BUDGET = 256  # tokens of an episode behind the question; the longest is 6 turns of about 25

TEMPLATE = (
    "{%- for m in messages -%}"
    "{%- if m.role == 'user' -%}{{ 'Question: ' + m.content + '\n' }}"
    "{%- elif m.role == 'tool' -%}{{ 'Result: ' + m.content + '\n' }}"
    "{%- elif m.tool_calls -%}{%- set call = m.tool_calls[0].function -%}"
    "{%- if call.name == 'search' -%}{{ 'Search: ' + (call.arguments.query or '') + '\n' }}"
    "{%- else -%}{{ call.name }}: {{ call.arguments | tojson }}{{ '\n' }}{%- endif -%}"  # TRL tries another tool
    "{%- elif m.role == 'assistant' -%}{{ (m.content or '') + '\n' }}"
    "{%- endif -%}{%- endfor -%}"
)
PARSER = {
    "defaults": {"role": "assistant"},
    "start_anchor": "\n",
    "fields": {
        "tool_calls": {
            "open": "Search: ",
            "close_pattern": r"\n",
            "repeats": True,
            "content": "text",
            "transform": {"type": "function", "function": {"name": "search", "arguments": {"query": "{content}"}}},
        },
        "content": {"close_pattern": r"\n", "content": "text"},
    },
}


@dataclass
class Way:
    """A route: what the trainer and its configuration are given for it.

    Args:
        row: a task as a row of the data set.
        arguments, settings: of the trainer and of its configuration.
        turns: an episode may take.
    """

    row: Any
    arguments: Mapping[str, Any]
    settings: Mapping[str, Any] = field(default_factory=dict)
    turns: int = WORLD.max_turns


# ------------------------------------------------------------------------------- environment_factory and its tool loop


class Episode:
    """The world as TRL's `environment_factory` wants it: a method is a tool, `reset` begins."""

    def __init__(self) -> None:
        self._env = WORLD.fresh()

    def reset(self, task: Any, **_: Any) -> None:
        """Begin a task."""
        self._env.reset(Task(**task))

    def search(self, query: str) -> str:
        """Search the documents.

        Args:
            query: what to look for.
        """
        return _say(self._env, "search", {"query": query})


def tools(tokenizer: Any, played: list[dict[str, float]], **settings: Any) -> Way:
    """Let TRL's own loop call the tool; the text of a turn is read by a response template of transformers."""
    tokenizer.chat_template, tokenizer.response_template = TEMPLATE, PARSER

    def reward(completions: Any, environments: Any, **_: Any) -> list[float]:
        found = []
        for messages, episode in zip(completions, environments, strict=True):
            said = [m for m in messages if m["role"] == "assistant"]
            text = (said[-1].get("content") or "") if said else ""
            if text.startswith("Answer: ") and not episode._env.progress.done:
                _say(episode._env, "answer", {"text": text.removeprefix("Answer: ")})
            outcome = float(episode._env.progress.outcome or 0.0)
            played.append({"outcome": outcome, "turns": len(said)})
            found.append(outcome)
        return found

    row = lambda task: {"prompt": [{"role": "user", "content": task.question}], "task": _plain(task)}  # noqa: E731
    return Way(row, {"environment_factory": Episode, "reward_funcs": reward}, settings)


def tools_paged(tokenizer: Any, played: list[dict[str, float]]) -> Way:
    """Do the same with the continuous batching of transformers (paged attention).

    Left to itself it takes most of the machine's memory for its blocks and makes them anew in every round; here it gets
    as many as 64 episodes can fill.
    """
    sizes = {"num_blocks": 256, "max_batch_tokens": 4096}
    return tools(
        tokenizer,
        played,
        use_transformers_continuous_batching=True,
        transformers_continuous_batching_config=sizes,
    )


def tools_vllm(tokenizer: Any, played: list[dict[str, float]]) -> Way:
    """Do the same with vLLM in this process."""
    return tools(tokenizer, played, use_vllm=True, vllm_mode="colocate", vllm_max_model_length=1024)


# ------------------------------------------------------------------------------------------------------- rollout_func


def whole(tokenizer: Any, played: list[dict[str, float]]) -> Way:
    """Give `rollout_func` a loop over `model.generate`: a turn reads its whole context again."""

    def sample(trainer: Any, contexts: Sequence[list[int]], kept: Any) -> tuple[list[list[int]], Any]:
        width = max(len(c) for c in contexts)
        ids, mask = torch.zeros(len(contexts), width, dtype=torch.long), torch.zeros(len(contexts), width).long()
        for n, context in enumerate(contexts):
            ids[n, width - len(context) :], mask[n, width - len(context) :] = torch.tensor(context), 1
        out = trainer.model.generate(input_ids=ids, attention_mask=mask, generation_config=trainer.generation_config)
        return [_line(row, tokenizer.eos_token_id) for row in out[:, width:].tolist()], None

    return _rollouts(tokenizer, played, sample, lambda kept, rows: None)


def kept(tokenizer: Any, played: list[dict[str, float]]) -> Way:
    """Give `rollout_func` a loop over `model.generate` that keeps keys and values from turn to turn."""
    from transformers import DynamicCache

    def sample(trainer: Any, contexts: Sequence[list[int]], held: Any) -> tuple[list[list[int]], Any]:
        if held is None:
            held = {"cache": DynamicCache(), "ids": torch.zeros(len(contexts), 0).long(), "read": [0] * len(contexts)}
            held["mask"] = held["ids"]
        new = [c[r:] for c, r in zip(contexts, held["read"], strict=True)]
        width = max(len(n) for n in new)
        ids, mask = torch.zeros(len(new), width, dtype=torch.long), torch.zeros(len(new), width, dtype=torch.long)
        for n, tail in enumerate(new):
            ids[n, width - len(tail) :], mask[n, width - len(tail) :] = torch.tensor(tail), 1
        ids, mask = torch.cat([held["ids"], ids], 1), torch.cat([held["mask"], mask], 1)
        out = trainer.model.generate(
            input_ids=ids,
            attention_mask=mask,
            past_key_values=held["cache"],
            generation_config=trainer.generation_config,
        )
        lines = [_line(row, tokenizer.eos_token_id) for row in out[:, ids.shape[1] :].tolist()]
        size = held["cache"].get_seq_length()  # the last token of all was sampled but not read
        counts = [min(len(line), size - ids.shape[1]) for line in lines]
        behind = torch.arange(size - ids.shape[1])[None] < torch.tensor(counts)[:, None]
        held["ids"], held["mask"] = out[:, :size], torch.cat([mask, behind.long()], 1)
        held["read"] = [len(c) + count for c, count in zip(contexts, counts, strict=True)]
        return lines, held

    def take(held: Any, rows: list[int]) -> Any:
        held["cache"].batch_select_indices(torch.tensor(rows))
        held["ids"], held["mask"] = held["ids"][rows], held["mask"][rows]
        held["read"] = [held["read"][n] for n in rows]
        return held

    return _rollouts(tokenizer, played, sample, take)


def _rollouts(tokenizer: Any, played: list[dict[str, float]], sample: Any, take: Any) -> Way:
    """Return a route over `rollout_func`: a round is one call of `generate` over the live episodes."""
    tasks: dict[str, Task] = {}

    def row(task: Task) -> dict[str, Any]:
        tasks[task.id] = task
        return {"prompt": task.id}

    def play(prompts: list[str], trainer: Any) -> dict[str, Any]:
        worlds = [WORLD.fresh() for _ in prompts]
        for env, name in zip(worlds, prompts, strict=True):
            env.reset(tasks[name])
        starts = [tokenizer(f"Question: {tasks[name].question}\n")["input_ids"] for name in prompts]
        ids, mask, turns = [list(s) for s in starts], [[] for _ in prompts], [0] * len(prompts)
        live, held = list(range(len(prompts))), None
        with torch.no_grad():
            while live:
                lines, held = sample(trainer, [ids[n] for n in live], held)
                for n, line in zip(live, lines, strict=True):
                    turns[n] += 1
                    ids[n] += line
                    mask[n] += [1] * len(line)
                    reply = _answered(tokenizer, worlds[n], line)
                    ids[n] += reply
                    mask[n] += [0] * len(reply)
                going = [r for r, n in enumerate(live) if not worlds[n].progress.done and turns[n] < WORLD.max_turns]
                held = take(held, going) if going and len(going) < len(live) else held
                live = [live[r] for r in going]
        outcomes = [float(env.progress.outcome or 0.0) for env in worlds]
        played.extend({"outcome": o, "turns": t} for o, t in zip(outcomes, turns, strict=True))
        after = [whole[len(start) :] for whole, start in zip(ids, starts, strict=True)]
        return {"prompt_ids": starts, "completion_ids": after, "logprobs": None, "env_mask": mask, "outcome": outcomes}

    def reward(outcome: Sequence[float], **_: Any) -> list[float]:
        return list(outcome)

    return Way(row, {"rollout_func": play, "reward_funcs": reward})


def _line(ids: list[int], end: int) -> list[int]:
    return ids[: ids.index(end) + 1] if end in ids else ids


def _answered(tokenizer: Any, env: Any, line: list[int]) -> list[int]:
    """Give a line to the world; return the tokens of what it says."""
    text = tokenizer.decode(line).split("\n")[0]
    label, _, value = text.partition(": ")
    reply = _say(env, label.lower(), {"text" if label == "Answer" else "query": value})
    return tokenizer(f"Result: {reply}\n")["input_ids"] if reply else []


def _say(env: Any, name: str, arguments: Mapping[str, Any]) -> str:
    """Make a call in the world; return what it says."""
    step = env.respond(Message("turn", "assistant", calls=(ToolCall("call", name, arguments=dict(arguments)),)))
    return step.messages[0].text if step.messages else ""


def _plain(task: Task) -> dict[str, Any]:
    return {"id": task.id, "question": task.question, "gold": dict(task.gold), "data": dict(task.data)}


ROUTES = {
    "tools": tools,
    "tools, paged": tools_paged,
    "tools, vllm": tools_vllm,
    "rollout_func": whole,
    "rollout_func, keys kept": kept,
}
