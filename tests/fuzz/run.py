"""Fuzz what reads and writes others' words: `make fuzz`, or some targets for a number of inputs.

python -m tests.fuzz.run --inputs 1000000 --targets webhook audit
"""

import argparse
import multiprocessing
import sys
import time
import traceback
from itertools import islice

from tests.fuzz.incoming import CONFIG, HOOK_OUTPUT, PROMETHEUS, WEBHOOK
from tests.fuzz.mutate import mutations
from tests.fuzz.outgoing import AUDIT, PROMQL, RENDERING
from tests.fuzz.target import Target

TARGETS = {target.name: target for target in (WEBHOOK, PROMETHEUS, PROMQL, CONFIG, RENDERING, AUDIT, HOOK_OUTPUT)}
CHUNK = 5000
AT_MOST_SHOWN = 5


def fuzz(target: Target, seed: int, inputs: int) -> list[str]:
    """What broke, with the input that broke it."""
    found = []
    for data in islice(mutations(seed, target.corpus, target.words), inputs):
        try:
            target.check(data)
        except Exception:  # noqa: BLE001 (whatever it was is the finding)
            found.append(f"{target.name} {data!r}\n{traceback.format_exc(limit=-4)}")
            if len(found) >= AT_MOST_SHOWN:
                break
    return found


def _chunk(piece: tuple[str, int, int]) -> tuple[int, list[str]]:
    name, seed, inputs = piece
    return inputs, fuzz(TARGETS[name], seed, inputs)


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzz the daemon's readers and writers.")
    parser.add_argument("--inputs", type=int, default=1_000_000, help="for each target")
    parser.add_argument("--targets", nargs="*", default=[], choices=[*TARGETS, []])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    chosen = parser.parse_args()
    broken = 0
    with multiprocessing.get_context("spawn").Pool(chosen.processes) as pool:
        for name in chosen.targets or TARGETS:
            pieces = [
                (name, chosen.seed + at // CHUNK, min(CHUNK, chosen.inputs - at))
                for at in range(0, chosen.inputs, CHUNK)
            ]
            began, done, found = time.monotonic(), 0, []
            for inputs, said in pool.imap_unordered(_chunk, pieces):
                done += inputs
                found += said
                rate = done / (time.monotonic() - began)
                print(
                    f"\r{name}: {done} of {chosen.inputs} inputs, {len(found)} broken, {rate:.0f}/s ",
                    end="",
                    flush=True,
                )
            print()
            print("\n".join(found[:AT_MOST_SHOWN]), end="")
            broken += len(found)
    print(f"{broken} inputs broke something")
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())
