# SPDX-License-Identifier: Apache-2.0
# Ranking in two stages, three towers first: which stage ranked whom, in what order, and that every score is the one of
# an evaluation without stages, without a cache and in another process, version after version; freshet rank; mistakes.
# argv[1]: the freshet binary.
import json
import math
import sys

from harness import Freshet, wait_until

N, KEEP = 150, 20
ITEMS = [f"i{i}" for i in range(1, N + 1)]


def config_of(**model):
    return {"tables": {"users": {}, "items": {}},
            "features": {"user_id": {"id": "user", "table": "users"},
                         "item_id": {"id": "item", "table": "items"},
                         "hour": {"hour": "timestamp"},
                         "user_ctr_7d": {"rate": "click/impression", "of": "user", "window": "7d"},
                         "item_ctr_1d": {"rate": "click/impression", "of": "item", "window": "1d"},
                         "clicks": {"sequence": "click", "last": 20, "table": "items"}},
            "stream": {"time": {"idle_after": "1s"}},
            "models": {"ctr": {"preset": "two_stage", "with": {"widths": [32], "gate": [8]},
                               "heads": {"click": {}, "like": {}}, "score": "click + 0.1 * like",
                               "rank": {"keep": KEEP, "by": "first_click + 0.1 * first_like"}} | model},
            "update": {"every": "5m", "bootstrap": {"samples": 4000}}}


def put(f, name, config):
    with open(f.path(name), "w") as to:
        json.dump(config, to)
    return f.path(name)


def near(a, b):
    return math.isclose(a, b, rel_tol=2e-5, abs_tol=1e-6)


def fill(f, start, events=16000):
    done = f.simulate("--events", str(events), "--users", "200", "--items", "300", "--rate", "8", "--start", start)
    f.equal(done.returncode, 0, "simulate")
    f.wait_ready()
    f.wait_settled()


def score(f, items=ITEMS, **more):
    answer = f.post("/v1/score", {"user_id": "u7", "items": items} | more)
    if answer.status != 200:
        raise RuntimeError(answer.text)
    return answer.json


def order(f, answer, what):
    rows = answer["scores"]
    f.equal(sorted(r["item_id"] for r in rows), sorted(ITEMS), f"{what}: every candidate, once")
    f.equal([r["rank"] for r in rows], list(range(1, N + 1)), f"{what}: in order of rank")
    f.equal([r["stage"] for r in rows], [2] * KEEP + [1] * (N - KEEP), f"{what}: {KEEP} went on to stage 2")
    first = [r["first_click"] + 0.1 * r["first_like"] for r in rows]
    f.check(min(first[:KEEP]) >= max(first[KEEP:]) - 1e-6, f"{what}: the best of stage 1 went on")
    f.equal(first[KEEP:], sorted(first[KEEP:], reverse=True), f"{what}: the others in the order of stage 1")
    scores = [r["score"] for r in rows[:KEEP]]
    f.equal(scores, sorted(scores, reverse=True), f"{what}: stage 2 by score")
    f.check(all(near(r["score"], r["click"] + 0.1 * r["like"]) for r in rows[:KEEP]), f"{what}: score is the expression")
    f.check(all(not {"score", "click", "like"} & set(r) for r in rows[KEEP:]), f"{what}: no heads of stage 2 behind them")


def items_metric(f, name, label):
    line = next(x for x in f.get("/metrics").text.splitlines() if x.startswith(f"freshet_item_cache_{name}{{{label}}}"))
    return float(line.split()[-1])


def same(f, answer, other, what):
    """Every head that the answer has, as in `other`, where each candidate has them all."""
    by = {r["item_id"]: r for r in other["scores"]}
    wrong = [(r["item_id"], k, v, by[r["item_id"]][k]) for r in answer["scores"] for k, v in r.items()
             if k not in ("item_id", "rank", "stage") and not near(v, by[r["item_id"]][k])]
    f.equal(wrong, [], what)
    f.equal(answer["version"], other["version"], f"{what}: of one version")


def kept(f):
    hits, misses = items_metric(f, "candidates_total", 'found="yes"'), items_metric(f, "candidates_total", 'found="no"')
    return hits, misses


