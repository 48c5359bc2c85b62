from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from workbench.evidence import Cache, Meter, Provider, Values, collect
from workbench.rollouts import Rollouts
from workbench.trajectory import Group, Message, Trajectory, Turn


def trajectory(name: str, group: str, *texts: str) -> Trajectory:
    turns = tuple(Turn(Message(f"{name}{k}", "assistant", text)) for k, text in enumerate(texts))
    return Trajectory(name, group, prompt=(Message(f"{name}q", "user", "why?"),), turns=turns)


SEEN: list[str] = []


@dataclass(frozen=True)
class Lengths(Provider):
    """Length of each turn's text; an empty text is unknown."""

    scale: float = 1.0
    provides: ClassVar[Mapping[str, str]] = {"length": "turn", "turns": "trajectory", "size": "group"}

    async def compute(self, group: Group, meter: Meter) -> Mapping[str, Values]:
        SEEN.append(group.id)
        meter.count(calls=len(group), tokens=10)
        await asyncio.sleep(0)
        texts = [turn.action.text for t in group for turn in t.turns]
        return {
            "length": Values.of([self.scale * len(text) if text else None for text in texts]),
            "turns": Values.of([len(t.turns) for t in group]),
            "size": Values.of([len(group)]),
        }


@pytest.fixture
def rollouts() -> Rollouts:
    SEEN.clear()
    interleaved = (
        trajectory("a", "g", "one", "three"),
        trajectory("b", "h", "x"),
        trajectory("c", "g", "", "seven77"),
    )
    return Rollouts(interleaved)


def test_collect_puts_interleaved_groups_in_order(rollouts: Rollouts) -> None:
    got = collect(rollouts, [Lengths()], cache=Cache())
    batch = got.batch()
    assert batch["length"].values.tolist() == [3, 5, 1, 0, 7]
    assert batch["length"].known.tolist() == [True, True, True, False, True]
    assert batch["turns"].values.tolist() == [2, 1, 2]
    assert batch["size"].values.tolist() == [2, 1]
    source = batch["length"].provenance
    assert (source.provider, source.parameters["scale"], source.calls, source.tokens) == ("Lengths", 1.0, 3, 20)
    assert source.seconds > 0


def test_equal_content_is_computed_once(rollouts: Rollouts) -> None:
    cache = Cache()
    first = collect(rollouts, [Lengths()], cache=cache)
    more = Rollouts((*rollouts.trajectories, trajectory("d", "new", "text")))
    again = collect(more, [Lengths()], cache=cache)
    assert sorted(SEEN) == ["g", "h", "new"]
    assert again.batch()["length"].values.tolist()[:5] == first.batch()["length"].values.tolist()


@pytest.mark.parametrize("change", ["parameter", "text"])
def test_changed_content_or_parameter_is_computed_anew(rollouts: Rollouts, change: str) -> None:
    cache = Cache()
    collect(rollouts, [Lengths()], cache=cache)
    SEEN.clear()
    if change == "parameter":
        collect(rollouts, [Lengths(2.0)], cache=cache)
        assert sorted(SEEN) == ["g", "h"]
    else:
        changed = Rollouts((*rollouts.trajectories[:1], trajectory("b", "h", "y"), rollouts.trajectories[2]))
        collect(changed, [Lengths()], cache=cache)
        assert SEEN == ["h"]


def test_folder_keeps_results_between_sessions(rollouts: Rollouts, tmp_path) -> None:
    first = collect(rollouts, [Lengths()], cache=Cache(tmp_path))
    SEEN.clear()
    second = collect(rollouts, [Lengths()], cache=Cache(tmp_path))
    assert SEEN == []
    for name in ("length", "turns", "size"):
        assert torch.equal(first.columns[name].values, second.columns[name].values)
        assert torch.equal(first.columns[name].known, second.columns[name].known)
        assert first.columns[name].provenance == second.columns[name].provenance


def test_a_torn_file_is_named(rollouts: Rollouts, tmp_path) -> None:
    collect(rollouts, [Lengths()], cache=Cache(tmp_path))
    torn = next(tmp_path.rglob("*.safetensors"))
    torn.write_bytes(torn.read_bytes()[:20])
    with pytest.raises(ValueError, match="delete the file"):
        collect(rollouts, [Lengths()], cache=Cache(tmp_path))


def test_collect_works_where_a_loop_runs(rollouts: Rollouts) -> None:
    async def cell() -> Rollouts:
        return collect(rollouts, [Lengths()], cache=Cache())

    assert asyncio.run(cell()).batch()["turns"].values.tolist() == [2, 1, 2]


def test_errors_reach_the_caller_from_the_thread(rollouts: Rollouts) -> None:
    class Broken(Lengths):
        async def compute(self, group: Group, meter: Meter) -> Mapping[str, Values]:
            raise RuntimeError("no model")

    async def cell() -> None:
        collect(rollouts, [Broken()], cache=Cache())

    with pytest.raises(RuntimeError, match="no model"):
        asyncio.run(cell())


@pytest.mark.parametrize(
    ("entries", "says"), [([1.0], "expected 3 entries|expected 4 entries"), ([1.0, 2.0, float("nan"), 1.0], "NaN")]
)
def test_wrong_answers_are_refused(rollouts: Rollouts, entries: list[float], says: str) -> None:
    class Wrong(Lengths):
        provides: ClassVar[Mapping[str, str]] = {"length": "turn"}

        async def compute(self, group: Group, meter: Meter) -> Mapping[str, Values]:
            return {"length": Values.of(entries)}

    with pytest.raises(ValueError, match=says):
        collect(Rollouts((rollouts["a"], rollouts["c"])), [Wrong()], cache=Cache())


def test_two_providers_of_one_column_are_refused(rollouts: Rollouts) -> None:
    with pytest.raises(ValueError, match="'length' is given by Lengths and by Lengths"):
        collect(rollouts, [Lengths(), Lengths(2.0)])


def test_memory_is_bounded(rollouts: Rollouts) -> None:
    cache = Cache(limit=1)
    collect(rollouts, [Lengths()], cache=cache)
    assert len(cache) == 1


def test_a_provider_without_memory_refuses_a_state() -> None:
    Lengths().load({})
    with pytest.raises(ValueError, match="remembers nothing"):
        Lengths().load({"mean": 1.0})


def test_no_rollouts_no_columns() -> None:
    assert len(collect(Rollouts(()), [Lengths()])) == 0


class Counter(Lengths):
    """Remembers nothing at first, then how many groups it saw."""

    def __init__(self) -> None:
        super().__init__()
        object.__setattr__(self, "memory", {})

    async def compute(self, group: Group, meter: Meter) -> Mapping[str, Values]:
        self.memory["groups"] = self.memory.get("groups", 0) + 1
        return await super().compute(group, meter)

    def state(self) -> dict[str, int]:
        return dict(self.memory)


def test_a_memory_that_begins_empty_is_filled_each_time(rollouts: Rollouts) -> None:
    cache, first, again = Cache(), Counter(), Counter()
    collect(rollouts, [first], cache=cache)
    collect(rollouts, [again], cache=cache)
    assert first.memory == again.memory == {"groups": len(rollouts.groups)}


def test_of_no_rollouts_every_column_is_there_and_empty() -> None:
    batch = collect(Rollouts(()), [Lengths()], cache=Cache()).batch()
    assert {name: (batch[name].level, len(batch[name].values)) for name in Lengths.provides} == {
        "length": ("turn", 0),
        "turns": ("trajectory", 0),
        "size": ("group", 0),
    }
