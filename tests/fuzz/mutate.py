"""Seeded mutation of a corpus: one seed is one row of inputs, on every machine."""

from collections.abc import Iterator, Sequence
from random import Random

_ODD = (b"\x00", b"\xff", b"\xed\xa0\x80", b"\xe2\x80\xae", b"\r\n", b"\n", b'"', b"\\", b"'", b"<", b"&", b"{", b"}")
_ODD_WORDS = (b"NaN", b"Infinity", b"-1e999", b"1" * 400, b"[" * 2000, b"null", b"true", b"{}", b"-0", b"\\ud800")
MOST_BYTES = 8000


def mutations(seed: int, corpus: Sequence[bytes], words: Sequence[bytes] = ()) -> Iterator[bytes]:
    """The corpus itself, and then without end what comes of it."""
    yield from corpus
    random = Random(seed)
    dictionary = (*_ODD, *_ODD_WORDS, *words)
    while True:
        found = bytearray(random.choice(corpus))
        for _ in range(random.choice((1, 1, 1, 2, 4, 9))):
            _mutate(found, random, corpus, dictionary)
        yield bytes(found[:MOST_BYTES])


def _mutate(found: bytearray, random: Random, corpus: Sequence[bytes], dictionary: Sequence[bytes]) -> None:
    at = random.randrange(len(found) + 1)
    length = random.choice((1, 1, 2, 4, 16, 64))
    match random.randrange(8):
        case 0 if found:
            found[at - 1] ^= 1 << random.randrange(8)
        case 1:
            del found[at : at + length]
        case 2:
            found[at:at] = random.choice(dictionary)
        case 3:
            found[at : at + length] = random.choice(dictionary)
        case 4:
            found[at:at] = found[at : at + length] * random.choice((1, 2, 40))
        case 5:
            other = random.choice(corpus)
            cut = random.randrange(len(other) + 1)
            found[at:] = other[cut:]
        case 6:
            found[at:at] = random.randbytes(length)
        case _:
            del found[at:]