def caches(f):
    first = score(f)
    order(f, first, "first")
    hits, misses = kept(f)
    again = score(f, timestamp=first["at"])
    f.equal(again["scores"], first["scores"], "twice the same")
    f.equal(kept(f), (hits + N, misses), "the second time every output of an item is there")
    return first


def new_version(f, before):
    fill(f, "2026-01-01T02:00:00Z", 4000)
    f.check(f.status()["version"] > before["version"], f"version {f.status()['version']} after {before['version']}")
    at = f.status()["at"]
    wait_until(lambda: items_metric(f, "changes_total", 'by="fill"') > 0, 20, "the cache to be filled in the background")
    after = score(f, timestamp=at)
    order(f, after, "of the new version")
    f.check(any(not near(a["first_click"], b["first_click"]) for a in before["scores"] for b in after["scores"]
                if a["item_id"] == b["item_id"]), "the new version says something else")
    return after


def cli(f, answer, config):
    args = ["rank", "u7", "-c", config, "--url", f"http://127.0.0.1:{f.port}", "--at", str(answer["at"])]
    r = f.run(*args, "--items", ",".join(ITEMS), "--json")
    f.equal(json.loads(r.stdout), answer, "freshet rank --json is the answer of POST /v1/score")
    with open(f.path("candidates"), "w") as to:
        to.write("\n".join(ITEMS) + "\n")
    lines = f.run(*args, "--items-file", f.path("candidates")).stdout.splitlines()
    f.equal(lines[0].split(), ["rank", "item", "stage", "score", "first_click", "first_like", "click", "like"], "a table")
    f.equal([x.split()[:3] for x in lines[1:]], [[str(r["rank"]), r["item_id"], str(r["stage"])] for r in answer["scores"]],
            "in order of rank")
    for more, words in ((["--items", ","], "no candidate"), ([], "--items-file"),
                        (["--items", "a", "--items-file", "b"], "one of them"),
                        (["--items-file", f.path("nothing")], "No such file")):
        r = f.run(*args, *more)
        f.check(r.returncode == 2 and words in r.stderr, f"{more[:1]}: {r.stderr.strip().splitlines()[0]}")


def without(f, answer):
    """From the state alone, where all candidates go on to stage 2 and nothing is kept; and one by one."""
    every = put(f, "every.json", config_of(rank={"keep": 1000}, item_cache="0B"))
    args = ["-c", every, "--state", f.path("state"), "--at", str(answer["at"]), "--json"]
    naive = json.loads(f.run("rank", "u7", *args, "--items", ",".join(ITEMS)).stdout)
    same(f, answer, naive, "with stages and a cache as without")
    one = [json.loads(f.run("score", "u7", i, *args).stdout)["scores"][0] for i in ITEMS[:5]]
    same(f, {"version": answer["version"], "scores": one}, naive, "one by one as together")


def plain(f):
    """A model without stages: the order of the request, or sorted."""
    config = put(f, "plain.json", config_of(preset="three_tower", **{"with": {}}, score=None, rank=None))
    f.start_daemon("-c", config, state="plain")
    f.wait_ready()
    f.wait_settled()
    unsorted, ranked = score(f), score(f, sort=True)
    f.equal([r["item_id"] for r in unsorted["scores"]], ITEMS, "without stages in the order of the request")
    f.check("rank" not in unsorted["scores"][0], "and without ranks")
    clicks = [r["click"] for r in ranked["scores"]]
    f.equal(clicks, sorted(clicks, reverse=True), "sorted: by the first head")
    same(f, ranked, unsorted, "sorted, the same scores")
    bad = f.post("/v1/score", {"user_id": "u7", "items": ["a"], "sort": 1})
    f.check(bad.status == 400 and "sort" in bad.json["detail"], f"sort: 1: {bad.json['detail']}")


def bucket(length_ms):
    """Half octaves of seconds, as docs/LABELS.md has them."""
    if not length_ms > 0:
        return 0
    return min(max(math.floor(2 * math.log2(length_ms / 1000) + 1e-9) + 8, 1), 33)


