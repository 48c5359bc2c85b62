"""What happened: messages, turns, sequences, trajectories, groups; and what is trained on: examples, pairs.

    message -> turn -> trajectory -> group (same task instance)              what happened
    token -> span -> sequence                                                what one forward pass saw

Everything here is frozen and checked when it is made. An error names the trajectory, the turn and the field.
Unknown is `None`, never 0.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import SequenceMatcher
from operator import index
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from workbench import show

if TYPE_CHECKING:
    import pandas as pd

Origin = Literal["prompt", "template", "sampled", "forced", "observation", "inserted", "retokenised"]
ORIGINS: tuple[Origin, ...] = ("prompt", "template", "sampled", "forced", "observation", "inserted", "retokenised")
Role = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant", "tool")
PartKind = Literal["text", "image", "audio", "file"]
PART_KINDS: tuple[PartKind, ...] = ("text", "image", "audio", "file")


class RecordError(ValueError):
    """A record that cannot be right; says where (trajectory, turn, field) and what to do.

    Attributes:
        problem: what was expected and what came.
        trajectory: id of the trajectory, when known.
        turn: index of the turn, when the problem is in one.
        field: name of the field.
        line: line of the file, when it was read from one.
    """

    def __init__(
        self,
        problem: str,
        *,
        trajectory: str | None = None,
        turn: int | None = None,
        field: str | None = None,
        line: int | None = None,
    ):
        self.problem, self.trajectory, self.turn, self.field, self.line = problem, trajectory, turn, field, line
        where = [
            f"{name} {value!r}" if name != "turn" else f"turn {value}"
            for name, value in (("trajectory", trajectory), ("turn", turn), ("field", field), ("line", line))
            if value is not None
        ]
        super().__init__(", ".join(where) + (": " if where else "") + problem)

    def at(self, **where: Any) -> RecordError:
        """Return the same error with more of its place filled in."""
        known = {name: getattr(self, name) for name in ("trajectory", "turn", "field", "line")}
        known.update({name: value for name, value in where.items() if known.get(name) is None})
        return RecordError(self.problem, **known)


def _require(condition: bool, problem: str, **where: Any) -> None:
    if not condition:
        raise RecordError(problem, **where)


def _frozen(mapping: Mapping[str, Any]) -> Mapping[str, Any]:
    return MappingProxyType(dict(mapping))


def _number(value: Any, what: str) -> None:
    """Refuse a reward that is no finite number (None, unknown, is fine)."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise RecordError(f"expected a finite number or None (unknown), got {value!r}", field=what)


class _Frozen:
    """Pickling of frozen records: a mapping proxy travels as a dict."""

    def __getstate__(self) -> dict[str, Any]:
        return {
            f.name: dict(value) if isinstance(value := getattr(self, f.name), MappingProxyType) else value
            for f in fields(self)  # type: ignore[arg-type]
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, _frozen(value) if isinstance(value, dict) else value)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return show.mimebundle(self)


# ------------------------------------------------------------------------------------------------ messages


@dataclass(frozen=True)
class Part(_Frozen):
    """One piece of content: text, or an image, audio or file kept by its hash in the `blobs` folder.

    Args:
        kind: "text", "image", "audio" or "file".
        text: the text; empty for the others.
        sha256: 64 hex digits of the bytes; only for the others.
        mime: media type, e.g. "image/png"; only for the others.
    """

    kind: PartKind = "text"
    text: str = ""
    sha256: str = ""
    mime: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise RecordError(f"expected text, got {type(self.text).__name__}", field="parts.text")
        if self.kind == "text":
            _require(not self.sha256, "a text part has no bytes; use kind='file'", field="parts.sha256")
        else:
            _require(self.kind in PART_KINDS, f"expected one of {PART_KINDS}, got {self.kind!r}", field="parts.kind")
            good = re.fullmatch(r"[0-9a-f]{64}", self.sha256) is not None
            _require(good, f"expected 64 hex digits (sha256 of the bytes), got {self.sha256!r}", field="parts.sha256")
            _require("/" in self.mime, f"expected a media type such as 'image/png', got {self.mime!r}", field="mime")


