"""A user who is upset, as pure functions: what helps when, how far they still are, and how many replies that takes.

The state has three axes, each 0 (satisfied) to 5: how they feel, what they do not understand, what they cannot do. Who
feels bad hears neither reasons nor plans: they feel worse. Who does not understand takes no plan.
"""

from __future__ import annotations

import math
import re
from functools import cache
from typing import Literal, NamedTuple

Kind = Literal["comfort", "explain", "plan", "none"]
KINDS: tuple[Kind, ...] = ("comfort", "explain", "plan")
WORST = 5
STEP = 2  # what the right reply takes off an axis

CUES: dict[Kind, tuple[str, ...]] = {
    "comfort": ("sorry", "hard", "sad", "hear", "feel", "feeling", "understand", "listen", "here", "tough"),
    "explain": ("because", "reason", "reasons", "why", "fault", "cause", "means", "happens", "explain", "luck"),
    "plan": ("try", "ask", "step", "plan", "call", "could", "start", "tomorrow", "help", "do"),
}
"""Words that a reply is heard by; the first of them decides, for one hears one thing at a time."""

PHRASES: dict[Kind, tuple[str, ...]] = {
    "comfort": ("I am sorry", "that is hard", "I hear you", "I feel with you"),
    "explain": ("the reason is bad luck", "it is no fault of yours", "it came because of rain", "such is luck"),
    "plan": ("ask a friend", "try to find it", "take one small step", "call them today"),
}
"""What a scripted helper says; none says the same twice."""


class State(NamedTuple):
    """How far a user is from being satisfied, on each axis 0 to 5: affective, cognitive, proactive."""

    feels: int
    sees: int
    acts: int


def kind_of(text: str) -> Kind:
    """Return what a reply is heard as: the kind of its first cue word.

    Example:
        >>> kind_of("I am sorry, you could try again"), kind_of("What a day")
        ('comfort', 'none')
    """
    for word in re.findall("[a-z]+", text.lower()):
        for kind in KINDS:
            if word in CUES[kind]:
                return kind
    return "none"


def moved(state: State, kind: Kind) -> State:
    """Return the state after a reply.

    Example:
        >>> moved(State(3, 2, 0), "explain"), moved(State(1, 2, 0), "explain")
        (State(feels=4, sees=2, acts=0), State(feels=1, sees=0, acts=0))
    """
    feels, sees, acts = state
    if kind == "none":
        return state
    if kind == "comfort":
        return State(max(0, feels - STEP), sees, acts)
    if feels > 1:
        return State(min(WORST, feels + 1), sees, acts)
    if kind == "explain":
        return State(feels, max(0, sees - STEP), acts)
    return state if sees > 1 else State(feels, sees, max(0, acts - STEP))


def distance(state: State) -> float:
    """Return how far a user is from being satisfied: phi = sqrt(feels^2 + sees^2 + acts^2).

    Source: MAPO (arXiv:2603.06194): a distance from the satisfied origin on three axes; the norm is ours.

    Example:
        >>> distance(State(3, 4, 0))
        5.0
    """
    return math.sqrt(sum(axis * axis for axis in state))


@cache
def replies_needed(state: State) -> int:
    """Return the fewest replies that satisfy a user.

    Comfort first, where they feel bad, then reasons, then plans: ceil(feels / 2) + ceil(sees / 2) + ceil(acts / 2). No
    reply lowers two axes, and none but the right one lowers any.

    Example:
        >>> replies_needed(State(3, 2, 1))
        4
    """
    return sum(-(-axis // STEP) for axis in state)


def best_kind(state: State) -> Kind:
    """Return a reply after which fewest are needed; comfort before reasons before plans."""
    return min(KINDS, key=lambda kind: replies_needed(moved(state, kind)))


def line(state: State) -> str:
    """Return how a user says where they are: what is worst comes first, what is fine is not said.

    Example:
        >>> line(State(4, 2, 0)), line(State(0, 0, 1))
        ('I feel awful , why did it happen', 'what can I do now')
    """
    feels = "I feel awful" if state.feels > 3 else "I feel bad" if state.feels > 1 else "I feel low"
    said = ((state.feels, feels), (state.sees, "why did it happen"), (state.acts, "what can I do now"))
    return " , ".join(text for level, text in said if level) or "thank you"
