"""Damaged files for the tests of all readers: bytes from a bad disk, a broken download or a wrong click."""

import random
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

from mvguide.errors import MvguideError

DAMAGES = ("noise", "cut", "flipped", "head", "spliced", "huge", "words", "other")
HEAD = 330
"""Bytes in which the headers of all formats lie."""

_WORDS = [b"nan", b"inf", b"-1", b"0", b"1e308", b"-1e308", b"1e999", b"9" * 400, b"x", b"", b"\n", b"0x10", b"1e-320"]

JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
"""Any JSON value; NaN and infinity too, which Python's writer puts out."""


def damaged(content: bytes, others: Sequence[bytes] = ()) -> st.SearchStrategy[bytes]:
    """Damaged versions of a file.

    Args:
        content: the good file.
        others: other files, one of which may have its name.
    """
    kinds = [kind for kind in DAMAGES if kind != "other" or others]
    return st.builds(damage, st.just(content), st.sampled_from(kinds), st.integers(0, 2**32), st.just(others))


def damage(content: bytes, kind: str, seed: int, others: Sequence[bytes] = ()) -> bytes:
    """A file damaged in one of the ways of `DAMAGES`; the same seed gives the same damage."""
    chance = random.Random(seed)
    if kind == "noise":  # the first bytes, by which a format is known, are sometimes kept
        return content[: chance.choice([0, 8])] + chance.randbytes(chance.randrange(300))
    if kind == "other":
        return chance.choice(others)
    if kind == "cut":
        return content[: chance.randrange(len(content) + 1)]
    if kind == "spliced":
        start, end = sorted(chance.randrange(len(content) + 1) for _ in range(2))
        return content[:start] + content[end:]
    changed = bytearray(content)
    if kind == "huge":  # a count or a size becomes enormous
        start = chance.randrange(len(changed))
        changed[start : start + 8] = bytes([255] * chance.randrange(1, 8))[: len(changed) - start]
        return bytes(changed)
    if kind == "words":  # text of the right form with wrong numbers
        words = content.split(b" ")
        for _ in range(chance.randrange(1, 4)):
            words[chance.randrange(len(words))] = chance.choice(_WORDS)
        return b" ".join(words)
    last = min(HEAD, len(changed)) if kind == "head" else len(changed)
    for _ in range(chance.randrange(1, 9)):
        changed[chance.randrange(last)] = chance.randrange(256)
    return bytes(changed)


def result_or_error(reader: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """What a reader gives, or the one kind of error that it may raise; any other goes through and fails the test.

    The error is checked to be one short line.
    """
    try:
        return reader(*arguments, **options)
    except MvguideError as error:
        assert "\n" not in str(error)
        assert 20 < len(str(error)) < 700
        return error
