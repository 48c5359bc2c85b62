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


@dataclass(eq=False)
class ReturnPredictor(Provider):
    """Predict the outcome after every turn: `return_pred`, and before the first: `return_pred_start`.

    It is fitted to the rollouts it is asked about (those whose outcome is known), every time they are other ones; or
    once, to others: `ReturnPredictor().fit(rollouts)`. On few rollouts it remembers more than it understands.

    Args:
        width: places of the hashed words.
        hidden: size of the recurrent state.
        steps: of the fit.
        seed: of the first weights.

    Source: RUDDER, arXiv:1806.07857.
    Differs: a GRU on hashed words of the turn.
    """

    width: int = 64
    hidden: int = 16
    steps: int = 120
    seed: int = 0
    fitted: Predictor | None = field(default=None, metadata={"key": False})
    kept: bool = field(default=False, metadata={"key": False})
    provides: ClassVar[Mapping[str, str]] = {"return_pred": "turn", "return_pred_start": "trajectory"}
    sees: ClassVar[tuple[Sees, ...]] = ("group", "future")
    reads: ClassVar[tuple[Reads, ...]] = ("messages", "results")

    @property
    def model(self) -> str:
        """Hash of the fitted weights: they depend on all rollouts they were fitted to."""
        return "" if self.fitted is None else weights_hash(self.fitted.state_dict())

    def fit(self, rollouts: Rollouts) -> ReturnPredictor:
        """Return a predictor fitted to these rollouts, which stays as it is."""
        return ReturnPredictor(self.width, self.hidden, self.steps, self.seed, self._fit(rollouts), True)

    def check(self, rollouts: Rollouts) -> None:
        """Fit it to the rollouts, unless it was fitted before.

        Raises:
            RecordError: none of them has turns and a known outcome.
        """
        if not self.kept:
            self.fitted = self._fit(rollouts)

    def _fit(self, rollouts: Rollouts) -> Predictor:
        use = [t for t in rollouts if t.turns and t.outcome is not None]
        if not use:
            raise RecordError("no rollout with turns has a known outcome to learn from", field="outcome")
        rows = [self._features(t, rollouts) for t in use]
        return fit(rows, [float(t.outcome or 0.0) for t in use], self.hidden, self.steps, self.seed)

    def _features(self, trajectory: Trajectory, others: Iterable[Trajectory]) -> Tensor:
        path = trajectory.path({t.id: t for t in others})
        return torch.stack([hashed_words(turn, self.width) for turn in path.turns])

    async def compute(self, group: Group, meter: Meter) -> Mapping[str, Values]:
        """Predict for each rollout."""
        if self.fitted is None:
            raise ValueError("ReturnPredictor: it was not fitted; use `collect`, or `fit(rollouts)` first")
        turns: list[float | None] = []
        starts: list[float | None] = []
        for t in group:
            found = self._predict(t, group) if t.turns else [None]
            own = len(t.turns)
            turns += found[len(found) - own :]
            starts.append(found[len(found) - own - 1])
        meter.count(calls=len(group))
        return {"return_pred": Values.of(turns), "return_pred_start": Values.of(starts)}

    def _predict(self, trajectory: Trajectory, group: Group) -> list[Any]:
        assert self.fitted is not None
        with torch.inference_mode():
            return self.fitted(self._features(trajectory, group.trajectories).unsqueeze(0))[0].double().tolist()
