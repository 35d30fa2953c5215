# SPDX-License-Identifier: Apache-2.0
"""Reads what R packages keep of their data: a lazy-load database NAME.rdx (where each object lies) and NAME.rdb (the
objects, compressed each), in R's serialization format 2 or 3, XDR. Enough of it for data frames: no environments with
content, no code.

    frame = Database("…/data/Rdata").frame("movielens")        a dict of columns
"""
import bz2
import gzip
import lzma
import struct
import zlib

NIL, GLOBAL, EMPTY, BASE, REFERENCE, ALTREP = 254, 253, 242, 241, 255, 238
SYMBOL, PAIRLIST, CHAR, LOGICAL, INTEGER, REAL, STRINGS, LIST = 1, 2, 9, 10, 13, 14, 16, 19
MISSING = -2 ** 31  # of an integer


class Object:
    def __init__(self, value, attributes):
        self.value, self.attributes = value, attributes


class Reader:
    def __init__(self, data):
        self.data, self.at, self.references = data, 0, []
        if self.take(2) != b"X\n":
            raise ValueError("no XDR serialization of R")
        version, _, _ = self.integers(3)
        if version == 3:
            self.take(self.integers(1)[0])  # the native encoding

    def take(self, n):
        self.at += n
        return self.data[self.at - n:self.at]

    def integers(self, n):
        return struct.unpack(f">{n}i", self.take(4 * n))

    def pairs(self, flags):
        """A pairlist as a dict by tag."""
        result = {}
        while flags & 255 != NIL:
            if flags & 255 != PAIRLIST:
                raise ValueError(f"type {flags & 255} in a pairlist")
            if flags & 512:
                self.item()
            tag = self.item().value if flags & 1024 else None
            result[tag] = self.item()
            flags, = self.integers(1)
        return result

    def vector(self, kind):
        if kind == CHAR:
            n, = self.integers(1)
            return None if n == -1 else self.take(n).decode("utf-8", "replace")
        n, = self.integers(1)
        if kind in (LOGICAL, INTEGER):
            return list(self.integers(n))
        if kind == REAL:
            return list(struct.unpack(f">{n}d", self.take(8 * n)))
        return [self.item() for _ in range(n)]

    def compact(self):
        """What R keeps as a rule instead of numbers: a sequence, or a vector that was wrapped."""
        about, state, _ = self.item(), self.item(), self.item()
        name = next(iter(about.value.values())).value
        if name == "compact_intseq":
            n, first, by = state.value
            return Object([int(first + by * i) for i in range(int(n))], {})
        if name.startswith("wrap_"):
            return next(iter(state.value.values())) if isinstance(state.value, dict) else state.value[0]
        raise ValueError(f"R's compact form {name}")

    def item(self):
        flags, = self.integers(1)
        kind = flags & 255
        if kind in (NIL, GLOBAL, EMPTY, BASE):
            return Object(None, {})
        if kind == ALTREP:
            return self.compact()
        if kind == REFERENCE:
            return self.references[(flags >> 8 or self.integers(1)[0]) - 1]
        if kind == SYMBOL:
            self.references.append(self.item())
            return self.references[-1]
        if kind == PAIRLIST:
            return Object(self.pairs(flags), {})
        if kind not in (CHAR, LOGICAL, INTEGER, REAL, STRINGS, LIST):
            raise ValueError(f"type {kind} of R is none of a data frame")
        value = self.vector(kind)
        if kind == STRINGS:
            value = [x.value for x in value]
        attributes = self.pairs(self.integers(1)[0]) if flags & 512 and kind != CHAR else {}
        return Object(value, attributes)


def unpacked(data):
    """Length of the object, then what compressed it."""
    kind, body = data[4:5], data[5:]
    if kind == b"2":
        return bz2.decompress(body)
    if kind == b"Z":
        return lzma.decompress(body, format=lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "preset": 6}])
    return body if kind == b"0" else zlib.decompress(data[4:])


def named(o):
    return dict(zip(o.attributes["names"].value, o.value))


def column(o):
    """A factor as its texts."""
    if "levels" in o.attributes:
        levels = o.attributes["levels"].value
        return [None if i == MISSING else levels[i - 1] for i in o.value]
    return o.value


class Database:
    def __init__(self, path):
        with open(path + ".rdb", "rb") as file:
            self.data = file.read()
        with open(path + ".rdx", "rb") as file:
            index = file.read()
        index = gzip.decompress(index) if index[:2] == b"\x1f\x8b" else zlib.decompress(index)
        self.places = {name: o.value for name, o in named(named(Reader(index).item())["variables"]).items()}

    def frame(self, name):
        at, n = self.places[name]
        o = Reader(unpacked(self.data[at:at + n])).item()
        return {name: column(c) for name, c in named(o).items()}
