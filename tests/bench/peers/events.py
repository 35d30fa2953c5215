# SPDX-License-Identifier: Apache-2.0
"""The events of the peers' benchmark: those of `freshet simulate`, and in the context of each who the user is, so that
everybody can count by gender, age and geo without a table of profiles.

Usage: simulate ... | events.py [--key] [--until MS]    JSONL to JSONL

With --key each line begins with the user id and a tab. --until leaves out events from that time on: the feedback that
the simulator lets trickle in after its last impression.
"""
import argparse
import sys
import zlib

BASE32 = "0123456789bcdefghjkmnpqrstuvwxyz"


def attributes(user):
    """Of a user, by a hash of the id: a gender, an age of 13 to 69, one of 32 geohashes."""
    h = zlib.crc32(user)
    text = f'"gender":"{"fm"[h & 1]}","age":{13 + (h >> 1) % 57},"geo":"wx4{BASE32[(h >> 8) % 32]}"'
    return text.encode()


def time_of(line):
    begin = line.index(b'"timestamp":') + 12
    return int(line[begin:begin + 13])


def add_context(lines, until):
    """(user id, line with the context) of each line."""
    known = {}
    for line in lines:
        line = line.rstrip()
        if until is not None and time_of(line) >= until:
            continue
        begin = line.index(b'"user_id":"') + 11
        user = line[begin:line.index(b'"', begin)]
        more = known.get(user)
        if more is None:
            more = known[user] = attributes(user)
        if line.endswith(b"}}"):
            yield user, line[:-2] + b"," + more + b"}}"
        else:
            yield user, line[:-1] + b',"context":{' + more + b"}}"


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--key", action="store_true")
    p.add_argument("--until", type=int)
    a = p.parse_args()
    out = sys.stdout.buffer
    for user, line in add_context(sys.stdin.buffer, a.until):
        out.write(user + b"\t" + line + b"\n" if a.key else line + b"\n")


if __name__ == "__main__":
    main()
