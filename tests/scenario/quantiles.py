# SPDX-License-Identifier: Apache-2.0
# Buckets by quantiles: the edges are those of the first update's samples, belong to its version, and are the same after a
# restart; `explain` tells them. argv[1]: the freshet binary.
import json
import os
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


def replay(f, config, state, lines, *more):
    r = f.run("replay", "-c", config, "--events", "-", "--state", state, *more, input="\n".join(lines) + "\n")
    if r.returncode:
        raise RuntimeError(r.stderr)
    return json.loads(r.stdout)


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

    whole = replay(f, config, state, lines, "--flush")
    f.check(whole["version"] > 3, f"{whole['version']} versions")
    rows = samples(f, config, state)
    first = rows[0]["emitted_ts"] // EVERY
    values = sorted(r["features"]["plain"] for r in rows if r["emitted_ts"] // EVERY == first)
    wanted = sorted({values[k * len(values) // QUANTILES] for k in range(1, QUANTILES)})
    edges = edges_of(explained(f, config, state)["cut"]["by"][0])
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
