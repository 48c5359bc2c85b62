"""Scoring through vLLM: which requests tell the log-probs of given tokens, and how to read them off the answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch

from workbench.policy.base import Scores
from workbench.policy.vllm_pump import Request


class Plan(NamedTuple):
    """How the tokens of one span are asked for.

    Args:
        requests: one pass, or one request a token.
        ids: the tokens to score.
        start: where they begin, if it is one pass; None if each is a request.
    """

    requests: list[Request]
    ids: list[int]
    start: int | None

    def read(self, outputs: Sequence[Any], vocabulary: int, top_k: int, entropy: bool) -> Scores:
        """Return the scores in what came back."""
        if self.start is not None:
            rows = outputs[0].prompt_logprobs[self.start : self.start + len(self.ids)]
            return Scores(_tensor(row[token].logprob for row, token in zip(rows, self.ids, strict=True)))
        if not (top_k or entropy):
            rows = [output.outputs[0].logprobs[0] for output in outputs]
            return Scores(_tensor(row[token].logprob for row, token in zip(rows, self.ids, strict=True)))
        logp = _distributions(outputs, vocabulary)
        top = logp.topk(top_k, dim=-1) if top_k else None
        return Scores(
            logprobs=logp.gather(1, torch.tensor(self.ids, dtype=torch.long)[:, None])[:, 0],
            entropy=-(logp.exp() * logp).sum(-1) if entropy else None,
            top_ids=None if top is None else top.indices,
            top_logprobs=None if top is None else top.values,
        )


def plan(ids: Sequence[int], span: tuple[int, int], in_one_pass: bool, temperature: float, whole: bool) -> Plan:
    """Say how the tokens of a span are asked for.

    Args:
        ids: of the sequence.
        span: [start, stop).
        in_one_pass: over the whole sequence (only at temperature 1); else each token as the next one to be sampled.
        temperature: the logits are divided by it.
        whole: hand over the log-probs of the whole vocabulary.
    """
    start, stop = span
    tokens = [int(token) for token in ids[start:stop]]
    if in_one_pass:
        only = params(max_tokens=1, temperature=0.0, prompt_logprobs=0)
        return Plan([(ids[:stop], only)], tokens, start)
    requests = []
    for place, token in enumerate(tokens, start):
        wanted: dict[str, Any] = {"logprobs": -1, "flat_logprobs": True} if whole else {"logprob_token_ids": [token]}
        requests.append((ids[:place], params(max_tokens=1, temperature=temperature, seed=0, **wanted)))
    return Plan(requests, tokens, None)


def params(**settings: Any) -> Any:
    """Return vLLM's `SamplingParams` for tokens in and tokens out."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(detokenize=False, ignore_eos=True, output_kind=RequestOutputKind.FINAL_ONLY, **settings)


def _distributions(outputs: Sequence[Any], vocabulary: int) -> torch.Tensor:
    """Return log-probs [n, V] of outputs that hold the whole vocabulary of one token each."""
    rows = [output.outputs[0].logprobs for output in outputs]
    logp = torch.full((len(rows), vocabulary), -torch.inf)
    for n, row in enumerate(rows):
        logp[n, torch.tensor(row.token_ids)] = torch.tensor(row.logprobs)
    return logp


def _tensor(values: Iterable[float]) -> torch.Tensor:
    return torch.tensor(list(values), dtype=torch.float32)
