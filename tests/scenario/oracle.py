#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# The state against an oracle: the same log through `freshet replay` and through tests/oracle/batch.py, then
# every row of every export is compared. argv[1]: the freshet binary.
import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "oracle")]
from batch import Batch, Options  # noqa: E402
from compare import compare  # noqa: E402
from configs import LOOSE, RICH  # noqa: E402
from harness import Freshet  # noqa: E402
from nasty import KINDS, dress, generate  # noqa: E402

DATA = os.path.join(HERE, "..", "..", "..", "shared", "data", "to_events.py")
WHAT = "counters", "sequences", "samples"
MINUTE = 60_000


def kuairand():
    """The events of a real log as lines, or None where the data is absent."""
    if not os.path.exists(DATA):
        return None
    return subprocess.run([sys.executable, DATA, "kuairand"], capture_output=True, text=True, check=True).stdout.splitlines()


def simulated(freshet, impressions, seed=1, rate=50):
    return freshet.run("simulate", "--events", str(impressions), "--seed", str(seed), "--rate", str(rate)).stdout.splitlines()


def exported(freshet, what, state, *more):
    r = freshet.run("export", what, "--state", state, *more)
    if r.returncode != 0:
        raise RuntimeError(f"export {what}: {r.stderr}")
    return [json.loads(line) for line in r.stdout.splitlines()]


def agree(freshet, name, lines, options=None, settings=()):
    options = options or Options()
    state = freshet.path(name.replace(" ", "-"))
    r = freshet.run("replay", "--events", "-", "--flush", "--state", state, "--set", "update.enabled=false",
                    *settings, input="\n".join(lines) + "\n", timeout=300)
    if not freshet.equal(r.returncode, 0, f"{name}: replay"):
        print(r.stderr[-1000:])
        return
    summary = json.loads(r.stdout)
    batch = Batch(options).run([lines])
    for key in ("duplicates", "orphans", "after_window", "late_labels", "negatives_dropped", "positives_thinned",
                "left_early", "forgotten_early"):
        freshet.equal(summary[key], getattr(batch, key), f"{name}: {key}")
    freshet.equal(summary["at"], batch.at, f"{name}: at")
    for what in WHAT:
        got = exported(freshet, what, state)
        equal, texts = compare(what, batch.rows(what), got)
        freshet.check(not texts, f"{name}: {equal} {what} equal, {len(texts)} differ")
        for t in texts[:3]:
            print("        " + t)


def policies(f):
    """What leaves when: windows by label, emission, rates, thinning and bounds, each over a log of its own."""
    windows = ["--set", "join.window=3m", "--set",
               "join.labels={all: {}, click: {window: 90s}, like: {window: 8m}, watch: {window: 20m}}"]
    given = {"join_window": 3 * MINUTE, "label_windows": {"click": MINUTE * 3 // 2, "like": 8 * MINUTE,
                                                          "watch": 20 * MINUTE}}
    agree(f, "windows wait", generate(11, 4_000), Options(**given), windows)
    agree(f, "windows first label", generate(12, 4_000), Options(emit="first_label", corrections=True, **given),
          windows + ["--set", "join.emit=first_label", "--set", "join.corrections=true"])
    agree(f, "first label alone", generate(13, 4_000), Options(emit="first_label", remember=30 * MINUTE),
          ["--set", "join.emit=first_label", "--set", "join.remember=30m"])
    agree(f, "fake negative", generate(14, 4_000), Options(emit="fake_negative"), ["--set", "join.emit=fake_negative"])
    rates = {"click": 0.2, "like": 0.7}
    agree(f, "fake negative corrected", generate(15, 4_000),
          Options(emit="fake_negative", corrections=True, keep_negatives=rates, **given),
          windows + ["--set", "join.emit=fake_negative", "--set", "join.corrections=true", "--set",
                     "join.keep_negatives={click: 0.2, like: 0.7}", "--set", "state.commit_events=97"])
    agree(f, "negatives kept", generate(16, 4_000), Options(keep_negatives=0.3), ["--set", "join.keep_negatives=0.3"])
    agree(f, "positives thinned", generate(17, 4_000),
          Options(thin={"action": "click", "window": "1h", "above": 2, "power": 0.5}, **given),
          windows + ["--set", "join.thin_positives={action: click, window: 1h, above: 2}"])
    agree(f, "bounded", generate(18, 4_000), Options(emit="first_label", corrections=True, max_pending=200, **given),
          windows + ["--set", "join.emit=first_label", "--set", "join.corrections=true", "--set",
                     "join.max_pending=200"])
    agree(f, "bounded fake negative", generate(19, 4_000), Options(emit="fake_negative", max_pending=200),
          ["--set", "join.emit=fake_negative", "--set", "join.max_pending=200"])


def split(lines, partitions):
    """By user, as Kafka's partitions are."""
    parts = [[] for _ in range(partitions)]
    for line in lines:
        parts[sum(str(json.loads(line)["user_id"]).encode()) % partitions].append(line)
    return parts