def means(f, config, state):
    """The mean share by length, from the exported samples."""
    sums, counts = [0.0] * 34, [0] * 34
    for line in f.run("export", "samples", "-c", config, "--state", state).stdout.splitlines():
        row = json.loads(line)
        length = row["features"]["duration"]
        if length and length > 0:
            sums[bucket(length)] += min((row["labels"].get("watch_ms") or 0) / length, 1)
            counts[bucket(length)] += 1
    mean = sum(sums) / sum(counts)
    f.check(sum(c > 0 for c in counts) > 5, f"{sum(c > 0 for c in counts)} lengths")
    return [(s + 20 * mean) / (n + 20) for s, n in zip(sums, counts)]


def lengths(f):
    """A share divided by what videos of this length are watched."""
    config = config_of(preset="mlp", **{"with": {"widths": [16]}}, rank=None,
                       heads={"share": {"label": "watch", "loss": "fraction", "length": "duration"}},
                       score="share / norm_share")
    config["features"]["duration"] = {"number": "item.duration"}
    path, items = put(f, "lengths.json", config), f.path("items.jsonl")
    durations = {f"i{i}": 200 * 2 ** (i % 12) + 7 * i for i in range(1, 2000) if i % 13}
    with open(items, "w") as to:
        for i, d in durations.items():
            to.write(json.dumps({"item_id": i, "timestamp": 1767225500000, "attributes": {"duration": d}}) + "\n")
    events = f.run("simulate", "--events", "12000", "--rate", "8", "--users", "100").stdout
    answers = []
    for state in ("lengths", "lengths-again"):
        args = ["-c", path, "--state", f.path(state)]
        done = f.run("replay", *args, "--events", "-", "--items", items, "--flush", input=events)
        f.check(json.loads(done.stdout)["version"] > 2, f"versions: {done.stderr.strip()}")
        answers.append(json.loads(f.run("rank", "u7", *args, "--items", ",".join(ITEMS), "--json").stdout))
    f.equal(answers[0], answers[1], "the same log, the same means by length")
    right = means(f, path, f.path("lengths"))
    rows = answers[0]["scores"]
    wrong = [(r, right[bucket(durations.get(r["item_id"], 0))]) for r in rows
             if not near(r["norm_share"], right[bucket(durations.get(r["item_id"], 0))])]
    f.equal(wrong, [], "norm_share is the mean of the samples' shares at this length")
    f.check(all(near(r["score"], r["share"] / r["norm_share"]) for r in rows), "the score is the quotient")
    r = f.run("check", "-c", put(f, "wrong.json", config_of(score="click / norm_click")))
    f.check(r.returncode == 78 and 'no head or function "norm_click"' in r.stderr, f"no length: {r.stderr.strip()}")


def mistakes(f):
    for model, words in (({"rank": {"by": "first_clik"}}, 'did you mean "first_click"'),
                         ({"rank": {"by": "click"}}, "head click is of stage 2"),
                         ({"rank": {"keep": 0}}, "keep"),
                         ({"rank": {"kep": 3}}, 'did you mean "keep"'),
                         ({"heads": {"click": {"stage": 3}}}, "stage"),
                         ({"preset": "mlp", "with": {}, "score": None}, "no head is of stage: 2"),
                         ({"preset": "mlp", "with": {}, "score": None, "rank": None, "heads": {"click": {"stage": 2}}},
                          "all heads are of stage 2"),
                         ({"preset": "mlp", "with": {}, "score": None, "rank": None,
                           "heads": {"click": {"stage": 2}, "like": {"through": "click"}}}, "goes through click")):
        r = f.run("check", "-c", put(f, "wrong.json", config_of(**model)))
        f.check(r.returncode == 78 and words in r.stderr, f"{model}: {r.stderr.strip()}")


def main():
    f = Freshet()
    f.start_broker()
    mistakes(f)
    config = put(f, "config.json", config_of())
    daemon = f.start_daemon("-c", config)
    fill(f, "2026-01-01T00:00:00Z")
    memory = f.status()["memory"]["families"]["model"]
    f.check(0 < memory["used"] <= memory["budget"], f"the model takes {memory['used']} of {memory['budget']} bytes")
    after = new_version(f, caches(f))
    cli(f, after, config)
    f.equal(daemon.stop(), 0, "the daemon ends")
    without(f, after)
    plain(f)
    f.broker = None
    lengths(f)
    return f.summary()


if __name__ == "__main__":
    sys.exit(main())
