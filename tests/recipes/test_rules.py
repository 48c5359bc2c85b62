"""UFO and ARTIST on numbers by hand."""

from __future__ import annotations

import pytest

from workbench import recipes
from workbench.batch import Batch
from workbench.evidence.retries import tries
from workbench.recipes.artist import answer_reward
from workbench.recipes.ufo import feedback, retry_reward


def tried(*rollouts: list[str | None], gold: str | None = "7") -> Batch:
    found = [tries(answers, None if gold is None else [gold]) for answers in rollouts]
    batch = Batch.of_maps([i for i, row in enumerate(found) for _ in row], ["g"] * len(found))
    for name in ("valid", "correct", "repeated", "broken"):
        values = [getattr(one, name) for row in found for one in row]
        batch = batch.with_column(f"try_{name}", "turn", [None if v is None else float(v) for v in values])
    return batch


def reward(answers: list[str | None], invalid: float = 0.0, count: str = "answers") -> float:
    return retry_reward(0.5, 0.5, invalid, count)(None, tried(answers)).tolist()[0]  # type: ignore[arg-type,return-value]


def test_the_cards_numbers() -> None:
    assert reward(["7"]) == 1.0
    assert reward(["3", "3 ", "7"]) == pytest.approx(0.25 - 0.5 / 3)
    assert reward(["3"] * 5) == pytest.approx(-0.4)
    assert reward(["3"] * 4 + ["7"]) == pytest.approx(1 / 16 - 0.3)  # worse than five different wrong ones:
    assert reward(["1", "2", "3", "4", "5"]) == 0.0


def test_paper_and_release_differ_where_a_turn_gave_no_answer() -> None:
    assert reward(["3", None, "7"], 0.1, "answers") == pytest.approx(0.5 - 0.1)
    assert reward(["3", None, "7"], 0.1, "turns") == pytest.approx(0.25 - 0.1)


def test_no_answer_at_all_is_charged_and_never_divides_by_zero() -> None:
    assert reward([None, ""], 0.1) == pytest.approx(-0.2)
    assert retry_reward(0.5, 0.5, 0.1, "turns")(None, tried(["3"], gold=None)).tolist() == [None]


def test_what_the_user_says() -> None:
    assert feedback(False, 1) == ("Incorrect. Please think again.", False)
    assert feedback(True, 1) == ("Correct!", True) == feedback(False, 5)


def test_ufo_compares_within_a_group_when_asked_to() -> None:
    credit = recipes.ufo(host="grpo").credit(tried(["7"], ["3", "7"], ["3", "3"]), to="trajectory").values
    rewards = [1.0, 0.5, -0.25]
    mean = sum(rewards) / 3
    spread = (sum((r - mean) ** 2 for r in rewards) / 2) ** 0.5
    assert credit.tolist() == pytest.approx([(r - mean) / (spread + 1e-6) for r in rewards])
    with pytest.raises(ValueError, match="expected host='ppo' or 'grpo'"):
        recipes.ufo(host="dpo")  # type: ignore[arg-type]


def artist_batch(outcome: list[float | None], form: list[float | None], calls: list[float | None]) -> Batch:
    batch = Batch.of_maps(range(len(outcome)), ["g"] * len(outcome))
    for name, values in (("outcome", outcome), ("format_score", form), ("tool_success", calls)):
        batch = batch.with_column(name, "trajectory", values)
    return batch


def test_artist_by_hand_and_its_unknowns() -> None:
    batch = artist_batch([1.0, 0.0, 1.0, None], [1.0, 0.5, 1.0, 1.0], [0.75, 1.0, None, 1.0])
    assert answer_reward(2.0)(None, batch).tolist() == [3.75, 1.5, 3.0, None]
    credit = recipes.artist().credit(batch, to="trajectory").tolist()
    assert credit[:3] == pytest.approx([1.069045, -1.336306, 0.267261], abs=1e-6) and credit[3] is None


def test_calling_a_useless_tool_pays() -> None:
    """The trap of the sum: a call that works is worth 1, whatever it was for."""
    with_call, without = answer_reward(2.0)(None, artist_batch([0.0, 0.0], [1.0, 1.0], [1.0, None])).tolist()
    assert with_call == 2.0 and without == 1.0
