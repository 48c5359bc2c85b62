"""The closed tokenizer of the tiny policies: words of the project's worlds, digits one by one, bytes for all else.

Every token is a string of bytes, so any text comes back exactly. The shipped JSON is frozen: an id never changes its
meaning, and a later world takes ids that are reserved today.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workbench.policy.renderers.codec import byte_alphabet

VERSION = 1
SIZE = 1024
FOLDER = Path(__file__).parent / "assets" / "tiny"
FILE = FOLDER / f"tokenizer-{VERSION}.json"
VERSION_OF = {"dialogue": 2, "sudoku": 2}
"""The version a world's start speaks, where it is not the first. The second is the first with words for ids that were
reserved: `LATER_WORDS`, then `LATER_LABELS`."""
PAD, END, START = "<|pad|>", "<|end|>", "<|start|>"
LABELS = ("Question", "Search", "Result", "Answer")
"""What a line of the plain-text renderer begins with."""

LATER_LABELS = ("Say", "Count", "Add", "Take", "Place")
LATER_WORDS = (
    *("my", "gone", "I", "feel", "bad", "awful", "low", "why", "did", "it", "happen", ",", "can", "do", "now", "thank"),
    *("you", "yes", "hm", "no", "are", "there", "again", "am", "sorry", "that", "hard", "hear", "with", "reason"),
    *("luck", "fault", "yours", "came", "because", "rain", "such", "ask", "a", "try", "to", "find", "take", "one"),
    *(
        "small",
        "step",
        "call",
        "them",
        "today",
        "add",
        "from",
        "holds",
        "hold",
        "not",
        "so",
        "many",
        "/",
        ".",
        "solved",
    ),
)

# A word, a digit or any other sign, each with the blank before it; white space that stands alone is a piece of its own.
PIECES = r" ?[A-Za-z]+| ?[0-9]| ?[^\sA-Za-z0-9]|\s"
BLANK = "Ġ"  # how byte-level BPE writes the byte 0x20


def vocabulary(words: Sequence[str], later: Sequence[str] = ()) -> dict[str, int]:
    """Return the ids: control tokens, the 256 bytes in order, labels, words with the blank before them, reserved.

    Args:
        words: of the worlds' grammars; their order is their ids, so words may only ever be appended.
        later: labels that came after them, without a blank.

    Raises:
        ValueError: there are more than fit.

    Example:
        >>> ids = vocabulary(["red", "box"])
        >>> ids["<|pad|>"], ids["A"] - 3 == ord("A"), ids["Search"], ids["Ġbox"], len(ids)
        (0, True, 260, 264, 1024)
    """
    signs = sorted(byte_alphabet().items(), key=lambda pair: pair[1])
    tokens = [PAD, END, START, *(sign for sign, _ in signs), *LABELS, *(BLANK + word for word in words), *later]
    tokens = list(dict.fromkeys(tokens))
    if len(tokens) > SIZE:
        raise ValueError(f"{len(tokens)} tokens do not fit into {SIZE}; a larger vocabulary is another version")
    tokens += [f"<|reserved-{number}|>" for number in range(len(tokens), SIZE)]
    return {token: number for number, token in enumerate(tokens)}


def build(words: Sequence[str], later: Sequence[str] = ()) -> Any:
    """Return a tokenizer of the library `tokenizers`: BPE without merges, so that a piece is one word or its bytes."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    made = Tokenizer(models.BPE(vocab=vocabulary(words, later), merges=[], ignore_merges=True))
    split = pre_tokenizers.Split(Regex(PIECES), behavior="isolated")
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.pre_tokenizer = pre_tokenizers.Sequence([split, as_bytes])
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([PAD, END, START])
    return made


def file_of(world: str) -> Path:
    """Return the tokenizer that the start of a world was made with.

    Example:
        >>> file_of("chain").name, file_of("dialogue").name
        ('tokenizer-1.json', 'tokenizer-2.json')
    """
    return FOLDER / f"tokenizer-{VERSION_OF.get(world, VERSION)}.json"


def load(file: str | Path = FILE) -> Any:
    """Return the frozen tokenizer as transformers takes it.

    Args:
        file: JSON of the library `tokenizers`.

    Example:
        >>> tokenizer = load()
        >>> ids = tokenizer("Search: owner of red box\\n")["input_ids"]
        >>> tokenizer.convert_ids_to_tokens(ids)
        ['Search', ':', 'Ġowner', 'Ġof', 'Ġred', 'Ġbox', 'Ċ']
        >>> tokenizer.decode(tokenizer("naïve  4711")["input_ids"])
        'naïve  4711'
    """
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer.from_file(str(file))
    names = {"pad_token": PAD, "eos_token": END, "bos_token": START}
    return PreTrainedTokenizerFast(tokenizer_object=raw, clean_up_tokenization_spaces=False, **names)
