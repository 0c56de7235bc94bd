"""Mutants: one seed, one series. Every change is one that networks, broken phones or enemies make."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

EDGES = [
    b"0", b"-1", b"1", b"127", b"128", b"255", b"256", b"32767", b"32768", b"65535", b"65536", b"2147483647", b"2147483648",
    b"4294967295", b"4294967296", b"9223372036854775807", b"9223372036854775808", b"18446744073709551616", b"1" * 40, b"00000",
    b"0x10", b"1e9", b"+5", b" 7", b"3.14", "٣".encode(), b"NaN",
]  # fmt: skip
TOKENS = [
    b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"\r\n ", b"\t", b" ", b"\x00", b"\xff", b"\xc3\x28", b"\xed\xa0\x80", "é".encode(), b"\xef\xbb\xbf",
    b":", b";", b",", b"=", b"@", b"<", b">", b'"', b"\\", b"%", b"%00", b"%0d%0a", b"%s%n%x", b"?", b"&", b"/", b"[", b"]", b"[::1]", b"*",
    b";;", b",,", b";tag=", b";lr", b";maddr=255.255.255.255", b";transport=tcp", b";received=", b";rport", b";branch=z9hG4bK",
    b"SIP/2.0", b"SIP/3.0", b"sip:", b"sips:", b"tel:+1", b"INVITE", b"ACK", b"CANCEL", b"Via: ", b"\r\nContent-Length: ",
    b"\r\nl: 0", b"\r\nRoute: <sip:a>", b"\r\nRequire: x", b"\r\nContact: *", b"m=audio", b"c=IN IP4 ", b"a=",
]  # fmt: skip

Mutation = Callable[[bytearray, Random], None]


class Mutator:
    """Mutants of a corpus, which may grow."""

    def __init__(self, corpus: Sequence[bytes], seed: int) -> None:
        self.corpus = list(corpus)
        self._random = Random(seed)

    def next(self) -> bytes:
        """The next mutant: one to six changes of one message."""
        random = self._random
        data = bytearray(random.choice(self.corpus))
        for _ in range(random.choice((1, 1, 1, 2, 2, 3, 6))):
            if random.random() < 0.08:
                self._splice(data)
            else:
                random.choice(MUTATIONS)(data, random)
        return bytes(data[:70_000])

    def change(self, data: bytes) -> bytes:
        """A mutant of this very message."""
        changed = bytearray(data)
        for _ in range(self._random.choice((1, 1, 2, 3))):
            self._random.choice(MUTATIONS)(changed, self._random)
        return bytes(changed[:60_000])

    def _splice(self, data: bytearray) -> None:
        """The end of another message, from the same line or anywhere."""
        other = self._random.choice(self.corpus)
        at = self._random.randrange(len(data) + 1)
        data[at:] = other[self._random.randrange(len(other) + 1) :]


def _spot(data: bytearray, random: Random) -> int:
    return random.randrange(len(data) + 1)


def _range(data: bytearray, random: Random, most: int = 64) -> tuple[int, int]:
    start = _spot(data, random)
    return start, min(len(data), start + random.randint(1, most))


def flip_bit(data: bytearray, random: Random) -> None:
    if data:
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def set_byte(data: bytearray, random: Random) -> None:
    if data:
        data[random.randrange(len(data))] = random.randrange(256)


def cut_out(data: bytearray, random: Random) -> None:
    start, end = _range(data, random)
    del data[start:end]


def say_twice(data: bytearray, random: Random) -> None:
    start, end = _range(data, random)
    data[start:start] = data[start:end] * random.choice((1, 1, 2, 30))


def truncate(data: bytearray, random: Random) -> None:
    del data[_spot(data, random) :]


def put_token(data: bytearray, random: Random) -> None:
    at = _spot(data, random)
    data[at:at] = random.choice(TOKENS)


def repeat_token(data: bytearray, random: Random) -> None:
    at = _spot(data, random)
    data[at:at] = random.choice(TOKENS) * 2 ** random.randint(1, 10)


def long_run(data: bytearray, random: Random) -> None:
    at = _spot(data, random)
    data[at:at] = bytes((random.choice(b"Aa0. \x00\xff"),)) * 2 ** random.randint(4, 14)


def edge_number(data: bytearray, random: Random) -> None:
    """A number becomes another one."""
    at = _spot(data, random)
    while at < len(data) and not 48 <= data[at] <= 57:
        at += 1
    end = at
    while end < len(data) and 48 <= data[end] <= 57:
        end += 1
    data[at:end] = random.choice(EDGES)


def _lines(data: bytearray) -> list[bytes]:
    return bytes(data).split(b"\r\n")


def double_line(data: bytearray, random: Random) -> None:
    lines = _lines(data)
    at = random.randrange(len(lines))
    lines[at:at] = [lines[at]] * random.choice((1, 1, 2, 300))
    data[:] = b"\r\n".join(lines)


def drop_line(data: bytearray, random: Random) -> None:
    lines = _lines(data)
    del lines[random.randrange(len(lines))]
    data[:] = b"\r\n".join(lines)


def swap_lines(data: bytearray, random: Random) -> None:
    lines = _lines(data)
    a, b = random.randrange(len(lines)), random.randrange(len(lines))
    lines[a], lines[b] = lines[b], lines[a]
    data[:] = b"\r\n".join(lines)


def swap_values(data: bytearray, random: Random) -> None:
    """A field gets the value of another one."""
    lines = _lines(data)
    a, b = random.randrange(len(lines)), random.randrange(len(lines))
    lines[a] = lines[a].partition(b":")[0] + b":" + lines[b].partition(b":")[2]
    data[:] = b"\r\n".join(lines)


def odd_value(data: bytearray, random: Random) -> None:
    """A field, or what stands behind a delimiter within it, gets a value that it cannot have."""
    lines = _lines(data)
    at = random.randrange(len(lines))
    name, colon, value = lines[at].partition(b":")
    cuts = [spot for spot, byte in enumerate(value) if byte in b";=<>@,: "]
    start = random.choice([0, *cuts]) + 1
    ends = [spot for spot in cuts if spot >= start]
    end = random.choice([len(value), *ends[:1]])
    odd = random.choice((b"", random.choice(EDGES), random.choice(TOKENS), random.choice(TOKENS) * 300, b"A" * 3000))
    lines[at] = name + colon + value[:start] + odd + value[end:]
    data[:] = b"\r\n".join(lines)


def other_length(data: bytearray, random: Random) -> None:
    at = bytes(data).lower().find(b"content-length:")
    if at >= 0:
        end = data.find(b"\r\n", at)
        data[at : end if end >= 0 else len(data)] = b"Content-Length: " + random.choice(EDGES)


def fold(data: bytearray, random: Random) -> None:
    at = _spot(data, random)
    data[at:at] = random.choice((b"\r\n ", b"\r\n\t", b"\n ", b"\r "))


def other_ends(data: bytearray, random: Random) -> None:
    data[:] = bytes(data).replace(b"\r\n", random.choice((b"\n", b"\r", b"\n\r", b"\r\r\n")))


def other_case(data: bytearray, random: Random) -> None:
    start, end = _range(data, random)
    data[start:end] = bytes(data[start:end]).swapcase()


MUTATIONS: list[Mutation] = [
    flip_bit, set_byte, cut_out, say_twice, truncate, put_token, put_token, repeat_token, long_run, edge_number, edge_number, double_line, drop_line,
    swap_lines, swap_values, odd_value, odd_value, other_length, fold, other_ends, other_case,
]  # fmt: skip
