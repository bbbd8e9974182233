"""The whole matrix on a real broker: `make test-faults`.

    python -m tests.faults                          1,000 kills and more, half an hour on two cores
    python -m tests.faults --quick                  each fault a few times
    python -m tests.faults --kills 60 --only commit --only two
    python -m tests.faults --list

KAFKA_HOME names a Kafka distribution. Exit code 1 if anything was lost, told without cause, or scored otherwise.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.brokers import KafkaNode, kafka_home
from tests.faults import load
from tests.faults.failpoints import PLACES, check
from tests.faults.rounds import BROKER, JOIN, OTHERS, OUTSIDE, SWAP, SWAP_DEAD, TERM, ZOMBIE, Result, Round
from tests.faults.site import Setup

SETUPS = (
    Setup("one, local, kafka-python"),
    Setup("one, local, confluent, stride 4, gaps and fill", client="confluent", stride=4, fill=True),
    Setup("two, topic, kafka-python, silence", 2, "topic", partitions=4, silence=True),
    Setup("two, file:, both clients, gaps and fill", 2, "file", "mixed", partitions=4, fill=True),
    Setup("three, topic, confluent, stride 4", 3, "topic", "confluent", stride=4, partitions=6),
)
CONFLUENT = Setup("one, local, confluent", client="confluent")  # for one fault alone

# What takes longest begins first.
FAULTS = (BROKER, *PLACES, *(fault for fault in OTHERS if fault != BROKER))


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    home = kafka_home()
    if home is None:
        print("test-faults needs a real broker: set KAFKA_HOME to a Kafka distribution", file=sys.stderr)
        return 2
    for name in PLACES:
        check(name)
    rounds = plan(options.only, options.kills, quick=options.quick)
    if not rounds:
        print(f"no round has {options.only} in its name; --list says which there are", file=sys.stderr)
        return 2
    if options.list:
        print("\n".join(f"{times:3d} x {fault}: {setup.name}" for fault, setup, times in rounds))
        return 0
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="faults-") as kept, contextlib.ExitStack() as stack:
        scratch = Path(options.keep or kept)
        bundles = scratch / "bundles"
        load.train(bundles)
        shared = KafkaNode(home, scratch / "kafka").start()
        stack.callback(shared.stop)
        results = run(rounds, shared, scratch, bundles, jobs=options.jobs, seed=options.seed)
    print_table(results)
    kills, wrong = sum(each.kills for each in results), [each for each in results if not each.well]
    for each in wrong:
        for problem in each.problems:
            print(f"\n{each.fault}, {each.setup}: {problem}")
    lost, extra = sum(each.lost for each in results), sum(each.extra for each in results)
    print(
        f"\n{kills} kill -9, {sum(each.alerts for each in results)} alerts expected, {lost} lost, {extra} extra, "
        f"{len(wrong)} of {len(results)} rounds wrong, in {time.monotonic() - began_s:.0f} s"
    )
    return 1 if wrong else 0


def plan(only: Sequence[str], kills: int, *, quick: bool) -> list[tuple[str, Setup, int]]:
    """Fault, set-up and how many times, of each round."""
    pairs = [(fault, setup) for fault in FAULTS for setup in (*SETUPS, CONFLUENT) if _applies(fault, setup)]
    pairs = [(fault, setup) for fault, setup in pairs if all(part in f"{fault}: {setup.name}" for part in only)]
    if quick:  # every fault once, the set-ups in turn
        chosen: dict[str, tuple[str, Setup]] = {}
        for number, fault in enumerate(FAULTS):
            its = [pair for pair in pairs if pair[0] == fault]
            if its:
                chosen[fault] = its[number % len(its)]
        pairs = list(chosen.values())
    killing = sum(fault in PLACES or fault == OUTSIDE for fault, _ in pairs)
    each = max(1, -(-kills // max(1, killing)))
    times = {BROKER: 5, SWAP: 6, SWAP_DEAD: 6, ZOMBIE: 6, JOIN: 6, TERM: 8} if not quick else {BROKER: 1}
    return [
        (fault, setup, times.get(fault, each if fault not in OTHERS or fault == OUTSIDE else 3))
        for fault, setup in pairs
    ]


def _applies(fault: str, setup: Setup) -> bool:
    place = PLACES.get(fault)
    if fault == SWAP_DEAD:
        # A model may come back for a moment; with a longer stride it may score nothing in some partition then.
        return not setup.fill and setup.stride == 1
    if setup is CONFLUENT:
        return False
    if place is not None and place.stores and setup.store not in place.stores:
        return False
    if fault == SWAP or (place is not None and place.needs == "swap"):
        # Where exactly windows changed their units is known from the scores alone; a last bit may decide how they are
        # filled.
        return not setup.fill
    return setup.store != "local" or fault not in (ZOMBIE, JOIN)


def run(
    rounds: Sequence[tuple[str, Setup, int]], broker: KafkaNode, scratch: Path, bundles: Path, *, jobs: int, seed: int
) -> list[Result]:
    """All rounds, some at once; those that kill the broker have one of their own."""
    began_s, done, lock = time.monotonic(), [0], threading.Lock()

    def one(number: int) -> Result:
        fault, setup, times = rounds[number]
        directory = scratch / f"round-{number:03d}"
        directory.mkdir()
        own = KafkaNode(kafka_home() or Path(), directory / "kafka").start() if fault == BROKER else None
        try:
            result = Round(fault, setup, own or broker, directory, bundles, seed=seed + number).run(times)
        finally:
            if own is not None:
                own.stop()
        with lock:
            done[0] += 1
            print(f"{time.monotonic() - began_s:6.0f} s  {done[0]:3d} of {len(rounds)}  {result}", flush=True)
            for problem in result.problems:
                print(f"{'':26}{problem[:400]}", flush=True)
        return result

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(one, range(len(rounds))))


def print_table(results: Sequence[Result]) -> None:
    """By fault, then by set-up."""
    for title, key in (("fault", "fault"), ("replicas, state, client", "setup")):
        names = list(dict.fromkeys(getattr(each, key) for each in results))
        width = max([len(title), *map(len, names)]) + 2
        print(
            f"\n{title:{width}}{'times':>7}{'kills':>7}{'alerts':>9}{'lost':>6}{'extra':>7}{'scores':>10}{'lost':>6}"
            f"{'extra':>7}{'difference':>12}{'recovery s':>16}"
        )
        for name in names:
            some = [each for each in results if getattr(each, key) == name]
            recovery = sorted(s for each in some for s in each.recovery_s)
            said = f"{recovery[len(recovery) // 2]:.1f}, max {recovery[-1]:.1f}" if recovery else "-"
            sums = [sum(getattr(each, column) for each in some) for column in _SUMMED]
            print(
                f"{name:{width}}{sums[0]:>7}{sums[1]:>7}{sums[2]:>9,}{sums[3]:>6}{sums[4]:>7}{sums[5]:>10,}{sums[6]:>6}"
                f"{sums[7]:>7}{max(each.difference for each in some):>12.1g}{said:>16}"
            )


_SUMMED = ("times", "kills", "alerts", "lost", "extra", "scores", "scores_lost", "scores_extra")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="test-faults", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=None, help="kill -9 in all, over all failpoints (default: 1000)")
    parser.add_argument("--only", action="append", default=[], metavar="TEXT", help="rounds whose name has TEXT in it")
    parser.add_argument("--quick", action="store_true", help="every fault, in one set-up each")
    parser.add_argument("--jobs", type=int, default=3, help="rounds at once (default: 3)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other moments")
    parser.add_argument("--list", action="store_true", help="say which rounds there are")
    parser.add_argument("--keep", type=Path, help="a directory for logs and data, kept")
    options = parser.parse_args(arguments)
    if options.kills is None:
        options.kills = 50 if options.quick else 1000
    return options


if __name__ == "__main__":
    sys.exit(main())
