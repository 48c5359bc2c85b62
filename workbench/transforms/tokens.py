"""Trajectories written by a script, not sampled: give them the tokens a policy would have had to say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from workbench.envs.base import Tool
from workbench.policy.base import Renderer
from workbench.trajectory import Message, RecordError, Span, ToolCall, Trajectory
from workbench.trajectory import Sequence as TokenSequence


def with_tokens(trajectory: Trajectory, renderer: Renderer, tools: Sequence[Tool] = ()) -> Trajectory:
    """Render a trajectory that has text only; the tokens of its actions get the origin "forced".

    No policy sampled these tokens, so they have no log-probs, and they never count as sampled ones.

    Args:
        trajectory: without tokens, e.g. of `Chain.imperfect_demonstration`.
        renderer: writes the text; one that is prefix-preserving.
        tools: what the agent may call.

    Returns:
        the trajectory with one sequence.

    Raises:
        RecordError: it has tokens already (what was sampled is never tokenised again); it is a branch; or the
            renderer reads an action's tokens as other calls than the action makes.
    """
    if trajectory.has_tokens:
        raise RecordError("it has its tokens already; nothing is tokenised twice", trajectory=trajectory.id)
    if trajectory.parent is not None:
        raise RecordError("a branch has only half the text; pass `path()` of it", trajectory=trajectory.id)
    if not renderer.prefix_preserving:
        raise RecordError(
            "this renderer renders every turn anew; use one that is prefix-preserving", trajectory=trajectory.id
        )
    spans = list(renderer.prompt(trajectory.prompt, tools))
    for number, turn in enumerate(trajectory.turns):
        try:
            spans.append(_action(turn.action, renderer, number))
        except RecordError as error:
            raise error.at(trajectory=trajectory.id, turn=number) from None
        spans += renderer.observation(turn.observations, number, closed=True) if turn.observations else []
    return replace(trajectory, sequences=(TokenSequence(tuple(span for span in spans if len(span))),))


def _action(action: Message, renderer: Renderer, turn: int) -> Span:
    """Return the tokens that say an action, the one that ends it included."""
    ids = renderer.encode(f"{action.text}\n")  # in place: a newline may be part of a larger token
    if ids[-1] not in renderer.stop_ids:
        ids = [*renderer.encode(action.text), renderer.stop_ids[0]]
    read, meant = _calls(renderer.parse(ids, action.id).calls), _calls(action.calls)
    if read != meant:
        raise RecordError(f"the renderer reads {action.text!r} as {read}, not as {meant}; write it in its syntax")
    return Span(tuple(ids), "forced", turn, action.id, pieces=renderer.pieces(ids))


def _calls(calls: Sequence[ToolCall]) -> list[tuple[str, dict[str, object]]]:
    return [(call.name, dict(call.arguments or {})) for call in calls]
