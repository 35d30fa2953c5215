# SPDX-License-Identifier: Apache-2.0
# Buckets by quantiles: the edges are learned by the first update at whose end there are 100 values a bucket, gathered over
# the updates so far, whatever their size and whatever restarts and kills lie between; they belong to its version and
# stay; `explain` tells them. argv[1]: the freshet binary.
import json
import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from harness import Freshet  # noqa: E402

QUANTILES, EVERY = 6, 300_000
CONFIG = {
    "features": {"item_id": {"id": "item", "table": "items"},
                 "plain": {"count": "impression", "of": "item", "window": "1d", "log1p": False},
                 "cut": {"count": "impression", "of": "item", "window": "1d", "bucketize": {"quantiles": QUANTILES}},
                 "rate": {"rate": "click/impression", "of": "item", "window": "1d", "bucketize": {"quantiles": 4}},
                 "never": {"number": "context.nothing", "bucketize": {"quantiles": 4}}},
    "update": {"every": "5m", "bootstrap": {"samples": 2000}}}


def replay(f, config, state, lines, *more, env=None, code=0):
    r = f.run("replay", "-c", config, "--events", "-", "--state", state, *more, input="\n".join(lines) + "\n", env=env)
    if r.returncode != code:
        raise RuntimeError(r.stderr)
    return json.loads(r.stdout) if code == 0 else None


def samples(f, config, state):
    r = f.run("export", "samples", "-c", config, "--state", state)
    return [json.loads(line) for line in r.stdout.splitlines()]


def explained(f, config, state):
    r = f.run("explain", "u1", "i1", "-c", config, "--state", state, "--json")
    if r.returncode:
        raise RuntimeError(r.stderr)
    return {x["name"]: x for x in json.loads(r.stdout)["features"]}


def edges_of(text):
    return json.loads(text[text.index("["):text.index("]") + 1])


