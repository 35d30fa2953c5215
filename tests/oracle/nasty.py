#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A log that keeps to the contract and to nothing else: nasty.py SEED MESSAGES [features to leave out...]

Out of order by up to 5 s and later than that, the same event_id again, impressions of many items and of the same
item twice, feedback before its impression, the same (request, item) shown twice, requests without an id, integer
ids, timestamps in ms, in seconds and as RFC 3339, and few users and items so that all of it meets.
"""
import datetime
import json
import random
import sys

START = 1_767_225_600_000  # 2026-01-01T00:00:00Z
FEEDBACK = ["click", "like", "collect", "share", "comment", "follow", "dislike", "watch"]
KINDS = ("order", "late", "duplicate", "items", "early", "again", "norequest", "integer", "stamp")


def stamp(rng, ms, plain):
    kind = 0 if plain else rng.randrange(6)
    if kind == 1 and ms % 1000 == 0:
        return ms // 1000
    if kind == 2:
        return ms / 1000
    if kind in (3, 4):
        hours = rng.choice((0, 2, -7, 5.5)) if kind == 4 else 0
        zone = datetime.timezone(datetime.timedelta(hours=hours))
        text = datetime.datetime.fromtimestamp(ms // 1000, zone).strftime("%Y-%m-%dT%H:%M:%S")
        offset = "Z" if hours == 0 else "%s%02d:%02d" % ("-" if hours < 0 else "+", abs(int(hours)),
                                                         int(abs(hours) % 1 * 60))
        return f"{text}.{ms % 1000:03d}{offset}"
    return ms


def generate(seed, messages, without=(), step=400):
    rng = random.Random(seed)
    on = {k: k not in without for k in KINDS}
    now, rows, shown = START, [], []  # rows: (arrival time, event); shown: (user, item, request, ts)

    def ident(prefix, n):
        if on["integer"] and n % 3 == 0:
            return rng.choice((n, str(n)))
        return f"{prefix}{n}"

    def put(ts, event):
        delay = 0
        if on["order"] and rng.random() < 0.4:
            delay = rng.randrange(5_000)
        if on["late"] and rng.random() < 0.01:
            delay = rng.choice((6_000, 30_000, 400_000, 700_000, 4_000_000))
        event["timestamp"] = stamp(rng, ts, not on["stamp"])
        event["event_id"] = f"e{len(rows)}"
        rows.append((ts + delay, len(rows), event))
        if on["duplicate"] and delay < 600_000 and rng.random() < 0.02:
            rows.append((ts + delay + rng.choice((0, 1, 300, 20_000)), len(rows), dict(event)))

    for n in range(messages):
        now += rng.choice((0, 1, step // 2, step, 2 * step, step if rng.random() < 0.995 else 3_000_000))
        if rng.random() < 0.45 or not shown:
            user = ident("u", rng.randrange(30))
            request = None if on["norequest"] and rng.random() < 0.3 else f"r{n}"
            items = [ident("i", rng.randrange(40)) for _ in range(rng.choice((1, 1, 3, 8)) if on["items"] else 1)]
            if on["again"] and shown and rng.random() < 0.1:
                _, item, request, _ = shown[-1]
                user, items = shown[-1][0], [item]
            elif not on["again"]:
                items = list({str(i): i for i in items}.values())
            event = {"type": "impression", "user_id": user}
            if request is not None:
                event["request_id"] = request
            if len(items) > 1 or (on["items"] and rng.random() < 0.3):
                event["items"] = [{"item_id": i, "position": k} if rng.random() < 0.8 else {"item_id": i}
                                  for k, i in enumerate(items)]
            else:
                event["item_id"] = items[0]
                if rng.random() < 0.5:
                    event["position"] = rng.randrange(9)
            put(now, event)
            shown += [(user, i, request, now) for i in items]
        else:
            user, item, request, ts = rng.choice(shown[-40:])
            at = ts + rng.choice((0, 1, 200, 3_000, 60_000, 599_999, 600_000))
            if at > now + 2_000:
                at = now
            action = rng.choice(FEEDBACK)
            event = {"type": action, "user_id": user, "item_id": item}
            if action == "watch":
                event["watch_ms"] = rng.randrange(60_000)
            if request is not None and rng.random() < 0.7:
                event["request_id"] = request
            elif rng.random() < 0.1:
                event["request_id"] = "unknown"
            if rng.random() < 0.05:
                event["item_id"] = ident("i", rng.randrange(40))
            put(at, event)
            if on["early"] and rng.random() < 0.1:  # the feedback comes before its impression
                rows[-1] = (ts - 1, rows[-1][1], rows[-1][2])
    rows.sort(key=lambda r: r[:2])
    return [json.dumps(e, separators=(",", ":")) for _, _, e in rows]


# ---- contexts and profiles

def number(rng):
    return rng.choice((0, -0.0, -3, 18, 25, 31.5, 1e14, -1e300, 0.1, 2**53 + 2, rng.randrange(90)))


def context(rng):
    ret = {"device": rng.choice(("tv", "phone", "tablet", "", "\u00e9t\u00e9 \U0001f31e", 7, True)),
           "geo": rng.choice(("u4pruydq", "u4pruyzz", "ezs42", "\u00fc\u00fc\u00fc\u00fc\u00fc", 5)),
           "lat": rng.choice((57.64911, -25.382708, 0, 90, 91, -90, "57")), "lon": rng.choice((10.40744, -49.265506, -180, 180, 1e9)),
           "depth": number(rng)}
    return {k: v for k, v in ret.items() if rng.random() < 0.8}


def attributes(rng, side, n):
    """Mostly what an attribute should be, at times of another type, at times not there, and changing over time."""
    tags = [rng.choice(("new", "sale", "", "x" * 200, "t\u00e4g")) for _ in range(rng.choice((0, 1, 3, 70)))]
    if side == "user":
        ret = {"gender": rng.choice(("f", "m", "", "d")), "age": number(rng), "vip": rng.random() < 0.5, "tags": tags,
               "city": rng.choice(("Oslo", "Bergen", "y" * 256))}
    else:
        ret = {"category": rng.choice(("shoes", "hats", "bags")) if rng.random() < 0.2 else f"c{n % 4}",
               "author": f"a{n % 7}", "tags": tags, "price": number(rng),
               "created_at": rng.choice((START - 90_000_000, START / 1000, START + 50_000, "x", "2025-12-31T10:00:00+02:00",
                                         -5, 1e20))}
    wrong = rng.choice(list(ret))
    if rng.random() < 0.1:
        ret[wrong] = rng.choice(("text", 5, True, ["a"]))
    return {k: v for k, v in ret.items() if rng.random() < 0.9}


def profiles(seed, side, prefix, ids, messages, span):
    """Lines of upserts within the first `span` ms, out of order, again and older than what is known."""
    rng = random.Random(f"{seed} {side}")
    rows = []
    for _ in range(messages):
        n = rng.randrange(ids)
        id = rng.choice((n, str(n))) if n % 3 == 0 else f"{prefix}{n}"
        ts = START - 1000 + rng.randrange(span)
        rows.append({side + "_id": id, "timestamp": ts, "attributes": attributes(rng, side, n)})
    rows.sort(key=lambda r: r["timestamp"] + rng.randrange(3_000))
    return [json.dumps(r, separators=(",", ":")) for r in rows]


def dress(seed, lines, span=1_500_000):
    """(the events with contexts, lines of user profiles, lines of item profiles)"""
    rng = random.Random(f"{seed} context")
    events = [json.loads(line) for line in lines]
    for e in events:
        if rng.random() < 0.9:
            e["context"] = context(rng)
    return ([json.dumps(e, separators=(",", ":")) for e in events], profiles(seed, "user", "u", 30, 300, span),
            profiles(seed, "item", "i", 40, 400, span))


if __name__ == "__main__":
    for line in generate(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]):
        print(line)