def agree_rich(freshet, name, config, seed, messages, partitions=1, settings=()):
    """Every row of a config with buckets, named sequences and all kinds of features, with profiles that change."""
    events, users, items = dress(seed, generate(seed, messages))
    parts, dir = split(events, partitions), name.replace(" ", "-")
    os.mkdir(freshet.path(dir))

    def write(file, text):
        with open(freshet.path(dir, file), "w") as to:
            to.write(text)
        return freshet.path(dir, file)

    with_config = ["-c", write("config.json", json.dumps(config))]
    files = [x for n, part in enumerate(parts)
             for x in ("--events", write(f"events-{n}.jsonl", "\n".join(part) + "\n"))]
    state = freshet.path(dir, "state")
    r = freshet.run("replay", *with_config, *files, "--users", write("users.jsonl", "\n".join(users)), "--items",
                    write("items.jsonl", "\n".join(items)), "--flush", "--state", state, "--set",
                    "update.enabled=false", *settings, timeout=300)
    if not freshet.equal(r.returncode, 0, f"{name}: replay"):
        print(r.stderr[-1000:])
        return
    summary = json.loads(r.stdout)
    batch = Batch(Options(config=config)).run(parts, users, items)
    freshet.equal((summary["duplicates"], summary["orphans"], summary["at"]),
                  (batch.duplicates, batch.orphans, batch.at), f"{name}: duplicates, orphans, at")
    freshet.equal(summary["profile_conflicts"], batch.past.conflicts, f"{name}: values of another type")
    freshet.equal(summary["lengths_missing"], batch.lengths_missing, f"{name}: impressions without a length")
    freshet.equal(summary["sequences_skipped"], batch.past.skipped, f"{name}: entries without their attribute")
    for what in WHAT:
        got = exported(freshet, what, state, *with_config)
        equal, texts = compare(what, batch.rows(what), got)
        freshet.check(not texts, f"{name}: {equal} {what} equal, {len(texts)} differ")
        for t in texts[:3]:
            print("        " + t)


def calibrated(f, name, state, rates, settings):
    """A score is the probability that the prediction means, given the share of the negatives that is kept."""
    r = f.run("score", "u1", "i1", "i2", "--state", state, "--json", *settings)
    for row in json.loads(r.stdout)["scores"]:
        for head, a in rates.items():
            q = row["raw"][head]
            f.check(0 < q < 1 and abs(row[head] - a * q / ((1 - q) + a * q)) < 1e-6, f"{name}: {head} is calibrated")


def cuts(f):
    """One log under every policy at once that can be, whole, in small commits, and in pieces with restarts between:
    the same digests, of what was trained on it, too."""
    lines = generate(20, 6_000)
    more = ["--set", "join.window=3m", "--set", "join.labels={all: {}, click: {window: 90s}, like: {window: 20m}}",
            "--set", "join.corrections=true", "--set", "join.keep_negatives={click: 0.3, like: 0.6}",
            "--set", "update.every=2m", "--set", "update.batch=64",
            "--set", "models={m: {net: [{name: b, mlp: [8], of: all}], heads: {click: {of: b}, like: {of: b}}}}"]
    emits = {"first label": ["--set", "join.emit=first_label", "--set",
                             "join.thin_positives={action: click, window: 1h, above: 1}"],
             "fake negative": ["--set", "join.emit=fake_negative", "--set", "join.max_pending=300"]}
    for name, emit in emits.items():
        digests = []
        for cut, commits in ((len(lines), 100_000), (len(lines), 53), (700, 211)):
            state = f.path(f"cuts-{name.replace(' ', '-')}-{cut}-{commits}")
            events = state + ".jsonl"
            for at in range(0, len(lines), cut):
                with open(events, "a") as out:
                    out.writelines(line + "\n" for line in lines[at:at + cut])
                last = at + cut >= len(lines)
                r = f.run("replay", "--events", events, "--state", state, *more, *emit, "--set",
                          f"state.commit_events={commits}", *(["--flush"] if last else []), timeout=300)
                if r.returncode != 0:
                    print(r.stderr[-1000:])
            summary = json.loads(r.stdout)
            f.check(summary["version"] > 20 and summary["corrected"] > 100, f"cuts {name}: something was trained")
            digests.append(summary["digest"])
        calibrated(f, name, state, {"click": 0.3, "like": 0.6}, [*more, *emit])
        f.equal(digests[1], digests[0], f"cuts {name}: small commits, the same digests")
        f.equal({k: v for k, v in digests[2].items() if k != "offsets"},
                {k: v for k, v in digests[0].items() if k != "offsets"}, f"cuts {name}: restarts, the same digests")


def main():
    f = Freshet()
    lines = kuairand()
    if lines is None:
        print("skip  kuairand: ../shared/data is not there")
    else:
        agree(f, "kuairand", lines)
    agree(f, "simulated", simulated(f, 20_000))
    for kind in KINDS:
        agree(f, f"nasty {kind}", generate(5, 1_200, [k for k in KINDS if k != kind]))
    for seed in range(1, 4):
        agree(f, f"nasty {seed}", generate(seed, 5_000))
    agree(f, "nasty wide", generate(9, 4_000), Options(out_of_order=MINUTE, join_window=3 * MINUTE),
          ["--set", "stream.time.out_of_order=1m", "--set", "join.window=3m"])
    policies(f)
    cuts(f)
    agree(f, "nasty small commits", generate(10, 3_000), None, ["--set", "state.commit_events=97"])
    agree_rich(f, "rich", RICH, 21, 1_500)
    agree_rich(f, "rich in small commits", RICH, 22, 1_200, 1,
               ["--set", "state.commit_events=97", "--set", "state.cache=1MiB"])
    agree_rich(f, "rich in three partitions", RICH, 23, 1_500, 3, ["--set", "state.commit_events=300"])
    agree_rich(f, "loose", LOOSE, 24, 1_500)
    agree_rich(f, "loose in two partitions", LOOSE, 25, 1_200, 2, ["--set", "state.cache=1MiB"])
    return f.summary()


if __name__ == "__main__":
    sys.exit(main())
