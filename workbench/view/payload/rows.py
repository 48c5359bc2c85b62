"""Which rows of a credit belong to which turn, and what each row is: a number, zero, unknown, dropped, not trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.batch import Batch
from workbench.credit import Credit


@dataclass(frozen=True)
class Coded:
    """A credit as the views need it.

    Args:
        level: of the credit.
        values: float64 [n]; means nothing where `status` is "u".
        status: one letter of `palette.STATUS` per unit, [n].
        reason: number of the reason a unit was dropped for, 0 where it was not, [n].
        reasons: the reasons by number.
    """

    level: str
    values: np.ndarray
    status: np.ndarray
    reason: np.ndarray
    reasons: Mapping[int, str]


def coded(name: str, credit: Credit, batch: Batch) -> Coded:
    """Read values and status of a credit.

    Raises:
        ValueError: the credit does not fit the batch, or is not a finite number where it is known.
    """
    count = batch.count(credit.level)
    values = np.asarray(credit.values, dtype=np.float64)
    known = np.asarray(credit.known, dtype=bool)
    if values.shape != (count,):
        raise ValueError(
            f"credit {name!r}: the rollouts have {count} {credit.level}s, it has values of shape {values.shape}; "
            "compute it on the same rollouts"
        )
    bad = known & ~np.isfinite(values)
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        raise ValueError(f"credit {name!r}: {credit.level} {first} is {values[first]}; unknown is known=False, not NaN")
    reason = np.zeros(count, dtype=np.int64) if credit.dropped is None else np.asarray(credit.dropped, dtype=np.int64)
    status = np.where(values == 0, "z", "v")
    status = np.where(known, status, "u")
    status = np.where(reason > 0, "d", status)
    status = np.where(trained(batch, credit.level), status, "n")
    return Coded(credit.level, values, status, reason, _reasons(credit))


def _reasons(credit: Credit) -> dict[int, str]:
    """Reasons by number: row i holds number i + 1."""
    return {i + 1: str(text) for i, text in enumerate(credit.reasons or ())}


def trained(batch: Batch, level: str) -> np.ndarray:
    """Return which units may receive gradient; above the turn all of them."""
    if "trainable" not in batch.columns or not inside_turn(batch, level):
        return np.ones(batch.count(level), dtype=bool)
    flag = batch["trainable"].values.numpy().astype(bool)
    try:
        turn = batch.up(level, "turn").numpy()
    except ValueError:  # a unit that crosses turns is in no one turn
        return np.ones(batch.count(level), dtype=bool)
    return np.where(turn >= 0, flag[turn], True) if len(flag) else np.ones(len(turn), dtype=bool)


def inside_turn(batch: Batch, level: str) -> bool:
    """True if the level is the turn or something that may be finer."""
    return level in ("token", "turn") or level in batch.units


def per_token(batch: Batch, level: str) -> bool:
    """True if a credit of this level can differ between the tokens of a turn."""
    return level == "token" or (level in batch.units and batch.units[level].base == "token")


@dataclass(frozen=True)
class TurnCredit:
    """Credit of one turn: a number (of a finer level the mean of what is credited), its status, and its tokens.

    Args:
        value: None if there is no number.
        status: letter of `palette.STATUS`.
        why: why it was dropped; "" if it was not.
        tokens: (values with None where unknown, statuses) of its sampled tokens; None above token level.
    """

    value: float | None
    status: str
    why: str = ""
    tokens: tuple[list[float | None], str] | None = None


class Placed:
    """A coded credit, looked up by turn of the batch."""

    def __init__(self, credit: Coded, batch: Batch):
        self.credit, self.batch = credit, batch
        self.fine = per_token(batch, credit.level)
        low = "token" if self.fine else "turn"
        self.rows = batch.up(low, credit.level).numpy()
        self.token_turn = batch.token_turn.numpy()

    def turn(self, k: int) -> TurnCredit:
        """Return the credit of turn `k` of the batch."""
        if not self.fine:
            row = int(self.rows[k])
            value, status = self._unit(row)
            return TurnCredit(value, status, self._why([row]))
        first, last = np.searchsorted(self.token_turn, [k, k + 1])
        rows = self.rows[first:last]
        cells = [self._unit(int(row)) for row in rows]
        values, status = [value for value, _ in cells], "".join(letter for _, letter in cells)
        mean, letter = summary(values, status)
        return TurnCredit(mean, letter, self._why(rows), (values, status))

    def _unit(self, row: int) -> tuple[float | None, str]:
        if row < 0:
            return None, "u"
        status, value = str(self.credit.status[row]), float(self.credit.values[row])
        return (None if status == "u" or not np.isfinite(value) else value), status

    def _why(self, rows: Any) -> str:
        numbers = {int(self.credit.reason[row]) for row in rows if row >= 0} - {0}
        return "; ".join(self.credit.reasons.get(n, f"reason {n}") for n in sorted(numbers))


def summary(values: list[float | None], status: str) -> tuple[float | None, str]:
    """Return the number and status of a turn from those of its tokens.

    The number is the mean over credited tokens (zeros included). Without any, the turn is what its tokens are, in the
    order: not trained, dropped, unknown.

    Example:
        >>> summary([1.0, None, 0.0], "vuz"), summary([None, 2.0], "ud"), summary([0.0], "z"), summary([], "")
        ((0.5, 'v'), (2.0, 'd'), (0.0, 'z'), (None, 'u'))
    """
    credited = [v for v, s in zip(values, status, strict=True) if s in "vz" and v is not None]
    if credited:
        letter = "v" if "v" in status else "z"
        return sum(credited) / len(credited), letter
    letter = next((s for s in "nd" if s in status), "u")
    rest = [v for v, s in zip(values, status, strict=True) if s == letter and v is not None]
    return (sum(rest) / len(rest) if rest and letter != "u" else None), letter


def turns_of(batch: Batch, n: int) -> range:
    """Return the turns of the batch that trajectory `n` owns."""
    first, last = np.searchsorted(batch.turn_trajectory.numpy(), [n, n + 1])
    return range(int(first), int(last))


def turn_arrays(credit: Coded, batch: Batch) -> tuple[list[float | None], list[str]]:
    """Return value and status of every turn of the batch, as `Placed.turn` gives them, in a few passes."""
    placed, turns = Placed(credit, batch), batch.count("turn")
    if not placed.fine:
        rows = placed.rows.clip(0)
        letters = np.where(placed.rows >= 0, credit.status[rows], "u") if len(credit.status) else np.full(turns, "u")
        numbers = credit.values[rows] if len(credit.values) else np.full(turns, np.nan)
        there = (letters != "u") & np.isfinite(numbers)
        return [v if t else None for v, t in zip(numbers.tolist(), there.tolist(), strict=True)], letters.tolist()
    status = np.where(placed.rows >= 0, credit.status[placed.rows], "u") if len(credit.status) else np.full(0, "u")
    values = credit.values[placed.rows] if len(credit.values) else np.zeros(0)
    letter = np.full(turns, "u")
    for s in "dnzv":  # later ones win
        letter[np.unique(placed.token_turn[status == s])] = s
    mean: list[float | None] = [None] * turns
    for mine, counted in (("v", "vz"), ("z", "vz"), ("n", "n"), ("d", "d")):
        use = np.isin(status, list(counted)) & np.isfinite(values)
        size = np.bincount(placed.token_turn[use], minlength=turns)
        total = np.bincount(placed.token_turn[use], weights=values[use], minlength=turns)
        for k in np.flatnonzero((letter == mine) & (size > 0)).tolist():
            mean[k] = float(total[k] / size[k])
    return mean, letter.tolist()
