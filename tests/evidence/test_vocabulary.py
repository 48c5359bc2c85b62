"""Who scores tokens must read the words that were written: another tokenizer gives plausible numbers of nonsense."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from workbench.envs.chain import Chain
from workbench.evidence import Cache, Evidence, collect
from workbench.evidence.clusters import ReferenceProbe
from workbench.evidence.gold import GoldProbe
from workbench.evidence.informed import InformedLogprobs
from workbench.evidence.probes import StepProbe, ThoughtProbe
from workbench.evidence.scoring import SampledLogprobs, TokenEntropy, check_vocabulary
from workbench.evidence.segments import SegmentProbe
from workbench.policy import load, tiny_tokenizer
from workbench.policy.base import Policy, Settings
from workbench.policy.renderers import PlainText
from workbench.rollout import play
from workbench.rollouts import Rollouts
from workbench.trajectory import RecordError


@pytest.fixture(scope="module")
def player() -> Policy:
    return load("tiny")


@pytest.fixture(scope="module")
def rollouts(player: Policy) -> Rollouts:
    env = Chain()
    return play(player, env, env.tasks("train", 1), size=2, settings=Settings(max_new_tokens=16), gather_s=None)


@pytest.fixture(scope="module")
def stranger(player: Policy, tmp_path_factory: pytest.TempPathFactory) -> Policy:
    """The same weights behind a tokenizer whose words stand in another order."""
    file: Path = tmp_path_factory.mktemp("other") / "tokenizer.json"
    words = [word.removeprefix("Ġ") for word in tiny_tokenizer.load().get_vocab() if word.startswith("Ġ")]
    tiny_tokenizer.build(sorted({word for word in words if len(word) > 1}, reverse=True)).save(str(file))
    return Policy("stranger", player.engine, PlainText(tiny_tokenizer.load(file)))


SCORERS: list[Callable[[Policy], Evidence]] = [
    GoldProbe,
    ReferenceProbe,
    SampledLogprobs,
    TokenEntropy,
    InformedLogprobs,
    SegmentProbe,
    StepProbe,
    ThoughtProbe,
]


@pytest.mark.parametrize("make", SCORERS)
def test_a_scorer_with_another_tokenizer_is_refused(
    make: Callable[[Policy], Evidence], rollouts: Rollouts, stranger: Policy
) -> None:
    with pytest.raises(RecordError, match=r"trajectory 'run/0/.*turn 0.*'stranger' reads .* another tokenizer"):
        collect(rollouts, [make(stranger)], cache=Cache())


def test_every_policy_that_played_is_looked_at(player: Policy, rollouts: Rollouts, stranger: Policy) -> None:
    check_vocabulary(player, rollouts)
    first, second = rollouts.trajectories
    spans = [replace(s, pieces=tuple("?" for _ in s.ids)) if s.pieces else s for s in second.sequences[0].spans]
    other = replace(
        second,
        turns=tuple(replace(turn, policy="another") for turn in second.turns),
        sequences=(replace(second.sequences[0], spans=tuple(spans)), *second.sequences[1:]),
    )
    with pytest.raises(RecordError, match=second.id):
        check_vocabulary(player, Rollouts((first, other)))


def test_tokens_whose_text_is_not_known_are_taken_as_they_are(rollouts: Rollouts, stranger: Policy) -> None:
    def bare(t):  # type: ignore[no-untyped-def]
        return replace(
            t, sequences=tuple(replace(q, spans=tuple(replace(s, pieces=None) for s in q.spans)) for q in t.sequences)
        )

    check_vocabulary(stranger, Rollouts(tuple(bare(t) for t in rollouts)))


@pytest.mark.parametrize("make", [InformedLogprobs, lambda p: ReferenceProbe(p, target="gold")])
def test_without_any_gold_answer_or_token_there_is_nothing_to_score(
    make: Callable[[Policy], Evidence], player: Policy, rollouts: Rollouts
) -> None:
    for lacking, said in (({"gold": {}}, "no trajectory has a gold answer"), ({"sequences": ()}, "no trajectory has")):
        with pytest.raises(RecordError, match=said):
            collect(Rollouts(tuple(replace(t, **lacking) for t in rollouts)), [make(player)], cache=Cache())