@dataclass(frozen=True)
class ToolCall(_Frozen):
    """A call as the model wrote it, with its parsed arguments or the reason they could not be parsed.

    Args:
        id: unique in its trajectory; a tool message answers it by this id.
        name: tool name; may be empty when even that could not be read.
        raw: the text the model wrote.
        arguments: parsed arguments; None if parsing failed.
        error: why parsing failed; None if it did not.
    """

    id: str
    name: str
    raw: str = ""
    arguments: Mapping[str, Any] | None = None
    error: str | None = None

    def __post_init__(self) -> None:
        _require(isinstance(self.id, str) and self.id != "", f"expected an id, got {self.id!r}", field="calls.id")
        known = (self.arguments is None) != (self.error is None)
        _require(known, "give either `arguments` or the `error` of parsing them, not both or neither", field="calls")
        if self.arguments is not None:
            is_map = isinstance(self.arguments, Mapping)
            _require(is_map, f"expected named arguments, got {type(self.arguments).__name__}", field="calls.arguments")
            object.__setattr__(self, "arguments", _frozen(self.arguments))


@dataclass(frozen=True)
class Message(_Frozen):
    """One message of a conversation.

    Args:
        id: unique in its trajectory.
        role: "system", "user", "assistant" or "tool".
        parts: content, in order; a plain string is taken as one text part.
        author: which agent or tool wrote it ("" if the role says it all).
        parent: id of the message it follows, where the conversation is a tree.
        calls: tool calls it makes, in order.
        answers: id of the call it answers (role "tool").
        extra: fields of a reader's format that have no place here; kept, never interpreted.
    """

    id: str
    role: Role
    parts: tuple[Part, ...] = ()
    author: str = ""
    parent: str | None = None
    calls: tuple[ToolCall, ...] = ()
    answers: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.parts, str):
            object.__setattr__(self, "parts", (Part(text=self.parts),) if self.parts else ())
        object.__setattr__(self, "parts", tuple(self.parts))
        object.__setattr__(self, "calls", tuple(self.calls))
        object.__setattr__(self, "extra", _frozen(self.extra))
        if not isinstance(self.id, str) or self.id == "":
            raise RecordError(f"expected an id, got {self.id!r}", field="id")
        if self.role not in ROLES:
            raise RecordError(f"expected one of {ROLES}, got {self.role!r}", field="role")
        _require(all(isinstance(p, Part) for p in self.parts), "expected Part objects", field="parts")

    @property
    def text(self) -> str:
        """All text parts, joined; other parts appear as [image image/png]."""
        return "".join(p.text if p.kind == "text" else f"[{p.kind} {p.mime}]" for p in self.parts)


# --------------------------------------------------------------------------------------------------- turns


