"""One generation of one agent, and all that comes back before its next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from workbench.trajectory.messages import Message, ToolCall
from workbench.trajectory.records import Record, RecordError, check_number, frozen, members, require


@dataclass(frozen=True)
class Turn(Record):
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
        object.__setattr__(self, "observations", members(self.observations, Message, "observations"))
        for name in ("sampling", "rewards", "extra"):
            object.__setattr__(self, name, frozen(getattr(self, name)))
        if not isinstance(self.action, Message) or self.action.role != "assistant":
            role = getattr(self.action, "role", None)
            raise RecordError(f"expected an assistant message, got role {role!r}", field="action")
        has_why = bool(self.why_not) != self.trainable
        require(has_why, "a turn that is not trainable needs `why_not`; a trainable one has none", field="why_not")
        check_number(self.reward, "reward")
        for name, value in self.rewards.items():
            check_number(value, f"rewards[{name!r}]")
        if self.policy_version is not None:
            if not isinstance(self.policy_version, (tuple, list)) or len(self.policy_version) != 2:
                raise RecordError(f"expected (first, last), got {self.policy_version!r}", field="policy_version")
            first, last = self.policy_version
            object.__setattr__(self, "policy_version", (first, last))
            require(first <= last, f"expected (first, last), got {self.policy_version}", field="policy_version")

    @property
    def messages(self) -> tuple[Message, ...]:
        """The action and its observations, in order."""
        return (self.action, *self.observations)

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The tool calls of the action, in order."""
        return self.action.calls
