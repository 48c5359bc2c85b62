"""What TRL's GRPOTrainer writes with `log_completions=True`: `completions/completions_<step>.parquet`.

Columns: step, prompt, completion (texts, or lists of messages), one column a reward function, whatever reward functions
logged themselves, and advantage. The file says neither which columns are rewards nor how TRL weighed them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from workbench.store.chat import prompt_key
from workbench.store.chat_messages import cut, read_messages
from workbench.store.foreign import NO_OUTCOME, NO_TOKENS, Fields, Found, Record, clean, kept_note, number
from workbench.store.report import OnProblem, Problem, problem_of
from workbench.trajectory import RecordError, Trajectory

ADVANTAGE = "trl_advantage"
_OWN = ("step", "prompt", "completion", "advantage")
_FILE = re.compile(r"completions_\d+\.parquet")


def trl_files(path: Path) -> list[Path]:
    """Return the files of a path: itself, or the completions tables of a folder or of a trainer's output folder."""
    if path.is_file():
        return [path]
    folder = path / "completions" if (path / "completions").is_dir() else path
    return sorted(p for p in folder.glob("completions_*.parquet") if _FILE.fullmatch(p.name))


def not_trl(path: Path) -> str | None:
    """Say why a path is no TRL completions table; None if it is."""
    files = trl_files(path) if path.exists() else []
    if not files:
        return "no file and no folder with completions_<step>.parquet"
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        columns = pq.read_schema(files[0]).names
    except (pa.ArrowInvalid, OSError) as error:
        return f"{files[0].name} is not Parquet ({str(error)[:60]})"
    missing = [name for name in _OWN if name not in columns]
    return f"{files[0].name} has no column {', '.join(missing)}; it has {columns[:12]}" if missing else None


def scan_trl(path: Path, fields: Fields, on_problem: OnProblem) -> Iterator[Found]:
    """Yield the completions of a table, or of all tables of a folder in the order of their steps."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for file in trl_files(path):
        try:
            table = pq.ParquetFile(file)
            rewards = _reward_columns(table.schema_arrow)
            rows = enumerate((row for part in table.iter_batches(512) for row in part.to_pylist()), 1)
            yield from _scan_rows(file, rows, rewards, fields, on_problem)
        except (pa.ArrowInvalid, OSError) as error:
            on_problem(Problem(file.name, None, None, f"not a whole Parquet file: {error}"))


def _reward_columns(schema: Any) -> tuple[str, ...]:
    """Float columns between `completion` and `advantage`: the rewards, and float extras, which look the same."""
    import pyarrow as pa

    names = [f.name for f in schema if pa.types.is_floating(f.type)]
    return tuple(name for name in names if name not in _OWN and not name.startswith("__"))


def _scan_rows(
    file: Path, rows: Iterable[tuple[int, dict[str, Any]]], rewards: tuple[str, ...], fields: Fields, tell: OnProblem
) -> Iterator[Found]:
    for line, row in rows:
        losses: list[str] = []
        name = f"{file.stem}/{line}"
        try:
            trajectory = _trajectory(name, row, rewards, fields, losses)
            yield Found(file.name, line, trajectory, tuple(dict.fromkeys(losses)))
        except RecordError as error:
            tell(problem_of(error.at(trajectory=name), file.name, line))


def _trajectory(
    name: str, row: Mapping[str, Any], rewards: tuple[str, ...], fields: Fields, losses: list[str]
) -> Trajectory:
    rest = Record({k: v for k, v in row.items() if k not in ("__index_level_0__", "prompt", "completion")})
    _, step = rest.take(("step",))
    gold_field, gold = rest.take(fields.gold)
    group_field, group = rest.take(fields.group)
    _, advantage = rest.take(("advantage",))
    values = {r: _number(rest.take((r,))[1]) for r in rewards}
    named = fields.outcome if fields.outcome != Fields().outcome else ()
    outcome = values.get(named[0]) if named and named[0] in values else _total(values, losses)
    if named and named[0] not in values:
        outcome = number(rest.take(named)[1], named[0], losses)
    done = cut(read_messages(_messages(row, losses), losses), losses)
    if outcome is None:
        losses.append(NO_OUTCOME)
    if not group_field:
        losses.append("no group field: completions of one step with the same prompt are one group")
    losses += [NO_TOKENS, "TRL's table holds the last generation batch of each logging step only"]
    left = rest.left()
    if left:
        losses.append(kept_note(left))
    return Trajectory(
        id=name,
        group=str(group) if group_field else f"step-{step}/{prompt_key(done.prompt)}",
        prompt=done.prompt,
        turns=done.turns,
        outcome=outcome,
        rewards={**values, ADVANTAGE: _number(advantage)},
        gold={"answer": clean(gold, gold_field, losses)} if gold_field else {},
        extra={"step": step, **{k: clean(v, k, losses) for k, v in left.items()}},
    )


def _number(value: Any) -> float | None:
    """A reward; NaN is what TRL writes where a reward function returned None."""
    return None if value is None or math.isnan(value) else float(value)


def _total(values: Mapping[str, float | None], losses: list[str]) -> float | None:
    """The plain sum of the known rewards: what TRL computes with equal weights; None if none is known."""
    known = [v for v in values.values() if v is not None]
    if len(values) > 1:
        losses.append(
            f"outcome is the plain sum of {', '.join(values)} (the file does not say TRL's reward_weights, nor whether "
            "a column is a reward or a logged extra); name one with read(path, fields={'outcome': NAME})"
        )
    return sum(known) if known else None


def _messages(row: Mapping[str, Any], losses: list[str]) -> list[Any]:
    """Prompt and completion as messages; texts become one user and one assistant message."""
    prompt, completion = row["prompt"], row["completion"]
    before = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    after = [{"role": "assistant", "content": completion}] if isinstance(completion, str) else completion
    if not isinstance(before, list) or not isinstance(after, list):
        raise RecordError(f"expected texts or messages, got {type(prompt).__name__} and {type(completion).__name__}")
    if any(None in arguments.values() for m in after for arguments in _arguments(m)):
        losses.append("arguments of tool calls that are null in the table are taken as not given")
    return [_without_nulls(m) for m in (*before, *after)]


def _arguments(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    functions = [(call or {}).get("function") or {} for call in message.get("tool_calls") or []]
    return [f["arguments"] for f in functions if isinstance(f.get("arguments"), Mapping)]


def _without_nulls(value: Any) -> Any:
    """Parquet gives every message the fields of all the others, as nulls: they were not there.

    `content` stays: an assistant message that only calls tools has it as null.
    """
    if isinstance(value, Mapping):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None or k == "content"}
    return [_without_nulls(v) for v in value] if isinstance(value, list) else value
