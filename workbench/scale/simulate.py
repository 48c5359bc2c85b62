"""A step of training as events: episodes of random length that take turns, wait for tools, and share engines.

`continuous` is an engine where sequences come and go (vLLM); `rounds` is this package's own loop, where all episodes
that wait take a turn together. Both take the same episodes, drawn by `draw` or taken from rollouts by `of_rollouts`.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from workbench.scale.rates import EngineRates

if TYPE_CHECKING:
    from workbench.rollouts import Rollouts


@dataclass(frozen=True)
class Work:
    """What a step plays and learns from. Means, with the spread as a share of the mean (0 is no spread).

    Args:
        groups, size: tasks, and rollouts of each.
        prompt: tokens of a task's prompt; read once a group, others find it cached.
        turns: of an episode, and their spread.
        tokens: sampled a turn, and their spread.
        observation: tokens that come back a turn.
        tool: seconds until they do, and their spread.
        most_turns: of an episode; 0 is four times the mean.
        probe: forward passes over each trajectory that evidence takes, such as 1 for the gold probe in one pass.
    """

    groups: int = 64
    size: int = 8
    prompt: int = 512
    turns: float = 6.0
    turns_spread: float = 0.5
    tokens: float = 200.0
    tokens_spread: float = 0.6
    observation: int = 300
    tool: float = 0.5
    tool_spread: float = 1.0
    most_turns: int = 0
    probe: float = 0.0

    def __post_init__(self) -> None:
        for name, least in (("groups", 1), ("size", 1), ("prompt", 1), ("turns", 1), ("tokens", 1), ("tool", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"Work.{name}: expected at least {least}, got {getattr(self, name)!r}")
        for name in ("turns_spread", "tokens_spread", "tool_spread", "observation", "probe", "most_turns"):
            if getattr(self, name) < 0:
                raise ValueError(f"Work.{name}: expected 0 or more, got {getattr(self, name)!r}")

    @property
    def limit(self) -> int:
        """Most turns of an episode."""
        return self.most_turns or math.ceil(4 * self.turns)

    @property
    def mean_length(self) -> float:
        """Tokens of an episode in the mean."""
        return self.prompt + self.turns * (self.tokens + self.observation)

    @property
    def context(self) -> int:
        """Tokens of a long episode: twice the mean number of turns, or as many as are allowed."""
        turns = min(self.limit, 2 * self.turns)
        return math.ceil(self.prompt + turns * (self.tokens + self.observation))


class Turn(NamedTuple):
    """Tokens read that were not cached, tokens sampled, seconds of the tool behind them."""

    read: int
    sampled: int
    tool: float


class Episode(NamedTuple):
    """The turns of an episode, its group, and how many tokens stand before its first turn."""

    group: int
    prompt: int
    turns: tuple[Turn, ...]


def draw(work: Work, seed: int = 0) -> list[Episode]:
    """Draw the episodes of a step; lengths and seconds are log-normal with the mean and spread asked for."""
    rng = np.random.default_rng(seed)
    episodes = []
    counts = np.clip(np.rint(_draw(rng, work.turns, work.turns_spread, work.groups * work.size)), 1, work.limit)
    for number, count in enumerate(counts.astype(int).tolist()):
        sampled = np.maximum(1, np.rint(_draw(rng, work.tokens, work.tokens_spread, count))).astype(int).tolist()
        tools = _draw(rng, work.tool, work.tool_spread, count).tolist()
        first = work.prompt if number % work.size == 0 else 1  # the others of a group find the prompt cached
        reads = [first] + [work.observation] * (count - 1)
        turns = tuple(Turn(r, s, t) for r, s, t in zip(reads, sampled, tools, strict=True))
        episodes.append(Episode(number // work.size, work.prompt, turns))
    return episodes


def _draw(rng: np.random.Generator, mean: float, spread: float, count: int) -> np.ndarray:
    """Log-normal numbers of a mean and a standard deviation of `spread` times it."""
    if mean == 0 or spread == 0:
        return np.full(count, float(mean))
    sigma = math.sqrt(math.log1p(spread**2))
    return rng.lognormal(math.log(mean) - sigma**2 / 2, sigma, count)


def of_rollouts(rollouts: Rollouts, tool: float = 0.0) -> list[Episode]:
    """Return the episodes that were played, with their true lengths; tools took `tool` seconds each."""
    episodes = []
    for group, members in enumerate(rollouts.groups):
        for place, one in enumerate(members):
            sampled = [sum(len(span) for span in one.sampled(k)) for k in range(len(one.turns))]
            total = sum(len(span.ids) for sequence in one.sequences for span in sequence.spans)
            prompt = sum(
                len(span.ids) for span in one.sequences[0].spans if span.turn is None or span.origin == "prompt"
            )
            between = max(0, total - prompt - sum(sampled)) / max(len(sampled), 1)
            reads = [prompt if place == 0 else 1] + [max(1, round(between))] * (len(sampled) - 1)
            turns = tuple(Turn(r, max(1, s), tool) for r, s in zip(reads, sampled, strict=True))
            episodes.append(Episode(group, prompt, turns))
    return episodes


class Played(NamedTuple):
    """How a rollout went.

    Args:
        seconds: until the last episode was over.
        busy: seconds each engine had something to do.
        ends: when each episode was over.
        sampled, read: tokens.
        peak: most sequences an engine had at once.
    """

    seconds: float
    busy: tuple[float, ...]
    ends: tuple[float, ...]
    sampled: int
    read: int
    peak: int

    @property
    def tail(self) -> float:
        """Share of the time after nine in ten episodes were over."""
        order = sorted(self.ends)
        return 1 - order[max(0, math.ceil(0.9 * len(order)) - 1)] / self.seconds if self.seconds else 0.0


# ---------------------------------------------------------------------------------- engines where sequences come and go


class _Engine:
    """Sequences that decode together at one pace; `clock` counts decoding steps, `debt` seconds of reading to come."""

    def __init__(self, rates: EngineRates, most: int):
        self.rates, self.most = rates, most
        self.now = self.clock = self.debt = self.busy = self.context = 0.0
        self.running: list[tuple[float, int]] = []
        self.waiting: deque[tuple[int, int, int, int]] = deque()  # episode, tokens to read, to sample, of context
        self.held: dict[int, float] = {}
        self.version = self.peak = 0

    def advance(self, now: float) -> None:
        """Let time pass."""
        spent, self.now = now - self.now, now
        if not self.running or spent <= 0:
            return
        self.busy += spent
        paid = min(self.debt, spent)
        self.debt -= paid
        steps = steps_in(spent - paid, len(self.running), self.context, self.rates)
        self.clock += steps
        self.context += steps * len(self.running)

    def admit(self) -> None:
        """Take in what waits, as far as there is room."""
        while self.waiting and len(self.running) < self.most:
            episode, read, sampled, context = self.waiting.popleft()
            self.debt += read * self.rates.read
            heapq.heappush(self.running, (self.clock + sampled, episode))
            self.held[episode] = context + sampled
            self.context += context
            self.peak = max(self.peak, len(self.running))

    def next_end(self) -> float | None:
        """When the first sequence will be done, if nothing comes in between."""
        if not self.running:
            return None
        left = max(0.0, self.running[0][0] - self.clock)
        pace = self.rates.decode_s(len(self.running), self.context + left * len(self.running) / 2)
        return self.now + self.debt + left * pace

    def finish(self) -> int:
        """Take out the sequence that is done."""
        end, episode = heapq.heappop(self.running)
        self.clock = max(self.clock, end)
        self.context = max(0.0, self.context - self.held.pop(episode)) if self.running else 0.0
        return episode


class _Floor:
    """All engines and episodes of a rollout, and what is going to happen next.

    An event is (when, order, kind, who, version): a tool answers an episode, or an engine is done with a sequence.
    """

    def __init__(self, episodes: Sequence[Episode], engines: int, rates: EngineRates, most: int):
        self.episodes = episodes
        self.fleet = [_Engine(rates, most) for _ in range(engines)]
        self.taken, self.length = [0] * len(episodes), [e.prompt for e in episodes]
        self.ends = [0.0] * len(episodes)
        self.events = [(0.0, n, "tool", n, 0) for n in range(len(episodes))]
        heapq.heapify(self.events)
        self.order = len(episodes)

    def run(self) -> None:
        """Let everything happen, in order of time."""
        while self.events:
            now, _, kind, who, version = heapq.heappop(self.events)
            if kind == "tool":
                self.ask(now, who)
            elif version == self.fleet[who].version:  # else something came in between: another end was announced
                self.answer(now, who)

    def ask(self, now: float, who: int) -> None:
        """An episode waits for its engine."""
        number = self.episodes[who].group % len(self.fleet)
        turn = self.episodes[who].turns[self.taken[who]]
        self.length[who] += turn.read if self.taken[who] else 0
        self.fleet[number].advance(now)
        self.fleet[number].waiting.append((who, turn.read, turn.sampled, self.length[who]))
        self.go_on(number)

    def answer(self, now: float, number: int) -> None:
        """An engine has sampled a turn; its tool works now, or the episode is over."""
        self.fleet[number].advance(now)
        who = self.fleet[number].finish()
        turn = self.episodes[who].turns[self.taken[who]]
        self.length[who] += turn.sampled
        self.taken[who] += 1
        if self.taken[who] == len(self.episodes[who].turns):
            self.ends[who] = now + turn.tool
        else:
            self.announce(now + turn.tool, "tool", who, 0)
        self.go_on(number)

    def go_on(self, number: int) -> None:
        """Take in what waits, and announce the next end anew."""
        engine = self.fleet[number]
        engine.admit()
        engine.version += 1
        end = engine.next_end()
        if end is not None:
            self.announce(end, "engine", number, engine.version)

    def announce(self, when: float, kind: str, who: int, version: int) -> None:
        """Put an event in its place; what is announced first happens first where times are equal."""
        self.order += 1
        heapq.heappush(self.events, (when, self.order, kind, who, version))


def steps_in(seconds: float, rows: int, context: float, rates: EngineRates) -> float:
    """Return the decoding steps that fit into some seconds while the context grows by a token a row and step.

        s (decode(rows, context) + rows token s / 2) = seconds

    Example:
        >>> steps_in(0.154 * 4, 2, 150, EngineRates(step=0.0, row=0.0, token=1e-3, read=0.0))
        4.0
    """
    pace, grows = rates.decode_s(rows, context), rows * rates.token
    return 2 * seconds / (pace + math.sqrt(pace**2 + 2 * grows * seconds)) if seconds > 0 else 0.0


def continuous(episodes: Sequence[Episode], engines: int, rates: EngineRates, most: int = 256) -> Played:
    """Play episodes on engines where sequences come and go; an episode stays with the engine of its group.

    Args:
        episodes: what to play, all of them at once.
        engines: how many; groups are dealt out to them in turn.
        rates: of each.
        most: sequences an engine holds at once; others wait.

    Example:
        >>> one = Episode(0, 10, (Turn(10, 100, 2.0),))
        >>> round(continuous([one], 1, EngineRates(0.01, 0.0, 0.0, 0.001)).seconds, 6)      # 0.01 + 1 + 2
        3.01
    """
    floor = _Floor(episodes, engines, rates, most)
    floor.run()
    return _played(episodes, floor.ends, [e.busy for e in floor.fleet], max(e.peak for e in floor.fleet))


# ------------------------------------------------------------------------------------------------ engines in rounds


def rounds(episodes: Sequence[Episode], rates: EngineRates, most: int = 128) -> Played:
    """Play episodes in rounds on one engine: all that wait take a turn in one call, then all tools answer.

    Args:
        episodes: what to play.
        rates: of the engine.
        most: sequences of one call; more are taken one call after the other.
    """
    now, busy, ends = 0.0, 0.0, [0.0] * len(episodes)
    length = [e.prompt for e in episodes]
    for k in range(max(len(e.turns) for e in episodes)):
        live = [n for n, e in enumerate(episodes) if k < len(e.turns)]
        for few in (live[i : i + most] for i in range(0, len(live), most)):
            spent = _round([(length[n], episodes[n].turns[k]) for n in few], rates, k > 0)
            now, busy = now + spent, busy + spent
        for n in live:
            turn = episodes[n].turns[k]
            length[n] += turn.sampled + (turn.read if k else 0)
        now += max(episodes[n].turns[k].tool for n in live)
        for n in live:
            ends[n] = now
    return _played(episodes, ends, [busy], min(most, len(episodes)))


def _round(turns: Sequence[tuple[int, Turn]], rates: EngineRates, later: bool) -> float:
    """Seconds of one call: reading, then decoding steps with ever fewer sequences.

    Args:
        turns: tokens each sequence had before, and its turn.
        later: did what is read come behind these? A first turn's prompt is counted in them.
    """
    rows = sorted((turn.sampled, before + (turn.read if later else 0)) for before, turn in turns)
    spent = rates.call + rates.read * sum(turn.read for _, turn in turns)
    context, done = float(sum(before for _, before in rows)), 0
    for place, (sampled, before) in enumerate(rows):
        steps, alive = sampled - done, len(rows) - place
        spent += steps * rates.decode_s(alive, context + alive * (done + steps / 2))
        done, context = sampled, context - before
    return spent


def _played(episodes: Sequence[Episode], ends: Sequence[float], busy: Sequence[float], peak: int) -> Played:
    sampled = sum(t.sampled for e in episodes for t in e.turns)
    read = sum(t.read for e in episodes for t in e.turns)
    return Played(max(ends, default=0.0), tuple(busy), tuple(ends), sampled, read, peak)
