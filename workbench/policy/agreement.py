"""Do the learner and every engine still hold the same weights? One fixed sequence, scored by all of them, tells.

An engine that kept an old output layer, old cached prefixes, or log-probs of another distribution goes on without an
error and trains on a ratio that is not 1. So after every update the same few tokens are scored by the learner and by
each engine:

    probe = probe_sequence(vocabulary, special=tokenizer.all_special_ids)
    before = engine_logprobs(engine, probe)       # also leaves the probe among the cached prefixes
    engine.load(weights)
    after = engine_logprobs(engine, probe)
    require_agreement(learner_logprobs(model, probe), {"engine 0": after}, dtype, before={"engine 0": before})

Why this catches what it should: the temperature is not 1, so log-probs before temperature differ; the scored tokens
stand behind more tokens than a block of cached keys and values has, so a cache that was not emptied is read; and every
scored token is asked of the sampler itself. What it cannot see is a fault smaller than the bound: of an update that
moves no log-prob by more than that, nobody can say whether it arrived.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch

from workbench._async import run
from workbench.policy.base import Engine, Settings
from workbench.policy.scoring import token_logprobs
from workbench.seeds import seed_for

BOUND = {torch.float32: 1e-4, torch.bfloat16: 1.0}
"""Largest difference of a log-prob that is rounding, by the dtype of the engine.

