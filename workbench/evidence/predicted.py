"""A small network that predicts the outcome from the first turns of a rollout: `return_pred`."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from workbench.evidence.base import Meter, Provider, Reads, Sees, Values
from workbench.evidence.cache import content, digest
from workbench.evidence.scoring import weights_hash
from workbench.rollouts import Rollouts
from workbench.trajectory import Group, RecordError, Trajectory, Turn

_WORD = re.compile(r"\w+")


def hashed_words(turn: Turn, width: int) -> Tensor:
    """Return what was said in a turn as signed counts of hashed words -> [2 * width]: action, then observations.

    Two words may share a place; the sign (from the hash, too) lets them cancel rather than add up.
    """
    out = torch.zeros(2, width)
    texts = (turn.action.text, " ".join(message.text for message in turn.observations))
    for row, text in enumerate(texts):
        for word in _WORD.findall(text.lower()):
            code = zlib.crc32(word.encode())
            out[row, code % width] += 1.0 if code >> 16 & 1 else -1.0
    return out.flatten()


class Predictor(torch.nn.Module):
    """A GRU over turns and a linear reading of its state; without any turn it reads the state it begins with."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.begin = torch.nn.Parameter(torch.zeros(hidden))
        self.cell = torch.nn.GRU(2 * width, hidden, batch_first=True)
        self.read = torch.nn.Linear(hidden, 1)

    def forward(self, turns: Tensor) -> Tensor:
        """[n, T, features] -> predictions after 0 .. T turns [n, T + 1]."""
        begin = self.begin.expand(1, len(turns), -1).contiguous()
        states, _ = self.cell(turns, begin)
        return self.read(torch.cat([begin.transpose(0, 1), states], 1)).squeeze(-1)