@dataclass(frozen=True)
class Turn(_Frozen):
    """One generation of one agent, and all that comes back before its next.

    Args:
        action: the generated message (role "assistant").
        observations: what came back: tool results, user replies, other agents' messages.
        agent: who generated it.
        policy: id of the policy that sampled it.
        policy_version: first and last version of the weights while it was sampled.
        sampling: settings it was sampled with (temperature, top_p, max_new_tokens, seed ...).
        stop_reason: why generation ended ("stop", "length", "error" ...).
        trainable: may it receive gradient?
        why_not: the reason, required if not trainable.
        state_key: the state it was taken in; equal keys are the same state.
        reward: reward of the turn; None is unknown.
        rewards: named further rewards or parts of it.
        extra: fields of a reader's format that have no place here.
    """

    action: Message
    observations: tuple[Message, ...] = ()
    agent: str = "policy"
    policy: str = ""
    policy_version: tuple[int, int] | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    stop_reason: str = ""
    trainable: bool = True
    why_not: str = ""
    state_key: str | None = None
    reward: float | None = None
    rewards: Mapping[str, float | None] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "observations", tuple(self.observations))
        for name in ("sampling", "rewards", "extra"):
            object.__setattr__(self, name, _frozen(getattr(self, name)))
        role = getattr(self.action, "role", None)
        if role != "assistant":
            raise RecordError(f"expected an assistant message, got role {role!r}", field="action")
        has_why = bool(self.why_not) != self.trainable
        _require(has_why, "a turn that is not trainable needs `why_not`; a trainable one has none", field="why_not")
        _number(self.reward, "reward")
        for name, value in self.rewards.items():
            _number(value, f"rewards[{name!r}]")
        if self.policy_version is not None:
            first, last = self.policy_version
            object.__setattr__(self, "policy_version", (first, last))
            _require(first <= last, f"expected (first, last), got {self.policy_version}", field="policy_version")

    @property
    def messages(self) -> tuple[Message, ...]:
        """The action and its observations, in order."""
        return (self.action, *self.observations)

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The tool calls of the action, in order."""
        return self.action.calls


# ----------------------------------------------------------------------------------------------- sequences


@dataclass(frozen=True)
class Span(_Frozen):
    """A run of tokens of one origin, one turn and one message.

    Args:
        ids: token ids.
        origin: where the tokens come from; only "sampled" ones are trained.
        turn: turn they belong to; -1 before the first turn.
        message: id of the message they render; None for pure template.
        logprobs: per token, under the distribution it was sampled from; None where unknown. Only for "sampled".
        pieces: per token its text, such that the joined pieces are the text; None where unknown.
    """

    ids: tuple[int, ...]
    origin: Origin
    turn: int = -1
    message: str | None = None
    logprobs: tuple[float | None, ...] | None = None
    pieces: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        where: dict[str, Any] = {"turn": self.turn if self.turn >= 0 else None}
        object.__setattr__(self, "ids", _token_ids(self.ids, where))
        if self.origin not in ORIGINS:
            raise RecordError(f"expected one of {ORIGINS}, got {self.origin!r}", field="origin", **where)
        for name in ("logprobs", "pieces"):
            values = getattr(self, name)
            if values is None:
                continue
            object.__setattr__(self, name, tuple(values))
            if len(values) != len(self.ids):
                problem = f"expected one per token ({len(self.ids)}), got {len(values)}"
                raise RecordError(problem, field=name, **where)
        if self.logprobs is not None:
            if self.origin != "sampled":
                problem = f"only sampled tokens have log-probs, origin is {self.origin!r}"
                raise RecordError(problem, field="logprobs", **where)
            bad = _first_bad_logprob(self.logprobs)
            if bad is not None:
                problem = f"token {bad}: expected a finite number <= 0 or None (unknown), got {self.logprobs[bad]!r}"
                raise RecordError(problem, field="logprobs", **where)

    def __len__(self) -> int:
        return len(self.ids)


def _token_ids(values: Iterable[Any], where: Mapping[str, Any]) -> tuple[int, ...]:
    """Token ids as plain integers (those of numpy and torch too)."""
    ids = tuple(values)
    if set(map(type, ids)) - {int}:
        try:
            ids = tuple(index(i) for i in ids)
        except TypeError:
            bad = next(i for i in ids if not hasattr(i, "__index__"))
            raise RecordError(f"expected integers, got {bad!r}", field="ids", **where) from None
    _require(not ids or min(ids) >= 0, "token ids are not negative", field="ids", **where)
    return ids


def _first_bad_logprob(values: tuple[Any, ...]) -> int | None:
    """Index of the first value that is no log-prob; None if all are fine."""
    all_floats = set(map(type, values)) == {float}
    if all_floats and math.isfinite(sum(values)) and max(values) <= 0.0:  # the usual case, without a Python loop
        return None
    return next((i for i, p in enumerate(values) if p is not None and not _is_logprob(p)), None)


def _is_logprob(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value) and value <= 1e-4  # float32 log-softmax may round to just above 0


class Prefix(NamedTuple):
    """The first `length` tokens of sequence `sequence` of trajectory `trajectory`, stored there and only there."""

    trajectory: str
    sequence: int
    length: int


@dataclass(frozen=True)
class Sequence(_Frozen):
    """The tokens one forward pass sees, in order.

    A trajectory has one as long as every prompt extends, token for token, what went before. Where a template drops
    earlier thinking, a context is compacted or a sub-agent starts, a new sequence begins; its re-rendered prefix has
    origin "prompt" and is context without loss.

    Args:
        spans: runs of tokens.
        prefix: tokens that come before and are stored with the parent (a branch); None if there are none.
    """

    spans: tuple[Span, ...]
    prefix: Prefix | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "spans", tuple(self.spans))
        if self.prefix is not None:
            object.__setattr__(self, "prefix", Prefix(*self.prefix))

    @property
    def ids(self) -> tuple[int, ...]:
        """Own token ids (without the prefix)."""
        return tuple(i for span in self.spans for i in span.ids)

    def __len__(self) -> int:
        return sum(len(span) for span in self.spans) + (self.prefix.length if self.prefix else 0)


# ---------------------------------------------------------------------------------------------- trajectory


@dataclass(frozen=True)
class Trajectory(_Frozen):
    """The turns of one episode, in order.

    A branch owns only what it sampled: its `turns` begin after turn `parent[1]` of trajectory `parent[0]`, and its
    sequences point to the parent's tokens by `prefix`. `path()` gives the whole story.

    Args:
        id: stable and readable, `run/step/task/sample[.branch]`.
        group: id of the task instance; trajectories of one group are compared with each other.
        prompt: messages before the first turn; empty for a branch.
        turns: in order.
        sequences: the tokens, or empty if they are not known (then token credit and training are unavailable).
        parent: (trajectory id, index of the last shared turn) if it was branched; index -1 branches at the prompt.
        outcome: verifiable end result; None is unknown.
        rewards: named further end results.
        gold: the reference answer and whatever else the task knows (gold tool trace ...).
        truncated: did it end by a limit, not by itself?
        stop_reason: why the episode ended.
        extra: fields of a reader's format that have no place here.
    """

    id: str
    group: str
    prompt: tuple[Message, ...] = ()
    turns: tuple[Turn, ...] = ()
    sequences: tuple[Sequence, ...] = ()
    parent: tuple[str, int] | None = None
    outcome: float | None = None
    rewards: Mapping[str, float | None] = field(default_factory=dict)
    gold: Mapping[str, Any] = field(default_factory=dict)
    truncated: bool = False
    stop_reason: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("prompt", "turns", "sequences"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ("rewards", "gold", "extra"):
            object.__setattr__(self, name, _frozen(getattr(self, name)))
        if self.parent is not None:
            object.__setattr__(self, "parent", (str(self.parent[0]), int(self.parent[1])))
        try:
            _check_trajectory(self)
        except RecordError as error:
            raise error.at(trajectory=self.id) from None

    # -- the story ---------------------------------------------------------------------------------------

    @property
    def messages(self) -> tuple[Message, ...]:
        """Own messages, in order."""
        return (*self.prompt, *(message for turn in self.turns for message in turn.messages))

    @property
    def has_tokens(self) -> bool:
        """True if the token ids of its turns are known."""
        return bool(self.sequences)

    @property
    def text(self) -> str:
        """The conversation as plain text, one paragraph a message."""
        return "\n\n".join(f"[{m.role}{' ' + m.author if m.author else ''}] {m.text}" for m in self.messages)

    def path(self, others: Mapping[str, Trajectory] | Iterable[Trajectory] = ()) -> Trajectory:
        """Return the whole story of a branch: its ancestors' turns up to the branching point, then its own.

        Args:
            others: the trajectories among which its ancestors are (a mapping by id, or any iterable).

        Returns:
            a trajectory without parent and without sequences of its own ancestors' making; itself if it is a root.

        Raises:
            RecordError: an ancestor is not among `others`.
        """
        if self.parent is None:
            return self
        by_id = others if isinstance(others, Mapping) else {t.id: t for t in others}
        parent_id, last = self.parent
        if parent_id not in by_id:
            raise RecordError(
                f"its parent {parent_id!r} is not here; read both together", trajectory=self.id, field="parent"
            )
        whole = by_id[parent_id].path(by_id)
        first_own = len(whole.turns) - len(by_id[parent_id].turns)
        shared = whole.turns[: first_own + last + 1]
        return replace(self, prompt=whole.prompt, turns=(*shared, *self.turns), sequences=(), parent=None)

    def sampled(self, turn: int) -> tuple[Span, ...]:
        """Return the sampled spans of one turn, in order."""
        return tuple(s for seq in self.sequences for s in seq.spans if s.turn == turn and s.origin == "sampled")

    def __len__(self) -> int:
        return len(self.turns)

    def __getitem__(self, key: int | slice) -> Turn | tuple[Turn, ...]:
        return self.turns[key]

    def search(self, pattern: str, *, regex: bool = False) -> list[Match]:
        """Find text in the messages.

        Args:
            pattern: what to look for; upper and lower case are not told apart.
            regex: read `pattern` as a regular expression.

        Returns:
            one `Match(trajectory, turn, message, start, stop, excerpt)` a hit; turn is -1 in the prompt.

        Example:
            >>> hello = Message("m0", "user", "Hello world")
            >>> Trajectory("a", "g", prompt=(hello,)).search("WORLD")[0].excerpt
            'Hello world'
        """
        compiled = re.compile(pattern if regex else re.escape(pattern), re.IGNORECASE)
        owned = [(-1, m) for m in self.prompt] + [(k, m) for k, turn in enumerate(self.turns) for m in turn.messages]
        return [
            Match(self.id, k, m.id, hit.start(), hit.end(), m.text[max(0, hit.start() - 40) : hit.end() + 40])
            for k, m in owned
            for hit in compiled.finditer(m.text)
        ]

    def to_frame(self) -> pd.DataFrame:
        """Return one row a turn: agent, action text, calls, observation text, reward, tokens, trainable."""
        import pandas as pd

        rows = [
            {
                "trajectory": self.id,
                "group": self.group,
                "turn": k,
                "agent": turn.agent,
                "action": turn.action.text,
                "calls": [call.name for call in turn.calls],
                "observation": "\n".join(m.text for m in turn.observations),
                "reward": turn.reward,
                "tokens": sum(len(s) for s in self.sampled(k)) if self.has_tokens else None,
                "trainable": turn.trainable,
                "stop_reason": turn.stop_reason,
            }
            for k, turn in enumerate(self.turns)
        ]
        return pd.DataFrame(rows, columns=list(_FRAME))

    def diff(self, other: Trajectory) -> list[Difference]:
        """Compare the turns of two trajectories, aligned by their text.

        Returns:
            `Difference(kind, turns, other_turns)` per run: kind is "equal", "replace", "delete" or "insert" (as
            difflib names them), the two others are ranges of turn indices.
        """
        matcher = SequenceMatcher(a=[_turn_key(t) for t in self.turns], b=[_turn_key(t) for t in other.turns])
        return [Difference(kind, range(a, b), range(c, d)) for kind, a, b, c, d in matcher.get_opcodes()]


_FRAME = (
    *("trajectory", "group", "turn", "agent", "action", "calls", "observation", "reward", "tokens"),
    *("trainable", "stop_reason"),
)


class Match(NamedTuple):
    """One hit of a text search."""

    trajectory: str
    turn: int
    message: str
    start: int
    stop: int
    excerpt: str


class Difference(NamedTuple):
    """One run of turns that two trajectories share or not."""

    kind: str
    turns: range
    other_turns: range


def _turn_key(turn: Turn) -> tuple[Any, ...]:
    return (turn.agent, turn.action.text, tuple(c.raw for c in turn.calls), tuple(m.text for m in turn.observations))


def _check_trajectory(t: Trajectory) -> None:
    if not isinstance(t.id, str) or t.id == "":
        raise RecordError(f"expected an id, got {t.id!r}", field="id")
    if not isinstance(t.group, str) or t.group == "":
        raise RecordError(f"expected a group id, got {t.group!r}", field="group")
    _number(t.outcome, "outcome")
    for name, value in t.rewards.items():
        _number(value, f"rewards[{name!r}]")
    _check_messages(t)
    for number, sequence in enumerate(t.sequences):
        _check_sequence(t, number, sequence)
    if t.sequences:
        homes: dict[int, set[int]] = {}
        for number, sequence in enumerate(t.sequences):
            for span in sequence.spans:
                if span.origin == "sampled":
                    homes.setdefault(span.turn, set()).add(number)
        for turn, numbers in homes.items():
            if len(numbers) > 1:
                problem = f"its sampled tokens stand in sequences {sorted(numbers)}; a token is stored and trained once"
                raise RecordError(problem, turn=turn, field="sequences")


def _check_messages(t: Trajectory) -> None:
    """Message ids are unique; an answer answers a call made before it."""
    seen: set[str] = set()
    calls: set[str] = set()
    owned = [(None, m) for m in t.prompt] + [(k, m) for k, turn in enumerate(t.turns) for m in turn.messages]
    for k, message in owned:
        if message.id in seen:
            raise RecordError(f"message id {message.id!r} is used twice", turn=k, field="id")
        seen.add(message.id)
        for call in message.calls:
            _require(call.id not in calls, f"call id {call.id!r} is used twice", turn=k, field="calls")
            calls.add(call.id)
        if message.answers is not None and message.answers not in calls and t.parent is None:
            problem = f"message {message.id!r} answers call {message.answers!r}, which nobody made before it"
            raise RecordError(problem, turn=k, field="answers")


def _check_sequence(t: Trajectory, number: int, sequence: Sequence) -> None:
    """Spans point to turns and messages that exist, in order."""
    if sequence.prefix is not None:
        _require(t.parent is not None, "has a prefix of another trajectory but no parent", field=f"sequences[{number}]")
    ids = {m.id for m in t.messages}
    last = -1
    for span in sequence.spans:
        if not -1 <= span.turn < len(t.turns):
            problem = f"span points to turn {span.turn}; the trajectory has {len(t.turns)}"
            raise RecordError(problem, field=f"sequences[{number}]")
        if span.turn < last:
            raise RecordError(f"turns run backwards ({last}, then {span.turn})", field=f"sequences[{number}]")
        last = span.turn
        if span.message is not None and span.message not in ids:
            problem = f"span renders message {span.message!r}, which is not here"
            raise RecordError(problem, turn=span.turn, field="message")
        if span.origin == "sampled" and span.turn < 0:
            raise RecordError("sampled tokens need the turn that sampled them", field=f"sequences[{number}]")


# ------------------------------------------------------------------------------------ groups and training


@dataclass(frozen=True)
class Group(_Frozen):
    """Trajectories of one task instance.

    Args:
        id: the group id; every member carries it.
        trajectories: members, in order; branches may be among them.
    """

    id: str
    trajectories: tuple[Trajectory, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "trajectories", tuple(self.trajectories))
        seen: set[str] = set()
        for t in self.trajectories:
            _require(t.group == self.id, f"belongs to group {t.group!r}, not {self.id!r}", trajectory=t.id)
            _require(t.id not in seen, "the id is used twice in its group", trajectory=t.id, field="id")
            seen.add(t.id)

    def __len__(self) -> int:
        return len(self.trajectories)

    def __iter__(self) -> Iterator[Trajectory]:
        return iter(self.trajectories)

    def __getitem__(self, key: int | slice) -> Trajectory | tuple[Trajectory, ...]:
        return self.trajectories[key]

    def to_frame(self) -> pd.DataFrame:
        """Return one row a turn of all members."""
        import pandas as pd

        return pd.concat([t.to_frame() for t in self.trajectories], ignore_index=True)


@dataclass(frozen=True)
class Example(_Frozen):
    """What SFT, reward-weighted, DAgger and distillation training eat.

    Args:
        ids: token ids of one forward pass.
        weights: loss weight per token, 0 for context; same length.
        logprobs_old: per token, or None if unknown.
        source: (trajectory id, turn) it was made from.
        reason: why it is in the training set.
    """

    ids: tuple[int, ...]
    weights: tuple[float, ...]
    logprobs_old: tuple[float | None, ...] | None = None
    source: tuple[str, int] | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", tuple(self.ids))
        object.__setattr__(self, "weights", tuple(self.weights))
        lengths = {"weights": self.weights, "logprobs_old": self.logprobs_old}
        for name, values in lengths.items():
            good = values is None or len(values) == len(self.ids)
            _require(good, f"expected one per token ({len(self.ids)}), got {len(values or ())}", field=name)
        for weight in self.weights:
            _number(weight, "weights")


@dataclass(frozen=True)
class Pair(_Frozen):
    """What preference training eats: two continuations of the same context.

    Args:
        chosen, rejected: the two, as examples.
        turn: at which turn they part; None if whole trajectories are compared.
        weight: of this pair in the loss, >= 0.
        reason: why one is preferred.
    """

    chosen: Example
    rejected: Example
    turn: int | None = None
    weight: float = 1.0
    reason: str = ""

    def __post_init__(self) -> None:
        _number(self.weight, "weight")
        _require(self.weight >= 0, f"expected a weight >= 0, got {self.weight}", field="weight")
