# SPDX-License-Identifier: Apache-2.0
# Random configs and logs against the oracle, and against themselves in small commits and with kills: what was found once
# (tests/oracle/found.jsonl), and some seeds. More of them by hand: tests/oracle/campaign.py. argv[1]: the freshet binary.
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "oracle")]
from campaign import cases_of, judge  # noqa: E402
from cases import case  # noqa: E402
from harness import Freshet  # noqa: E402

SEEDS = range(1, 13)


def main():
    f = Freshet()
    found = cases_of(os.path.join(HERE, "..", "oracle", "found.jsonl"))
    for given in found + [case(seed, messages=300) for seed in SEEDS]:
        texts, rows = judge(f.binary, given)
        f.check(not texts, f"{given['seed']}: {rows} rows equal")
        for t in texts[:5]:
            print("        " + t)
    return f.summary()


if __name__ == "__main__":
    sys.exit(main())
