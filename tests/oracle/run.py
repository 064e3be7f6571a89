#!/usr/bin/python3
"""Compares Terrace with redis-server by hand: a longer run, or the replay of a seed a test printed.

    tests/oracle/run.py [--seed N] [--seconds S | --commands N] [--resp 2|3] [--families strings,keys]
"""

import argparse
import os
import random
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from oracle.duel import Duel  # noqa: E402
from support.server import Server  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--commands", type=int)
    parser.add_argument("--resp", type=int, default=2, choices=(2, 3))
    parser.add_argument("--families", default="")
    options = parser.parse_args()
    families = [name for name in options.families.split(",") if name]
    with Server() as ours, Server(program="redis-server") as theirs:
        duel = Duel(ours, theirs, options.seed, options.resp, families)
        try:
            differences = duel.run(options.seconds, options.commands)
        finally:
            duel.close()
    print("\n\n".join(differences))
    print(f"seed {options.seed}: {duel.commands} commands, {len(differences)} kinds of difference")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
