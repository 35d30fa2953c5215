# SPDX-License-Identifier: Apache-2.0
"""What must hold after a round: plain comparisons, no processes."""
import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "oracle"))
from batch import Batch, FEEDBACK, Options  # noqa: E402
from compare import compare  # noqa: E402

# What a summary says of the whole log, however it was run through.
COUNTS = ("events", "messages", "duplicates", "late", "late_by", "dlq", "joined", "orphans", "pending", "samples",
          "left_early", "late_labels", "negatives_dropped", "updates", "updates_stopped", "version", "watermark", "at",
          "metrics", "after_window", "after_window_by", "kept", "corrected", "forgotten_early", "settled_early",
          "positives_thinned", "sequences_skipped", "profile_conflicts", "lengths_missing")


class Broken(Exception):
    """A promise was."""


def counts(summary):
    return {k: summary[k] for k in COUNTS}


def differing(a, b, path=""):
    if isinstance(a, dict) and isinstance(b, dict):
        return sorted(d for k in a.keys() | b.keys() for d in differing(a.get(k), b.get(k), f"{path}.{k}"))
    return [] if a == b else [f"{path} {str(a)[:60]} is {str(b)[:60]}"]


def same(wanted, got, what):
    differ = differing(wanted, got)
    if differ:
        raise Broken(f"{what} differ from the run that was left alone: {'; '.join(differ[:6])}")


def same_exports(wanted, got):
    """To the byte: exports are in order of keys, samples in that of the log."""
    for what in wanted.keys() & got.keys():
        if wanted[what] == got[what]:
            continue
        a, b = (text.splitlines() for text in (wanted[what], got[what]))
        n = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
        raise Broken(f"exported {what} differ from the run that was left alone, row {n} of {len(a)} and {len(b)}: "
                     f"{(a + [''])[n][:300]} is {(b + [''])[n][:300]}")


# ---- the oracle ------------------------------------------------------------------------------------------------------

def milliseconds(text):
    for unit, ms in (("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)):
        if text.endswith(unit) and text[:-len(unit)].isdigit():
            return int(text[:-len(unit)]) * ms
    raise ValueError(text)


def labels_of(settings):
    """(labels or None for all, their windows) of join.labels."""
    given = json.loads(settings.get("join.labels", '{"all": {}}'))
    names = FEEDBACK if "all" in given else [a for a in FEEDBACK if a in given]
    windows = {a: {**given.get("all", {}), **given.get(a, {})}.get("window") for a in names}
    return names, {a: milliseconds(w) for a, w in windows.items() if w}


def oracle_options(settings, flush):
    keep = json.loads(str(settings.get("join.keep_negatives", 1.0)))
    thin = json.loads(settings.get("join.thin_positives", "null"))
    names, windows = labels_of(settings)
    return Options(flush=flush, out_of_order=milliseconds(settings.get("stream.time.out_of_order", "5s")),
                   join_window=milliseconds(settings.get("join.window", "10m")),
                   dedupe_window=milliseconds(settings.get("dedupe.window", "10m")), emit=settings.get("join.emit", "wait"),
                   corrections=settings.get("join.corrections") == "true", labels=names, label_windows=windows,
                   watch=settings.get("join.watch", "max"), remember=milliseconds(settings.get("join.remember", "0s")),
                   keep_negatives=keep, thin=thin, max_pending=settings.get("join.max_pending", 1 << 40))


def against_oracle(settings, flush, parts, summary, exports):
    """A run that was left alone, and every row that it exports, beside the batch computation, which knows no expiry."""
    if "state.expire.users" in settings:
        return
    batch = Batch(oracle_options(settings, flush)).run(parts)
    for key in ("duplicates", "at", "orphans", "after_window", "late_labels", "negatives_dropped", "positives_thinned", "left_early",
                "forgotten_early"):
        if summary[key] != getattr(batch, key):
            raise Broken(f"left alone: {key} {summary[key]}, the oracle says {getattr(batch, key)}")
    for what, text in exports.items():
        rows = [json.loads(line) for line in text.splitlines()]
        _, texts = compare(what, batch.rows(what), rows)
        if texts:
            raise Broken(f"left alone: {len(texts)} {what} differ from the oracle: {texts[0]}")


# ---- dead letters ----------------------------------------------------------------------------------------------------

def letters(wanted, got):
    """wanted: (partition, offset) -> the bad message; got: (headers, value) in order. Each is there, with its bytes; again
    only as a repetition of what was sent last."""
    seen, furthest = {}, {}
    for headers, value in got:
        part, offset = (int(headers[f"__connect.errors.{k}"]) for k in ("partition", "offset"))
        if offset < furthest.get(part, -1) and (part, offset) not in seen:
            raise Broken(f"the dead letter of {part}:{offset} comes after that of {furthest[part]}")
        if seen.setdefault((part, offset), value) != value:
            raise Broken(f"the dead letter of {part}:{offset} is {value!r} and {seen[part, offset]!r}")
        furthest[part] = max(furthest.get(part, -1), offset)
    if seen != wanted:
        lost = [k for k in wanted if k not in seen]
        more = [k for k in seen if k not in wanted]
        other = [k for k in wanted if k in seen and seen[k] != wanted[k]]
        raise Broken(f"dead letters: of {len(wanted)} {len(lost)} are lost {lost[:5]}, {len(more)} too many {more[:5]}, "
                     f"{len(other)} are other bytes {other[:5]}")