def cut_at(values):
    """The edges that these values teach."""
    values = sorted(values)
    return sorted({values[k * len(values) // QUANTILES] for k in range(1, QUANTILES)})


def learned_at(rows, every):
    """Brute force: the end of the update whose samples bring the values to 100 a bucket, and all of them until then."""
    values, windows = [], sorted({r["emitted_ts"] // every for r in rows})
    for window in windows:
        values += [r["features"]["plain"] for r in rows if r["emitted_ts"] // every == window]
        if len(values) >= 100 * QUANTILES:
            return (window + 1) * every, values


def crash(f, state, step):
    shim = os.path.join(os.path.dirname(f.binary), "libcrash_shim.so")
    return {"LD_PRELOAD": shim, "CRASH_DIR": state, "CRASH_LOG": f.path("crash.log"),
            "CRASH_PLAN": f"on=step,name={step},at=2,do=kill"} if os.path.exists(shim) else None


def small_windows(f, config, lines):
    """A stray event hours before the others, and updates that have too few samples each."""
    every = 20_000
    stray = json.loads(next(line for line in lines if json.loads(line)["type"] == "impression"))
    stray.update(timestamp=stray["timestamp"] - 7_200_000, request_id="stray", event_id="stray")
    log, more = [json.dumps(stray)] + lines[:6000], ("--set", "update.every=20s", "--set", "join.window=1m")
    state = f.path("small")
    replay(f, config, state, log, "--flush", *more)
    rows = samples(f, config, state)
    end, values = learned_at(rows, every)
    first = sum(r["emitted_ts"] // every == rows[0]["emitted_ts"] // every for r in rows)
    sizes = [r["emitted_ts"] // every for r in rows]
    f.check(first < 10 and max(sizes.count(w) for w in set(sizes)) < 100 * QUANTILES,
            f"the first update has {first} samples, and none enough by itself")
    edges = edges_of(explained(f, config, state)["cut"]["by"][0])
    f.equal(edges, cut_at(values), f"the edges are those of {len(values)} values of several updates")
    f.check(len(edges) > 1, "and some")
    f.check(len({r["features"]["cut"] for r in rows if r["emitted_ts"] >= end}) > 2, "samples are in several buckets")

    cut = f.path("small-cut")
    told = []
    for n in range(200, 2000, 200):
        replay(f, config, cut, log[:n], *more)
        told.append(explained(f, config, cut)["cut"]["by"][0])
    counts = [int(re.search(r"\((\d+) of 600 values\)", t)[1]) for t in told if "not learned" in t]
    f.check(counts == sorted(counts) and len({n for n in counts if n > 0}) > 1 and len(counts) < len(told),
            f"gathered over restarts: {counts}, then learned")
    replay(f, config, cut, log, "--flush", *more)
    f.equal(edges_of(explained(f, config, cut)["cut"]["by"][0]), edges, "restarts while they are gathered change nothing")
    if crash(f, cut, "") is None:
        print("no kills: the shim is not there", flush=True)
        return
    killed = f.path("small-killed")
    for step in ("update.recorded", "commit.durable", "update.apply", "update.record", "commit.write"):
        replay(f, config, killed, log, "--flush", *more, "--set", "state.commit_events=200", env=crash(f, killed, step), code=-9)
    replay(f, config, killed, log, "--flush", *more)
    digests = [f.run("digest", "-c", config, *more, "--state", s).stdout for s in (state, cut, killed)]
    f.equal(edges_of(explained(f, config, killed)["cut"]["by"][0]), edges, "nor do kills")
    f.check(digests[0] == digests[1] == digests[2] != "", "digests are the same")


def main():
    f = Freshet()
    config, state = f.path("config.json"), f.path("whole")
    with open(config, "w") as to:
        json.dump(CONFIG, to)
    lines = f.run("simulate", "--events", "20000", "--rate", "10", "--seed", "4").stdout.splitlines()
    before = replay(f, config, f.path("before"), lines[:100])
    f.equal(before["version"], 0, "no update yet")
    told = explained(f, config, f.path("before"))["cut"]
    f.check("not learned" in " ".join(told["by"]), f"explain says so: {told['by']}")
    f.equal({s["features"]["cut"] for s in samples(f, config, f.path("before"))} - {0}, set(), "all are in bucket 0")

    small_windows(f, config, lines)
    whole = replay(f, config, state, lines, "--flush")
    f.check(whole["version"] > 3, f"{whole['version']} versions")
    rows = samples(f, config, state)
    first = rows[0]["emitted_ts"] // EVERY
    values = [r["features"]["plain"] for r in rows if r["emitted_ts"] // EVERY == first]
    wanted = cut_at(values)
    edges = edges_of(explained(f, config, state)["cut"]["by"][0])
    f.check(len(values) >= 100 * QUANTILES, "the first update has enough")
    f.equal(edges, wanted, f"the edges are those of the {len(values)} samples of the first update")
    f.check(len(edges) > 2, "and some")
    wrong = [r["features"] for r in rows if r["features"]["cut"] != sum(e <= r["features"]["plain"] for e in edges)]
    f.equal(wrong[:2], [], "a sample is in the bucket of its value")
    f.equal({r["features"]["never"] for r in rows}, {None}, "what is missing is in none")

    parts = f.path("parts")
    half = len(lines) // 2
    replay(f, config, parts, lines[:half])
    replay(f, config, parts, lines, "--flush", "--set", "state.commit_events=1000")
    again = edges_of(explained(f, config, parts)["cut"]["by"][0])
    f.equal(again, edges, "a restart in the middle changes nothing of them")
    r = f.run("export", "table", "cut", "-c", config, "--state", state, "--out", f.path("cut"))
    with open(f.path("cut.ids.jsonl")) as ids:
        texts = {json.loads(line)["count"] for line in ids}
    f.check(r.returncode == 0 and 2 <= len(texts) <= QUANTILES, f"the table has rows of buckets: {texts}")
    return f.summary()


if __name__ == "__main__":
    sys.exit(main())
