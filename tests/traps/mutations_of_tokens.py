"""Guards of tokens and masks, and what the code looks like without them; see `mutations`."""

from __future__ import annotations

from mutations import of

TOKENS = [
    *of(
        "test_tokens.py::test_retokenisation_drift",
        (
            "the text of an action is tokenised again",
            "rollout/episode.py",
            'return Span(generation.token_ids, "sampled", turn, action.id, logprobs=generation.logprobs, ',
            "pieces = table.policy.renderer.pieces(again := table.policy.renderer.encode(''.join(pieces)))\n"
            '    return Span(tuple(again), "sampled", turn, action.id, ',
        ),
        (
            "what was sampled is rendered once more for imitation",
            "transforms/tokens.py",
            "    if trajectory.has_tokens:\n",
            "    if False:\n",
        ),
    ),
    *of(
        "test_tokens.py::test_template_does_not_preserve_prefixes",
        (
            "a prompt that does not extend is taken to extend",
            "rollout/episode.py",
            "if [token for span in spans for token in span.ids][: len(kept)] == kept:",
            "if True:",
        ),
        (
            "every template is taken to keep earlier turns",
            "policy/renderers/chat.py",
            "grows = all(b.startswith(a + said) for a, b in zip(prompts, prompts[1:], strict=False))",
            "grows = True",
        ),
        (
            "an observation is put behind turns the template would change",
            "policy/renderers/chat.py",
            "if not all(self._preserves(role, _THOUGHT) for role in roles):",
            "if False:",
        ),
    ),
    *of(
        "test_tokens.py::test_end_of_turn_is_not_doubled",
        (
            "the template's end of a turn comes behind the sampled one",
            "policy/renderers/chat.py",
            "return self._without_closer(spans) if closed else self._with_inserted(spans)",
            "return spans",
        ),
        (
            "the newline behind the end is lost with it",
            "policy/renderers/chat.py",
            "return [] if first is None else ids[: first + 1]",
            "return [] if first is None else ids[: first + 2]",
        ),
    ),
    *of(
        "test_tokens.py::test_turn_cut_off_before_its_end",
        (
            "the inserted end counts as sampled (lines)",
            "policy/renderers/plain.py",
            'closing = [] if closed else [self._span("\\n", "inserted", turn)]',
            'closing = [] if closed else [self._span("\\n", "sampled", turn)]',
        ),
        (
            "the inserted end counts as sampled (chat)",
            "policy/renderers/chat.py",
            'parts = [_cut(first, 0, n, "inserted"), _cut(first, n, None, first.origin), *spans[1:]]',
            'parts = [_cut(first, 0, n, "sampled"), _cut(first, n, None, first.origin), *spans[1:]]',
        ),
        (
            "a turn that ran out of tokens is taken to be closed",
            "rollout/episode.py",
            'closed=generation.stop_reason == "stop")',
            "closed=True)",
        ),
        (
            "how a turn ended is not kept",
            "rollout/episode.py",
            "        stop_reason=generation.stop_reason,\n",
            '        stop_reason="stop",\n',
        ),
    ),
    *of(
        "test_tokens.py::test_several_ends_of_a_turn",
        (
            "only the template's end stops a turn",
            "policy/renderers/chat.py",
            "ends = [*self._closer[-1:], self.codec.tokenizer.eos_token_id, *self.eos_ids]",
            "ends = [*self._closer[-1:], self.codec.tokenizer.eos_token_id]",
        ),
        (
            "only the first end of the model's list is read",
            "policy/loading.py",
            "return () if found is None else tuple(found) if isinstance(found, (list, tuple)) else (found,)",
            "return () if found is None else tuple(found)[:1] if isinstance(found, (list, tuple)) else (found,)",
        ),
        (
            "the engine stops at the first stop id only",
            "policy/hf.py",
            "stops = set(settings.stop_ids)",
            "stops = set(settings.stop_ids[:1])",
        ),
    ),
    *of(
        "test_tokens.py::test_tool_result_is_too_long",
        (
            "nobody looks whether the next turn fits",
            "rollout/episode.py",
            "if limit is None or not episode.turns or len(episode.context) + table.settings.max_new_tokens <= limit:",
            "if True:",
        ),
        (
            "the episode ends without a reason",
            "rollout/episode.py",
            'episode.outcome, episode.truncated, episode.stop_reason = 0.0, True, "max_tokens"',
            'episode.outcome, episode.truncated, episode.stop_reason = 0.0, False, "done"',
        ),
        (
            "what came after the last sampled token is read too",
            "train/parts.py",
            "listed = [batch.sequences[s][: int(ends[s])] for s in passes.tolist()]",
            "listed = [batch.sequences[s] for s in passes.tolist()]",
        ),
        (
            "the engine runs past the positions of the model",
            "policy/hf.py",
            "if limit and len(prompt) + settings.max_new_tokens > limit:",
            "if False:",
        ),
    ),
]

