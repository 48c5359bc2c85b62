"""Chat JSON lines: one conversation a line, with OpenAI-like messages and whatever else its tool wrote beside them.

A line is `{"messages": [...], ...}`, `{"prompt": [...], "completion": [...], ...}` or the bare list of messages.
Tokens are taken from per-message `prompt_token_ids` and `token_ids` (what inference servers return), or from the ids of
the whole conversation with a mask of the sampled ones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from workbench.store.chat_messages import Cut, cut, read_messages
from workbench.store.chat_tokens import Step, from_mask, from_steps, ids_of, logprobs_of, mask_of
from workbench.store.decode import loads
from workbench.store.foreign import (
    NO_LOGPROBS,
    NO_OUTCOME,
    NO_TOKENS,
    Fields,
    Found,
    Record,
    clean,
    kept_note,
    number,
    truth,
)
from workbench.store.report import OnProblem, Problem, problem_of
from workbench.trajectory import Message, RecordError, Sequence, Trajectory, Turn

_PER_RECORD: Mapping[str, tuple[str, ...]] = {
    "mask": ("sampled_mask", "loss_mask", "response_mask", "completion_mask", "assistant_masks", "assistant_mask"),
    "ids": ("token_ids", "input_ids"),
    "prompt": ("prompt_token_ids", "prompt_ids"),
    "completion": ("completion_token_ids", "completion_ids", "response_ids"),
    "logprobs": ("logprobs", "sampling_logprobs", "completion_logprobs"),
}
_PER_TURN = ("token_ids", "prompt_token_ids", "logprobs")


def not_chat(path: Path) -> str | None:
    """Say why a file is not chat JSON lines; None if one of its first records is a conversation."""
    if not path.is_file():
        return "not a file"
    why = "the file is empty"
    for line, record in islice(_records(path), _LOOKED_AT):
        if isinstance(record, RecordError):
            why = f"its line {line} is {record.problem}"[:160]
        elif _is_conversation(record):
            return None
        else:
            why = f"its record {line} has no `messages`; it has {sorted(record)[:12]}"
    return why


_LOOKED_AT = 20
"""How many records may be bad before the file is taken for something else."""


def _is_conversation(record: Mapping[str, Any]) -> bool:
    said = _conversation(record)
    if isinstance(said, list):
        return len(said) > 0 and isinstance(said[0], dict) and "role" in said[0]
    return isinstance(said, str) and said.lstrip().startswith("[")


def scan_chat(path: Path, fields: Fields, on_problem: OnProblem) -> Iterator[Found]:
    """Yield the conversations of a file; what cannot be read goes to `on_problem`."""
    for line, record in _records(path):
        losses: list[str] = []
        try:
            if isinstance(record, RecordError):
                raise record
            trajectory = read_record(record, fields, f"{path.stem}/{line}", losses)
        except RecordError as error:
            torn = error.field == "torn"
            on_problem(
                Problem(path.name, line, None, error.problem, torn) if torn else problem_of(error, path.name, line)
            )
            continue
        yield Found(path.name, line, trajectory, tuple(dict.fromkeys(losses)))


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any] | RecordError]]:
    """Yield (line, record or the error of reading it); a file that is one JSON array counts its items as lines."""
    if path.suffix == ".json":
        yield from _array(path)
        return
    with path.open("rb") as file:
        for number_, line in enumerate(file, 1):
            if line.strip():
                yield number_, _record(line)


def _record(line: bytes) -> dict[str, Any] | RecordError:
    try:
        if line.lstrip().startswith(b"["):
            return {"messages": json.loads(line)}
        return loads(line)
    except RecordError as error:
        torn = not line.endswith(b"\n") and error.problem.startswith("not JSON")
        if torn:
            return RecordError("the last line is torn (its writer was stopped); skipped", field="torn")
        return error
    except ValueError as error:
        return RecordError(f"not JSON: {error}")


def _array(path: Path) -> Iterator[tuple[int, dict[str, Any] | RecordError]]:
    try:
        value = json.loads(path.read_bytes())
    except ValueError as error:
        yield 1, RecordError(f"not JSON: {error}")
        return
    items = value if isinstance(value, list) else [value]
    if items and isinstance(items[0], dict) and "role" in items[0]:
        items = [items]  # the one conversation itself
    for number_, item in enumerate(items, 1):
        record = {"messages": item} if isinstance(item, list) else item
        yield number_, record if isinstance(record, dict) else RecordError(f"expected an object, got {record!r:.40}")


def _conversation(record: Mapping[str, Any]) -> Any:
    """The messages of a record: in one list, or as prompt and completion; None if there are none."""
    if isinstance(record.get("messages"), (list, str)):
        return record["messages"]
    prompt, completion = record.get("prompt"), record.get("completion")
    if isinstance(prompt, list) and isinstance(completion, list):
        return [*prompt, *completion]
    return None


def read_record(record: Mapping[str, Any], fields: Fields, name: str, losses: list[str]) -> Trajectory:
    """Return the trajectory of one conversation.

    Args:
        record: as the tool wrote it.
        fields: which of its fields mean what.
        name: id if it has none.
        losses: gets one sentence for each thing that could not be kept as it was.

    Raises:
        RecordError: names trajectory, turn or message, and field.
    """
    rest = Record(record)
    own, given = rest.take(fields.id)
    id_ = str(given) if own else name
    try:
        said = _conversation(record)
        rest.take(("messages",) if "messages" in record else ("prompt",))
        rest.take(("completion",) if "messages" not in record else ())
        chat = read_messages(_parsed(said), losses)
        done = cut(chat, losses)
        return _trajectory(id_, rest, fields, done, losses)
    except RecordError as error:
        raise error.at(trajectory=id_) from None


def _parsed(said: Any) -> Any:
    """Messages that were stored as the text of their JSON."""
    if not isinstance(said, str):
        return said
    try:
        return json.loads(said)
    except ValueError as error:
        raise RecordError(
            f"expected a list of messages, got text that is not JSON: {error}", field="messages"
        ) from None


def _trajectory(id_: str, rest: Record, fields: Fields, done: Cut, losses: list[str]) -> Trajectory:
    group_field, group = rest.take(fields.group)
    if not group_field:
        losses.append("no group field: conversations with the same prompt are one group")
    outcome_field, outcome = rest.take(fields.outcome)
    gold_field, gold = rest.take(fields.gold)
    stop_field, stop = rest.take(fields.stop_reason)
    value = number(outcome, outcome_field, losses)
    if value is None:
        losses.append(NO_OUTCOME)
    turns, sequences = _sequences(rest, done, losses)
    left = rest.left()
    if left:
        losses.append(kept_note(left))
    return Trajectory(
        id=id_,
        group=str(group) if group_field else prompt_key(done.prompt),
        prompt=done.prompt,
        turns=turns,
        sequences=sequences,
        outcome=value,
        gold={"answer": clean(gold, gold_field, losses)} if gold_field else {},
        truncated=truth(rest.take(fields.truncated)[1], "truncated"),
        stop_reason=str(stop) if stop_field else "",
        extra={k: clean(v, k, losses) for k, v in left.items()},
    )


def prompt_key(prompt: tuple[Message, ...]) -> str:
    """Return a group id that equal prompts share."""
    told = [[m.role, m.author, [[p.kind, p.text, p.sha256] for p in m.parts]] for m in prompt]
    return "prompt-" + hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]


# ------------------------------------------------------------------------------------------------------ tokens


def _sequences(rest: Record, done: Cut, losses: list[str]) -> tuple[tuple[Turn, ...], tuple[Sequence, ...]]:
    """(turns, sequences): tokens from whichever fields suffice; what is not used is kept in `extra`, with a note."""
    found = _from_messages(done, losses)
    turns = tuple(_with_rest(turn, f, used=bool(found)) for turn, f in zip(done.turns, done.fields, strict=True))
    found = found or _from_record(rest, done, losses)
    sampled = [span for s in found for span in s.spans if span.origin == "sampled"]
    if not found and done.turns:
        losses.append(NO_TOKENS)
    elif any(span.logprobs is None or None in span.logprobs for span in sampled):
        losses.append(NO_LOGPROBS)
    return turns, found


def _with_rest(turn: Turn, fields: Mapping[str, Any], *, used: bool) -> Turn:
    """Keep the token fields of a turn that no span holds: all of them, or the texts and alternatives of `logprobs`."""
    kept = {name: fields[name] for name in _PER_TURN if name in fields and (not used or isinstance(fields[name], dict))}
    return replace(turn, extra={**turn.extra, **clean(kept, "tokens", [])}) if kept else turn


def _from_messages(done: Cut, losses: list[str]) -> tuple[Sequence, ...]:
    """Every turn says what it saw and what it sampled."""
    if not done.turns or not any("token_ids" in f for f in done.fields):
        return ()
    if not all("token_ids" in f and "prompt_token_ids" in f for f in done.fields):
        losses.append("`token_ids` without `prompt_token_ids` at every turn: what the model saw is not known")
        return ()
    steps = []
    for k, (turn, f) in enumerate(zip(done.turns, done.fields, strict=True)):
        try:
            prompt, ids = ids_of(f["prompt_token_ids"], "prompt_token_ids"), ids_of(f["token_ids"], "token_ids")
            steps.append(Step(k, turn.action.id, prompt, ids, logprobs_of(f.get("logprobs"), "logprobs")))
        except RecordError as error:
            raise error.at(turn=k) from None
    return from_steps(steps)


def _from_record(rest: Record, done: Cut, losses: list[str]) -> tuple[Sequence, ...]:
    """The record has the ids of the whole conversation and a mask of the sampled ones."""
    fields = {kind: rest.take(names) for kind, names in _PER_RECORD.items()}
    there = {name: value for name, value in fields.values() if name}
    problem = None
    sequence = None
    if there:
        whole = _whole(fields)
        problem = "they do not say which tokens were sampled"
        if whole is not None:
            turns = [(k, turn.action.id) for k, turn in enumerate(done.turns)]
            trained = [(k, name) for k, name in turns if done.turns[k].trainable]
            sequence = from_mask(*whole, turns) or from_mask(*whole, trained)
            problem = "the runs of the mask of sampled tokens are not as many as the turns"
    if sequence is None:
        if problem:
            losses.append(f"token fields {', '.join(sorted(there))} are not used: {problem}")
        rest.put_back(there)
        return ()
    losses.append("the turn of each token is taken from the runs of the mask of sampled tokens")
    if not fields["logprobs"][0]:
        losses.append("the file does not say if its token ids are those that were sampled or the text tokenised again")
    return (sequence,)


class _Whole(NamedTuple):
    """One forward pass: ids, which of them were sampled, and their log-probs."""

    ids: tuple[int, ...]
    mask: tuple[bool, ...]
    logprobs: tuple[float | None, ...] | None


def _whole(fields: Mapping[str, tuple[str, Any]]) -> _Whole | None:
    """Join prompt and completion; None if nothing says which tokens were sampled."""
    mask_field, mask = fields["mask"]
    ids_field, ids = fields["ids"]
    before: tuple[int, ...] = ()
    if not ids_field:
        ids_field, completion = fields["completion"]
        if not ids_field:
            return None
        before = ids_of(fields["prompt"][1], fields["prompt"][0]) if fields["prompt"][0] else ()
        ids = [*before, *ids_of(completion, ids_field)]
    if not mask_field and not before:
        return None
    whole = ids_of(ids, ids_field)
    own = len(whole) - len(before)  # a mask or log-probs may be of the completion alone
    given = [1] * own if not mask_field else mask
    if before and isinstance(given, list) and len(given) == own:
        given = [0] * len(before) + given
    probs_field, probs = fields["logprobs"]
    values = logprobs_of(probs, probs_field)
    if before and values is not None and len(values) == own:
        values = (None,) * len(before) + values
    return _Whole(whole, mask_of(given, len(whole), mask_field or ids_field), values)
