"""Which turns moved the weights: the exact gradient of every turn by all trainable weights. For small models.

    g = sum_k g_k      g_k: gradient of the loss summed over the tokens of turn k alone, weights of the whole batch

The loss is a sum over tokens, so the turns' gradients add up to the gradient of the batch. The norms |g_k| say who
pulls, the shares g_k . g / |g|^2 (which add up to 1) who pulls where the step goes. `gradient_by_turn` in the metrics
is the cheap stand-in that every step can afford.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from workbench.batch import Batch
from workbench.credit import Credit
from workbench.recipes import Recipe, rloo
from workbench.train.parts import Part, cut, score

By = Literal["index", "turn"]


class TurnGradient(NamedTuple):
    """The gradient of one turn, or of all turns at one place.

    Args:
        turn: index of the turn in the batch, or the place in the trajectory, from 0.
        tokens: with credit.
        norm: |g_k|.
        share: g_k . g / |g|^2, of the batch's gradient g; adds up to 1, negative where a turn pulls against it; None
            where g is 0.
        cosine: of g_k and g; None where one of them is 0.
        cosine_outcome: of g_k and the gradient of the outcome's recipe; None where one of them is 0.
    """

    turn: int
    tokens: int
    norm: float
    share: float | None
    cosine: float | None
    cosine_outcome: float | None


def turn_gradients(
    model: Any,
    recipe: Recipe,
    batch: Batch,
    *,
    by: By = "index",
    outcome: Recipe | None = None,
    temperature: float = 1.0,
    micro_tokens: int = 2048,
) -> list[TurnGradient]:
    """Return the gradient of each turn, or of the turns at each place, beside the batch's and the outcome's.

    Takes a backward pass a unit and part, twice for `by="turn"`; the model's gradients stay as they are.

    Args:
        model: of transformers or peft; what requires a gradient counts.
        recipe: whose credit and loss; its objective sums its terms (no gradient rule) and asks for no value head.
        batch: with all columns the recipe needs, as `with_evidence` or `Done.used` has them.
        by: "index": one row a place in the trajectory; "turn": one row a turn.
        outcome: the recipe whose gradient stands for the outcome; `rloo()` by default.
        temperature: the rollouts were sampled at.
        micro_tokens: of a pass.

    Raises:
        ValueError: the objective has a gradient rule, or asks the model for a value.

    Source: no paper; RAGEN-2 has such norms by groups of rollouts.
    """
    _check(recipe)
    look = _Asked(model, recipe, batch, temperature, micro_tokens)
    aim = _Asked(model, outcome or rloo(), batch, temperature, micro_tokens).whole()
    unit = batch.turn_index[batch.token_turn] if by == "index" else batch.token_turn
    if by == "turn":  # a turn stands in one part, so no gradient has to wait for the next
        total = look.whole()
        rows = [_row(u, n, g, total, aim) for part in look.parts for u, n, g in look.by_unit(part, unit)]
        return sorted(rows, key=lambda row: row.turn)
    sums: dict[int, tuple[int, Tensor]] = {}
    for part in look.parts:
        for u, n, g in look.by_unit(part, unit):
            sums[u] = (sums[u][0] + n, sums[u][1] + g) if u in sums else (n, g)
    total = sum((g for _, g in sums.values()), torch.zeros_like(aim))
    return [_row(u, n, g, total, aim) for u, (n, g) in sorted(sums.items())]


def _check(recipe: Recipe) -> None:
    if recipe.objective.rule is not None:
        raise ValueError(f"{recipe.name}: its gradient rule takes norms of the whole batch; turns do not add up then")
    if "value" in recipe.objective.outputs:
        raise ValueError(f"{recipe.name}: its loss asks for a value head; give a recipe with the policy's terms alone")


class _Asked:
    """A batch as a recipe's loss sees it: what has to be known before any token is scored."""

    def __init__(self, model: Any, recipe: Recipe, batch: Batch, temperature: float, micro_tokens: int):
        self.model, self.objective, self.batch, self.temperature = model, recipe.objective, batch, temperature
        self.credits: Mapping[str, Credit] = recipe.credits(batch)
        self.weights = self.objective.weights(batch, self.credits["credit"])
        self.counted = torch.stack([w != 0 for w in self.weights.values()]).any(0)
        self.trainable: Sequence[Tensor] = [p for p in model.parameters() if p.requires_grad]
        self.parts = cut(batch, self.counted, micro_tokens, next(model.parameters()).device)

    def whole(self) -> Tensor:
        """The gradient of the whole batch, one vector."""
        nobody = torch.zeros_like(self.batch.token_turn)
        zero = torch.zeros(sum(p.numel() for p in self.trainable))
        return sum((g for part in self.parts for _, _, g in self.by_unit(part, nobody)), zero)

    def by_unit(self, part: Part, unit: Tensor) -> Iterator[tuple[int, int, Tensor]]:
        """Yield (unit, tokens that count, gradient of their share of the loss) for the units of a part."""
        logprob, outputs = score(self.model, part, self.temperature, "entropy" in self.objective.outputs)
        streams = {name: credit for name, credit in self.credits.items() if name != "credit"}
        counted = part.tokens[self.counted[part.tokens]]
        for u in torch.unique(unit[counted]).tolist():
            masked = {name: torch.where(unit == u, w, 0.0) for name, w in self.weights.items()}
            loss = self.objective(
                logprob,
                self.batch,
                self.credits["credit"],
                streams,
                tokens=part.tokens,
                outputs=outputs,
                weights=masked,
            ).loss
            yield u, int((unit[counted] == u).sum()), self._gradient(loss)

    def _gradient(self, loss: Tensor) -> Tensor:
        if not loss.requires_grad:
            return torch.zeros(sum(p.numel() for p in self.trainable))
        found = torch.autograd.grad(loss, self.trainable, retain_graph=True, allow_unused=True)
        whole = [torch.zeros_like(p) if g is None else g for g, p in zip(found, self.trainable, strict=True)]
        return torch.cat([g.flatten().float().cpu() for g in whole])


def _row(unit: int, tokens: int, g: Tensor, total: Tensor, aim: Tensor) -> TurnGradient:
    power = float(total.double() @ total.double())
    share = float(g.double() @ total.double()) / power if power > 0 else None
    return TurnGradient(unit, tokens, float(g.norm()), share, cosine(g, total), cosine(g, aim))


def cosine(a: Tensor, b: Tensor) -> float | None:
    """Return the cosine of two vectors; None where one of them is 0.

    Example:
        >>> cosine(torch.tensor([3.0, 0.0]), torch.tensor([3.0, 4.0]))
        0.6
    """
    sizes = float(a.double().norm() * b.double().norm())
    return max(-1.0, min(1.0, float(a.double() @ b.double()) / sizes)) if sizes > 0 else None