def fit(rows: Sequence[Tensor], outcomes: Sequence[float], hidden: int, steps: int, seed: int) -> Predictor:
    """Fit a predictor to rollouts.

        loss = mean over rollouts of (g_T - R)^2 + 0.5 mean_t (g_t - R)^2

    Args:
        rows: features of each rollout's turns [T, features].
        outcomes: R of each.
        hidden: size of the state.
        steps: of Adam, all rollouts at once.
        seed: of the first weights.

    Source: RUDDER, arXiv:1806.07857, sec. 3: the end, and at every time as an auxiliary task.
    """
    n, longest = len(rows), max(len(row) for row in rows)
    turns = torch.zeros(n, longest, rows[0].shape[1])
    known = torch.zeros(n, longest + 1, dtype=torch.bool)
    for i, row in enumerate(rows):
        turns[i, : len(row)], known[i, : len(row) + 1] = row, True
    target = torch.tensor(outcomes).unsqueeze(1)
    end = torch.tensor([len(row) for row in rows]).unsqueeze(1)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        model = Predictor(rows[0].shape[1] // 2, hidden)
        optimiser = torch.optim.Adam(model.parameters(), lr=0.02, weight_decay=1e-4)
        for _ in range(steps):
            wrong = (model(turns) - target) ** 2
            always = (wrong * known).sum(1) / known.sum(1)
            loss = (wrong.gather(1, end).squeeze(1) + 0.5 * always).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return model.eval()


def folds_of(rollouts: Rollouts, folds: int, seed: int) -> dict[str, int]:
    """Deal the questions (groups) out into folds of equal size, give or take one; a question is never cut in two.

    Groups in which the same was said are one question. Who lands where follows from what was said and the seed; neither
    from outcomes, nor from ids or order.

    Args:
        rollouts: whose groups are dealt out. Those without any known outcome teach nothing and do not count.
        folds: how many, at least 2.
        seed: of the shuffling.

    Returns:
        fold of each group, by its id.

    Raises:
        RecordError: fewer questions with a known outcome than folds.
    """
    codes = {g.id: digest([seed, [content(t, ("messages",)) for t in g]]) for g in rollouts.groups}
    told = sorted({codes[g.id] for g in rollouts.groups if any(_teaches(t) for t in g)})
    if len(told) < folds:
        raise RecordError(
            f"folds={folds} needs as many questions with a known outcome, got {len(told)} "
            f"(of {len(codes)} groups: {', '.join(list(codes)[:4])}{', ...' * (len(codes) > 4)}). Play more tasks at "
            "once, take fewer folds (2 at least), or fit to other rollouts: ReturnPredictor().fit(others)",
            field="outcome",
        )
    place = {code: number % folds for number, code in enumerate(told)}
    return {name: place.get(code, 0) for name, code in codes.items()}


def _teaches(trajectory: Trajectory) -> bool:
    return bool(trajectory.turns) and trajectory.outcome is not None


@dataclass(eq=False)
class ReturnPredictor(Provider):
    """Predict the outcome after every turn: `return_pred`, and before the first: `return_pred_start`.

    By default it is fitted to the rollouts it is asked about (those whose outcome is known), every time they are other
    ones: on few rollouts it then knows them by heart, and the change of its prediction is memory. Two ways to ask it
    only about what it was not fitted to:

    - `folds=K`: cross-fitting. The questions are dealt out into K folds; each fold is predicted by a network that was
      fitted to the others. No rollout of a question teaches the network that credits this question.
    - `ReturnPredictor().fit(rollouts)`: once, to other rollouts.

    Args:
        width: places of the hashed words.
        hidden: size of the recurrent state.
        steps: of a fit.
        seed: of the first weights, and of the folds.
        folds: 0 (one network, fitted to all it is asked about), or 2 and more.

    Raises:
        ValueError: `folds` is 1 or negative.

    Source: RUDDER, arXiv:1806.07857.
    Differs: a GRU on hashed words of the turn. Cross-fitting is not in the paper, whose network is fitted to a buffer
        of past rollouts; it is Chernozhukov et al. 2018, "Double/debiased machine learning", arXiv:1608.00060, sec. 1.

    Example:
        >>> ReturnPredictor(folds=4).sees, ReturnPredictor().sees
        ((), ('group', 'future'))
    """

    width: int = 64
    hidden: int = 16
    steps: int = 120
    seed: int = 0
    folds: int = 0
    fitted: tuple[Predictor, ...] = field(default=(), metadata={"key": False})
    fold_of: Mapping[str, int] = field(default_factory=dict, metadata={"key": False})
    kept: bool = field(default=False, metadata={"key": False})
    provides: ClassVar[Mapping[str, str]] = {"return_pred": "turn", "return_pred_start": "trajectory"}
    reads: ClassVar[tuple[Reads, ...]] = ("messages", "results")

    def __post_init__(self) -> None:
        if self.folds < 0 or self.folds == 1:
            raise ValueError(
                f"expected folds of 0 (fitted to all it is asked about) or of 2 and more, got {self.folds}"
            )

    @property
    def sees(self) -> tuple[Sees, ...]:  # type: ignore[override]
        """Outcomes of the question it credits, unless these are in a fold left out."""
        return () if self.folds else ("group", "future")

    @property
    def model(self) -> str:
        """Hash of the fitted weights: they depend on all rollouts they were fitted to."""
        if len(self.fitted) < 2:
            return "" if not self.fitted else weights_hash(self.fitted[0].state_dict())
        named = [(f"{k}.{name}", w) for k, one in enumerate(self.fitted) for name, w in one.state_dict().items()]
        return weights_hash(dict(named))

    def fit(self, rollouts: Rollouts) -> ReturnPredictor:
        """Return a predictor fitted to these rollouts, which stays as it is.

        Raises:
            ValueError: it has folds, which are of the rollouts that are asked about.
        """
        if self.folds:
            raise ValueError(f"fit: expected no folds (others are asked about than it is fitted to), got {self.folds}")
        network = self._fit(rollouts, rollouts)
        return ReturnPredictor(self.width, self.hidden, self.steps, self.seed, fitted=(network,), kept=True)

    def check(self, rollouts: Rollouts) -> None:
        """Fit it to the rollouts, unless it was fitted before.

        Raises:
            RecordError: none of them has turns and a known outcome, or fewer questions have than there are folds.
        """
        if self.kept:
            return
        if not self.folds:
            self.fitted = (self._fit(rollouts, rollouts),)
            return
        self.fold_of = folds_of(rollouts, self.folds, self.seed)
        others = [[t for t in rollouts if self.fold_of[t.group] != fold] for fold in range(self.folds)]
        self.fitted = tuple(self._fit(one, rollouts) for one in others)

    def _fit(self, learned: Iterable[Trajectory], among: Rollouts) -> Predictor:
        use = [t for t in learned if _teaches(t)]
        if not use:
            raise RecordError("no rollout with turns has a known outcome to learn from", field="outcome")
        rows = [self._features(t, among) for t in use]
        return fit(rows, [float(t.outcome or 0.0) for t in use], self.hidden, self.steps, self.seed)

    def _features(self, trajectory: Trajectory, others: Iterable[Trajectory]) -> Tensor:
        path = trajectory.path({t.id: t for t in others})
        return torch.stack([hashed_words(turn, self.width) for turn in path.turns])

    async def compute(self, group: Group, meter: Meter) -> Mapping[str, Values]:
        """Predict for each rollout."""
        network = self._network(group)
        turns: list[float | None] = []
        starts: list[float | None] = []
        for t in group:
            found = self._predict(network, t, group) if t.turns else [None]
            own = len(t.turns)
            turns += found[len(found) - own :]
            starts.append(found[len(found) - own - 1])
        meter.count(calls=len(group))
        return {"return_pred": Values.of(turns), "return_pred_start": Values.of(starts)}

    def _network(self, group: Group) -> Predictor:
        """The network that was not fitted to this group; the only one where there are no folds."""
        if not self.fitted or (self.folds and group.id not in self.fold_of):
            raise ValueError(
                f"ReturnPredictor: it was not fitted for group {group.id!r}; use `collect`, or `fit(rollouts)` first"
            )
        return self.fitted[self.fold_of[group.id] if self.folds else 0]

    def _predict(self, network: Predictor, trajectory: Trajectory, group: Group) -> list[Any]:
        with torch.inference_mode():
            return network(self._features(trajectory, group.trajectories).unsqueeze(0))[0].double().tolist()