MASKS = [
    *of(
        "test_masks.py::test_role_is_not_provenance",
        (
            "all the agent's tokens count as sampled",
            "rollouts.py",
            'if span.origin == "sampled":',
            'if span.origin in ("sampled", "forced"):',
        ),
        (
            "imitation learns whatever stands in the prompt",
            "transforms/imitate.py",
            "learned = span.origin in origins and span.turn >= 0 and trajectory.turns[span.turn].trainable",
            'learned = span.origin in (*origins, "prompt") and trajectory.turns[span.turn].trainable',
        ),
        (
            "a prompt's messages count as turns that were taken",
            "policy/renderers/plain.py",
            'spans.append(Span(tuple(ids[mine]), "prompt", message=message, pieces=pieces[mine]))',
            'origin = "sampled" if message == "h1" else "prompt"\n'
            "            spans.append(Span(tuple(ids[mine]), origin, 0 if message == 'h1' else -1, message))",
        ),
    ),
    *of(
        "test_masks.py::test_turns_that_must_not_be_trained",
        (
            "a recipe credits them",
            "recipes/base.py",
            "    return ONLY_TRAINABLE(credit, batch)\n",
            "    return credit\n",
        ),
        (
            "imitation learns them",
            "transforms/imitate.py",
            "learned = span.origin in origins and span.turn >= 0 and trajectory.turns[span.turn].trainable",
            "learned = span.origin in origins and span.turn >= 0",
        ),
    ),
    *of(
        "test_masks.py::test_loss_mask_is_no_attention_mask",
        (
            "the learner sees sampled tokens only",
            "train/parts.py",
            "kept = model(input_ids=part.ids, use_cache=False, logits_to_keep=part.ids.shape[1] - first).logits",
            "seen = torch.zeros_like(part.ids).index_put((part.rows, part.before + 1), torch.tensor(1))\n"
            "    seen[:, 0] = 1\n"
            "    kept = model(input_ids=part.ids, attention_mask=seen, use_cache=False,\n"
            "                 logits_to_keep=part.ids.shape[1] - first).logits",
        ),
        (
            "tokens of a tree see those of other paths",
            "train/parts.py",
            "        attention_mask=mask,\n",
            "        attention_mask=None,\n",
        ),
        (
            "imitation sees learned tokens only",
            "train/sft.py",
            "model(input_ids=ids, use_cache=False).logits, ids, weights)",
            "model(input_ids=ids, attention_mask=(weights > 0).long(), use_cache=False).logits, ids, weights)",
        ),
    ),
    *of(
        "test_masks.py::test_padding_is_known_by_length",
        (
            "token 0 is padding to the learner",
            "train/parts.py",
            "kept = model(input_ids=part.ids, use_cache=False, logits_to_keep=part.ids.shape[1] - first).logits",
            "kept = model(input_ids=part.ids, attention_mask=(part.ids != 0).long(), use_cache=False,\n"
            "                 logits_to_keep=part.ids.shape[1] - first).logits",
        ),
        (
            "token 0 is padding to the engine",
            "policy/hf.py",
            "real = torch.arange(width) >= torch.tensor(gaps)[:, None]",
            "real = (torch.arange(width) >= torch.tensor(gaps)[:, None]) & (ids != 0)",
        ),
        (
            "token 0 is padding to imitation",
            "train/sft.py",
            "model(input_ids=ids, use_cache=False).logits, ids, weights)",
            "model(input_ids=ids, attention_mask=(ids != 0).long(), use_cache=False).logits, ids, weights)",
        ),
        (
            "padding is cut off by id",
            "train/batches.py",
            "weights[row, : len(example.ids)] = torch.tensor(example.weights, dtype=torch.float32)",
            "weights[row, : len(example.ids)] = torch.tensor(example.weights) * (ids[row, : len(example.ids)] != 0)",
        ),
    ),
    *of(
        "test_masks.py::test_loss_path_that_forgets_the_mask",
        (
            "every token counts in a term over credited ones",
            "objective.py",
            '        if self.over == "credited":\n            return credit.known\n',
            '        if self.over == "credited":\n            return torch.ones_like(credit.known)\n',
        ),
        (
            "every token counts in a term over trainable ones",
            "objective.py",
            "        return known & (values != 0)\n",
            "        return torch.ones_like(known)\n",
        ),
        (
            "losses are summed without the weights of their tokens",
            "objective.py",
            "term.name: (term.loss(look) * weights[term.name][look.tokens].to(logprob.dtype)).sum()",
            "term.name: term.loss(look).mean()",
        ),
        (
            "tokens without credit enter the ratio of their unit",
            "losses.py",
            "return torch.where(look.known, unit, -1)",
            "return unit",
        ),
        (
            "the divisor counts every token",
            "losses.py",
            "        return m * (key >= 0) / (holders * inside)\n",
            "        return torch.ones_like(m) * (key >= 0) / (holders * inside)\n",
        ),
    ),
    *of(
        "test_masks.py::test_only_logits_before_sampled_tokens_are_looked_at",
        (
            "logits at the token itself, not before it",
            "train/parts.py",
            "    return kept, (part.rows, part.before - first)\n",
            "    return kept, (part.rows, (part.before - first + 1).clamp_max(kept.shape[1] - 1))\n",
        ),
        (
            "the entropy of every place is taken in",
            "train/parts.py",
            '{"entropy": found.entropy.cpu()}',
            '{"entropy": found.entropy.cpu() + logits.mean()}',
        ),
    ),
    *of(
        "test_masks.py::test_mask_is_neither_shifted_nor_inverted",
        (
            "a token is predicted by the logits at its own place",
            "train/parts.py",
            "    return kept, (part.rows, part.before - first)\n",
            "    return kept, (part.rows, (part.before - first + 1).clamp_max(kept.shape[1] - 1))\n",
        ),
        (
            "places of sampled tokens are one off",
            "rollouts.py",
            "rows += [(number[n, span.turn], len(sequences), at + i, p) for i, p in enumerate(probs)]",
            "rows += [(number[n, span.turn], len(sequences), at + i - 1, p) for i, p in enumerate(probs)]",
        ),
        (
            "weights count what is masked",
            "losses.py",
            "m = counted.to(torch.float64)",
            "m = (~counted).to(torch.float64)",
        ),
        (
            "imitation weighs the token before",
            "train/sft.py",
            "rows, places = weights[:, 1:].nonzero(as_tuple=True)",
            "rows, places = weights[:, :-1].nonzero(as_tuple=True)",
        ),
    ),
    *of(
        "test_masks.py::test_value_of_a_state_does_not_see_the_action",
        (
            "the value is read at the token itself",
            "train/parts.py",
            "head(seen[0][at])",
            "head(seen[0][at[0], (at[1] + 1).clamp_max(seen[0].shape[1] - 1)])",
        ),
    ),
    *of(
        "test_masks.py::test_whitening_over_observations",
        (
            "observed tokens are units like sampled ones",
            "rollouts.py",
            'if span.origin == "sampled":',
            "if span.turn >= 0:",
        ),
        (
            "unknown values are in the mean",
            "credit/normalise.py",
            "    mean = seg_mean(x, key, size, known)\n    divisor",
            "    mean = seg_mean(x, key, size)\n    divisor",
        ),
        (
            "unknown values are in the spread",
            "credit/normalise.py",
            "_divisor(seg_var(x, key, size, known, ddof, mean), eps, eps_root, least)",
            "_divisor(seg_var(x, key, size, None, ddof, mean), eps, eps_root, least)",
        ),
    ),
]
