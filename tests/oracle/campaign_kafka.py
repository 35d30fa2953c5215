#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Random configs through a broker, with kills: campaign_kafka.py FRESHET SEED.. (a seed or a range, as 1-5)

As tests/scenario/rich_kafka.py, whose log has one order in any number of partitions, with a config of cases.py. What
depends on when the watermark passed a moment is left out, since live that is the broker's affair: bounds, thinning, expiry.
FRESHET_BROKER=HOST:PORT is a broker to use in place of the embedded one; it must make topics of 3 partitions by itself.
"""
import os
import random
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "scenario"), HERE]
from campaign import seeds  # noqa: E402
from cases import Config  # noqa: E402
from harness import Freshet  # noqa: E402
from rich_kafka import PARTITIONS, rich  # noqa: E402


def drawn(seed):
    config = Config(random.Random(seed)).draw()
    for key in "max_pending", "thin_positives":
        config["join"].pop(key, None)
    config["state"].pop("expire", None)
    return config


def main():
    f = Freshet(sys.argv[1])
    for seed in seeds(sys.argv[2:]):
        prefix = f"campaign{os.getpid()}-{seed}"
        f.broker = os.environ.get("FRESHET_BROKER")
        if f.broker is None:
            f.start_broker("--partitions", "1", "--topic", f"{prefix}-events:{PARTITIONS}", "--topic", f"{prefix}-users:1",
                           "--topic", f"{prefix}-items:1")
        rich(f, prefix, seed, 1_500, 3, drawn(seed))
    return f.summary()


if __name__ == "__main__":
    sys.exit(main())