Measured on a CPU, vLLM 0.32 against transformers in the same dtype, largest of all probes: float32 8e-6 (a tiny policy,
40 probes) and 4e-5 (SmolLM2-135M, 10); bfloat16 0.17 (40) and 0.48 (20). So the bound for bfloat16 sees log-probs of
another distribution or another model, and not the fault of one small update; float32 sees both.
"""

TEMPERATURE = 0.7
"""At which the probe is scored. Not 1: there log-probs before and after temperature are the same."""

LENGTH = 160
"""Tokens of a probe: more than the largest block of cached keys and values vLLM uses (128)."""

SCORED = 8
"""The last tokens of a probe are scored."""

FIRST_ID = 3
"""Ids below it are not drawn: padding, beginning and end have them in most vocabularies."""


class Disagreement(RuntimeError):
    """Learner and engine score the same tokens differently; the message says which, by how much, and what to do."""


def probe_sequence(vocabulary: int, seed: int = 0, length: int = LENGTH, special: Collection[int] = ()) -> list[int]:
    """Draw the token ids of a probe: uniform, and always the same for the same arguments.

    Args:
        vocabulary: ids are below it. Where the model has more rows than the tokenizer has tokens, take the tokens.
        seed: another one gives another probe.
        length: tokens, more than `SCORED`, and fewer than an engine reads.
        special: ids that are not drawn (`tokenizer.all_special_ids`).

    Example:
        >>> probe = probe_sequence(100, length=20, special=[5, 7])
        >>> len(probe), probe == probe_sequence(100, length=20, special=[5, 7]), {5, 7} & set(probe)
        (20, True, set())
    """
    banned = {*range(FIRST_ID), *special}
    allowed = [n for n in range(vocabulary) if n not in banned]
    if length <= SCORED or not allowed:
        raise ValueError(
            f"expected a length above {SCORED} and at least one ordinary token, got length={length} and {len(allowed)} "
            f"of {vocabulary} ids"
        )
    drawn = torch.Generator().manual_seed(seed_for("agreement", seed))
    return [allowed[n] for n in torch.randint(len(allowed), (length,), generator=drawn).tolist()]


def probe_span(probe: Sequence[int]) -> tuple[int, int]:
    """Return [start, stop) of the tokens that are scored."""
    return len(probe) - SCORED, len(probe)


def engine_logprobs(engine: Engine, probe: Sequence[int], temperature: float = TEMPERATURE) -> list[float]:
    """Return an engine's log-probs [SCORED] of a probe's last tokens.

    One token is sampled first: not every engine keeps what it scores, but each keeps the prefix it samples behind, and
    the next call would read it from there.
    """
    start, _ = probe_span(probe)
    run(engine.generate([probe[:start]], Settings(max_new_tokens=1), [0]))
    return engine.score([probe], [probe_span(probe)], temperature=temperature)[0].logprobs.tolist()


def learner_logprobs(model: Any, probe: Sequence[int], temperature: float = TEMPERATURE) -> list[float]:
    """Return the log-probs [SCORED] a model of transformers gives a probe's last tokens, without gradients.

    A sharded model computes it on all ranks together: call it on each.
    """
    start, stop = probe_span(probe)
    ids = torch.tensor([list(probe)], device=next(model.parameters()).device)
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            return token_logprobs(model, ids, temperature=temperature)[0, start - 1 : stop - 1].tolist()
    finally:
        model.train(training)


def gap(learner: Sequence[float], engine: Sequence[float]) -> float:
    """Return the largest difference of two log-probs of the same token; infinite where one is not a number.

        gap = max_i |learner_i - engine_i|

    Example:
        >>> gap([-1.0, -2.0], [-1.0, -2.5]), gap([-1.0], [float("nan")])
        (0.5, inf)
    """
    if len(learner) != len(engine) or not learner:
        raise ValueError(f"expected as many log-probs of both, got {len(learner)} and {len(engine)}")
    differences = [abs(a - b) for a, b in zip(learner, engine, strict=True)]
    return max(d if math.isfinite(d) else math.inf for d in differences)


def require_agreement(
    learner: Sequence[float],
    engines: Mapping[str, Sequence[float]],
    dtype: torch.dtype,
    *,
    before: Mapping[str, Sequence[float]] | None = None,
    version: int | None = None,
    bound: float | None = None,
) -> dict[str, float]:
    """Raise `Disagreement` unless every engine scores the probe as the learner does.

    Args:
        learner: log-probs of the learner, after its update.
        engines: log-probs of each engine after it took the weights, by a name a reader knows.
        dtype: of the engines; decides the bound. The learner's should be the same.
        before: log-probs of each engine before it took the weights; makes the message say more.
        version: of the weights, for the message.
        bound: another one than `BOUND[dtype]`.

    Returns:
        the gap of each engine, for the metrics of the step.

    Example:
        >>> require_agreement([-1.0], {"engine 0": [-1.00001]}, torch.float32)["engine 0"] < 1e-4
        True
    """
    if bound is None and dtype not in BOUND:
        raise ValueError(f"expected a dtype of {[str(known) for known in BOUND]}, got {dtype}; or pass bound=")
    limit = BOUND[dtype] if bound is None else bound
    gaps = {name: gap(learner, found) for name, found in engines.items()}
    far = {name: found for name, found in gaps.items() if not found <= limit}
    if far:
        told = "; ".join(_told(name, found, learner, engines, before, limit) for name, found in far.items())
        which = "" if version is None else f" after the update to version {version}"
        raise Disagreement(
            f"learner and engine do not hold the same weights{which}: {told}. "
            "Likely causes: a tied output layer that was not packed anew, cached prefixes of the old weights, "
            "log-probs before temperature, or weights that did not arrive "
            f"(bound {limit:g} for {str(dtype).removeprefix('torch.')}). Nothing was learnt from what this engine "
            "samples next; resume from the last checkpoint, which starts it anew; if it happens again, use engine='hf' "
            "and report the versions of vllm and torch"
        )
    return gaps


def _told(
    name: str,
    found: float,
    learner: Sequence[float],
    engines: Mapping[str, Sequence[float]],
    before: Mapping[str, Sequence[float]] | None,
    limit: float,
) -> str:
    """Say how far one engine is off, and what that looks like."""
    said = f"{name} is off by {found:.3g} in a log-prob"
    if before is None or name not in before:
        return said
    if gap(before[name], engines[name]) <= limit:
        return f"{said}, and answers as before the update: nothing of it arrived"
    if gap(learner, before[name]) <= limit:
        return f"{said}, and agreed before it took the weights: what it took are not the learner's"
    return f"{said}, and has moved by {gap(before[name], engines[name]):.3g} with the update: part of it arrived"
