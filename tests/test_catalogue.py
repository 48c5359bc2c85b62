from __future__ import annotations

import importlib.util
import re
from collections import Counter
from pathlib import Path

import pytest

from workbench import catalogue, recipes
from workbench.catalogue import ALL, BASELINES, KINDS, METHODS, STATUSES, Card, Method

HERE = Path(__file__).parent
# Kinds of the systems as they were commissioned, where a slip would be easy.
EXPECTED = {1: "evidence", 2: "environment", 8: "transform", 15: "search", 21: "environment", 27: "schedule"}
EXPECTED |= {36: "schedule", 38: "search", 45: "probe", 51: "search", 58: "taxonomy", 60: "objective", 61: "objective"}
TUTORIALS = {17, 26, 32, 50, 56, 57, 59}
NO_ARXIV = {24, 32, 38, 56, 58}


def test_every_system_once_in_order() -> None:
    assert [m.number for m in METHODS] == list(range(1, 64))
    assert [b.number for b in BASELINES] == [f"B{n}" for n in range(1, len(BASELINES) + 1)]
    names = Counter(m.name for m in ALL)
    assert max(names.values()) == 1


@pytest.mark.parametrize("method", ALL, ids=lambda m: f"{m.number}-{m.name}")
def test_rows_are_complete(method: Method) -> None:
    assert set(method.kind) <= set(KINDS)
    assert len(set(method.kind)) == len(method.kind) > 0
    assert method.status in STATUSES
    card = method.card
    assert card.title and card.summary and card.source
    assert not card.summary.endswith(".") and len(card.summary) < 120
    assert card.arxiv is None or re.fullmatch(r"\d{4}\.\d{5}", card.arxiv)
    assert card.arxiv is None or 2000 + int(card.arxiv[:2]) == card.year
    assert method.notebook is None or (HERE.parent / method.notebook).is_file()


def test_kinds_and_ids() -> None:
    assert {m.number for m in METHODS if m.kind == ("tutorial",)} == TUTORIALS
    assert {m.number for m in METHODS if m.card.arxiv is None} == NO_ARXIV
    for number, kind in EXPECTED.items():
        assert kind in catalogue.find(number).kind
    ids = Counter(m.card.arxiv for m in ALL if m.card.arxiv)
    assert max(ids.values()) == 1


def test_what_runs_is_here() -> None:
    """The rows name the functions of `workbench.recipes`, each once."""
    named = [name for m in ALL for name in m.recipes]
    assert len(named) == len(set(named))
    assert set(named) == {name for name in recipes.__all__ if name != "Recipe"}


NOTEBOOKS = Path("notebooks") / "methods"
NOT_YET: set[str] = set()
"""Names of rows with recipes whose notebook is still to be written. It may only shrink."""


def test_every_method_has_its_notebook() -> None:
    """The third place: a row with recipes names a notebook that is there, or is on the list that only shrinks."""
    without = {m.name for m in ALL if m.recipes and m.notebook is None}
    assert without <= NOT_YET, (
        f"no notebook: {sorted(without - NOT_YET)}; write {NOTEBOOKS}/NAME.py and name it in the row"
    )
    assert without >= NOT_YET, f"these have a notebook now: take {sorted(NOT_YET - without)} off NOT_YET"


def test_every_notebook_of_a_method_belongs_to_a_row() -> None:
    named = [m.notebook for m in ALL if m.notebook is not None]
    assert len(named) == len(set(named)), "two rows name one notebook"
    there = {str(NOTEBOOKS / one.name) for one in (HERE.parent / NOTEBOOKS).glob("*.py")}
    orphans = sorted(there - set(named))
    assert orphans == [], f"no row of the catalogue names {orphans}: set `notebook` in the method's row"


def test_a_recipe_without_its_row_is_seen() -> None:
    """What `test_what_runs_is_here` says, with a recipe planted that no row names."""
    named = {name for m in ALL for name in m.recipes}
    assert {*recipes.__all__, "planted"} - {"Recipe"} != named


def test_what_a_list_says_of_a_row() -> None:
    assert catalogue.find("IGPO").says == "working" and catalogue.find("BRTS").says == "not yet"
    assert catalogue.find(43).links[-1] == "https://arxiv.org/abs/2605.06200"


def test_parity_adapters_exist() -> None:
    folder = HERE / "parity" / "adapters"
    for address in {address for m in ALL for address in m.parity.values()}:
        module, _, function = address.partition(":")
        source = (folder / f"{module}.py").read_text()
        assert re.search(rf"^def {function}\(", source, re.MULTILINE), f"{folder.name}/{module}.py has no {function}"


def test_parity_keys_belong_to_one_row() -> None:
    keys = Counter(key for m in ALL for key in m.parity)
    assert max(keys.values()) == 1
    assert all(re.fullmatch(r"[\w-]+/\w+", key) for key in keys)
    assert catalogue.adapter("A2TGPO", "turn_clip_loss") == "a2tgpo:turn_clip_loss"
    assert catalogue.adapter("A2TGPO", "nothing") is None


def test_find() -> None:
    assert catalogue.find("a²tgpo").number == 43
    assert catalogue.find("b3").name == "GRPO"
    assert (catalogue.find("MinD").number, catalogue.find("MIND").number) == (53, 60)
    assert catalogue.find(1).card.link == "https://arxiv.org/abs/2510.14967"
    with pytest.raises(KeyError, match="'GRPO'"):
        catalogue.find("GRPOO")


def test_a_row_that_cannot_be_right_is_refused() -> None:
    card = Card("t", 2026, None, "s", "x")
    with pytest.raises(ValueError, match="expected kinds"):
        Method(1, "m", ("magic",), "planned", card)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="names its recipes"):
        Method(1, "m", ("recipe",), "runs", card)
    with pytest.raises(ValueError, match="expected a status"):
        Method(1, "m", ("recipe",), "soon", card)  # type: ignore[arg-type]


def test_the_catalogue_is_light() -> None:
    assert importlib.util.find_spec("workbench.catalogue") is not None
    for source in (HERE.parent / "workbench" / "catalogue").glob("*.py"):
        assert not re.search(
            r"^\s*(import|from) (torch|transformers|workbench\.(recipes|credit))", source.read_text(), re.M
        )
