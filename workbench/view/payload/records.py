"""Payloads of what happened: messages, turns, trajectories, as JSON-able data cut to a size that can be shown."""

from __future__ import annotations

import json
from typing import Any

from workbench.trajectory import Message, Trajectory, Turn
from workbench.view.escape import cut

TEXT_LIMIT = 4_000
TOKEN_LIMIT = 2_000


def message(m: Message, limit: int = TEXT_LIMIT) -> dict[str, Any]:
    """Return the payload of a message: role, author, text (cut at `limit` characters; `more` counts the rest)."""
    text, more = cut(m.text, limit)
    return {
        "kind": "message",
        "id": m.id,
        "role": m.role,
        "author": m.author,
        "text": text,
        "more": more,
        "parts": [{"kind": p.kind, "mime": p.mime, "sha256": p.sha256} for p in m.parts if p.kind != "text"],
        "calls": [call_payload(c, limit) for c in m.calls],
        "answers": m.answers,
    }


def call_payload(call: Any, limit: int = TEXT_LIMIT) -> dict[str, Any]:
    """Return the payload of a tool call; `arguments` is JSON text, None if they could not be parsed."""
    raw, more = cut(call.raw, limit)
    arguments = None
    if call.arguments is not None:
        arguments = cut(json.dumps(dict(call.arguments), ensure_ascii=False, default=str), limit)[0]
    return {
        "id": call.id,
        "name": call.name,
        "raw": raw,
        "more": more,
        "arguments": arguments,
        "error": None if call.error is None else cut(str(call.error), limit)[0],
    }


def turn(t: Turn, index: int | None, limit: int = TEXT_LIMIT) -> dict[str, Any]:
    """Return the payload of a turn: who generated it, what it did, what came back; `index` None if it stands alone."""
    return {
        "kind": "turn",
        "index": index,
        "agent": t.agent,
        "trainable": t.trainable,
        "why_not": t.why_not,
        "reward": t.reward,
        "rewards": dict(t.rewards),
        "stop_reason": t.stop_reason,
        "policy": t.policy,
        "policy_version": list(t.policy_version) if t.policy_version else None,
        "state_key": t.state_key,
        "action": message(t.action, limit),
        "observations": [message(m, limit) for m in t.observations],
        "pieces": None,
        "sampled": None,
    }


def pieces(trajectory: Trajectory, k: int, limit: int = TOKEN_LIMIT) -> dict[str, Any] | None:
    """Return the token texts of turn `k`, from its first sampled token to its last; None if they are not known.

    Returns:
        `texts` and `origins` per token (at most `limit`), `more` for how many were left out.
    """
    spans = [s for sequence in trajectory.sequences for s in sequence.spans if s.turn == k]
    own = [i for i, s in enumerate(spans) if s.origin in ("sampled", "forced")]
    if not own:
        return None
    shown = spans[own[0] : own[-1] + 1]
    if any(s.pieces is None for s in shown):
        return None
    texts: list[str] = []
    origins: list[str] = []
    for span in shown:
        room = max(0, limit - len(texts))
        texts += (span.pieces or ())[:room]
        origins += [span.origin] * min(room, len(span))
    return {"texts": texts, "origins": origins, "more": sum(len(s) for s in shown) - len(texts)}


def transcript(
    trajectory: Trajectory, *, first_turn: int = 0, limit: int = TEXT_LIMIT, tokens: int = TOKEN_LIMIT
) -> dict[str, Any]:
    """Return the payload of a trajectory, turn by turn.

    Args:
        trajectory: own turns only are shown; a branch says where it left its parent.
        first_turn: number of its first turn in the whole story (a branch goes on counting).
        limit: characters shown of each message.
        tokens: tokens shown of each turn.

    Returns:
        JSON-able data; `None` is unknown.
    """
    turns = []
    for k, t in enumerate(trajectory.turns):
        count = sum(len(s) for s in trajectory.sampled(k)) if trajectory.has_tokens else None
        turns.append({**turn(t, first_turn + k, limit), "pieces": pieces(trajectory, k, tokens), "sampled": count})
    return {
        "kind": "transcript",
        "id": trajectory.id,
        "group": trajectory.group,
        "outcome": trajectory.outcome,
        "rewards": dict(trajectory.rewards),
        "truncated": trajectory.truncated,
        "stop_reason": trajectory.stop_reason,
        "parent": list(trajectory.parent) if trajectory.parent else None,
        "gold": cut(json.dumps(dict(trajectory.gold), ensure_ascii=False, default=str), limit)[0],
        "has_tokens": trajectory.has_tokens,
        "prompt": [message(m, limit) for m in trajectory.prompt],
        "turns": turns,
    }
