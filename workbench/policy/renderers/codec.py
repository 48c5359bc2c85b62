"""Text to token ids and back, one piece of text a token, for any fast tokenizer of transformers."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

REMEMBERED = 8192
"""Answers a codec keeps; then it begins anew."""


def byte_alphabet() -> dict[str, int]:
    """Return the character-to-byte map of byte-level BPE.

    Printable bytes stand for themselves; the others are moved to code points from 256 on, in order.

    Source: GPT-2 release, `encoder.py`, `bytes_to_unicode`.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    moved = [b for b in range(256) if b not in printable]
    return {chr(b): b for b in printable} | {chr(256 + n): b for n, b in enumerate(moved)}


class Codec:
    """The one place that touches a tokenizer.

    Text that comes from a model, a tool or a user never becomes a control token: `encode` splits the spelling of
    a special token like any other text.

    Args:
        tokenizer: a tokenizer of transformers.
    """

    def __init__(self, tokenizer: Any):
        self.tokenizer = tokenizer
        self._bytes: dict[int, bytes] = {}
        self._seen: dict[Any, Any] = {}  # a group says the same many times

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Tokenise a text as it stands; `special` reads spelled-out control tokens as such (templates only)."""
        return list(self._once(("encode", text, special), lambda: self._encode(text, special)))

    def _encode(self, text: str, special: bool) -> tuple[int, ...]:
        encoded = self.tokenizer(text, add_special_tokens=False, split_special_tokens=not special)
        return tuple(encoded["input_ids"])

    def _once(self, asked: tuple[Any, ...], answer: Callable[[], Any]) -> Any:
        """Return what is known of a question, or find it out; the tokenizer does not change."""
        found = self._seen.get(asked)
        if found is None:
            if len(self._seen) >= REMEMBERED:
                self._seen.clear()
            found = self._seen[asked] = answer()
        return found

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of tokens, control tokens spelled out; broken characters become U+FFFD."""
        ids = tuple(ids)
        return self._once(("decode", ids), lambda: self._decode(ids))

    def _decode(self, ids: tuple[int, ...]) -> str:
        return self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)

    def pieces(self, ids: Sequence[int]) -> tuple[str, ...]:
        """Return each token's text such that the joined pieces are `decode(ids)`.

        A character that spans several tokens stands at the last of them; the others have "".
        """
        ids, find = tuple(ids), self._byte_pieces if self.is_byte_level else self._grown_pieces
        return self._once(("pieces", ids), lambda: find(ids))

    def _byte_pieces(self, ids: Sequence[int]) -> tuple[str, ...]:
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        last = len(ids) - 1
        return tuple(decoder.decode(self.token_bytes(i), final=n == last) for n, i in enumerate(ids))

    def _grown_pieces(self, ids: Sequence[int]) -> tuple[str, ...]:
        """Decode ever longer prefixes; hold back what may still change (any other kind of tokenizer)."""
        whole, pieces, done = self.decode(ids), [], 0
        for n in range(1, len(ids) + 1):
            text = whole if n == len(ids) else self.decode(ids[:n])
            ready = n == len(ids) or (not text.endswith("\ufffd") and whole.startswith(text))
            pieces.append(text[done:] if ready else "")
            done = max(done, len(text)) if ready else done
        return tuple(pieces)

    @cached_property
    def is_byte_level(self) -> bool:
        """Is every token a string of bytes (byte-level BPE, as GPT-2's)?"""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        return type(getattr(backend, "decoder", None)).__name__ == "ByteLevel"

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes of one token of a byte-level tokenizer; an id outside the vocabulary has none."""
        found = self._bytes.get(token_id)
        if found is None:
            found = self._bytes[token_id] = self._token_bytes(token_id)
        return found

    def _token_bytes(self, token_id: int) -> bytes:
        token = self.tokenizer.convert_ids_to_tokens(int(token_id))
        if token is None:
            return b""
        known = all(c in self._alphabet for c in token)
        return bytes(self._alphabet[c] for c in token) if known else token.encode()

    @cached_property
    def _alphabet(self) -> dict[str, int]:
        return byte_alphabet()

    @cached_property
    def newline_ids(self) -> tuple[int, ...]:
        """All tokens whose text contains a newline, in order."""
        everything = range(len(self.tokenizer))
        if self.is_byte_level:
            return tuple(i for i in everything if b"\n" in self.token_bytes(i))
        return tuple(i for i in everything if "\n" in self.decode([i]))

    @cached_property
    def control_ids(self) -> frozenset[int]:
        """Control tokens: end of turn, padding, and what chat templates are made of."""
        added = getattr(self.tokenizer, "added_tokens_decoder", {})
        return frozenset(self.tokenizer.all_special_ids) | {i for i, token in added.items() if token.special}

    def overlapping(self, ids: Sequence[int], start: int, stop: int) -> tuple[int, int]:
        """Return the [first, last) tokens that overlap characters [start, stop) of the text of `ids`.

        A token that holds only part of a character counts with that character.
        """
        covered, ends = 0, []
        for piece in self.pieces(ids):
            covered += len(piece)
            ends.append(covered)
        begins = [0, *ends[:-1]]
        reaches = [next((e for e in ends[n:] if e > begins[n]), begins[n]) for n in range(len(ends))]
        hit = [n for n, (a, b) in enumerate(zip(begins, reaches, strict=True)) if a < stop and b > start]
        return (hit[0], hit[-1] + 1) if hit else (len(ends), len(ends))
