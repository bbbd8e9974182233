"""One round: one fault, one set-up, so many times; then what was told is held against what should have been.

Not inside: which rounds there are (`__main__`).
"""

from __future__ import annotations

import itertools
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.store.registry import Registry
from tests.brokers import Broker
from tests.faults.expected import Key, Record, Swaps, Told, expected, places
from tests.faults.failpoints import PLACES, Failpoint
from tests.faults.lives import Life
from tests.faults.site import Onlooker, Setup, Site, committed

TOLERANCE = 1e-6  # of scores; the promise is that they are the same bits
SWAPPED_TOLERANCE = 1e-4  # windows in the units of another model, and back, lose their last bits
PATIENCE_S = 45.0
OUTSIDE, TERM, ZOMBIE, BROKER, JOIN, SWAP, SWAP_DEAD = (
    "kill -9 at any moment",
    "SIGTERM and moved",
    "zombie",
    "broker killed",
    "joins and leaves",
    "model swapped",
    "model swapped after a kill -9",
)
OTHERS = (OUTSIDE, TERM, ZOMBIE, BROKER, JOIN, SWAP, SWAP_DEAD)


@dataclass
class Result:
    """A row of the table."""

    fault: str
    setup: str
    times: int = 0
    kills: int = 0  # of daemons by SIGKILL, those that only made room for the fault included
    alerts: int = 0  # expected
    lost: int = 0
    extra: int = 0
    scores: int = 0  # expected
    scores_lost: int = 0
    scores_extra: int = 0
    difference: float = 0.0  # largest between a score published and the one expected
    recovery_s: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def tolerance(self) -> float:
        return SWAPPED_TOLERANCE if "swap" in self.fault else TOLERANCE

    def __str__(self) -> str:
        return (
            f"{'ok  ' if self.well else 'FAIL'}  {self.fault} x {self.times}: {self.setup}: {self.alerts} alerts, "
            f"{self.lost} lost, {self.extra} extra, {self.scores} scores, {self.scores_lost} lost, "
            f"{self.scores_extra} extra, difference {self.difference:.1g}, {self.seconds:.0f} s"
        )

    @property
    def well(self) -> bool:
        wrong = self.lost or self.extra or self.scores_lost or self.scores_extra or self.problems
        return not wrong and self.difference <= self.tolerance and self.alerts > 0


class Round:
    """Replicas of one installation, while a fault is provoked again and again."""

    def __init__(
        self, fault: str, setup: Setup, broker: Broker, directory: Path, bundles: Path, *, seed: int = 0
    ) -> None:
        self.result = Result(fault, setup.name)
        self._fault, self._setup, self._broker = fault, setup, broker
        self._place = PLACES.get(fault)
        self._dice = random.Random(f"{fault} {setup.name} {seed}")
        if self._swaps:
            own = directory / "bundles"
            shutil.copytree(bundles, own)
            bundles = own
        self.site = Site(setup, broker, directory / "site", bundles, seed)
        self._registry = Registry(bundles)
        self._first = str(self._registry.current())
        self._lives: dict[int, Life] = {}
        self._slots = itertools.count(setup.replicas)  # for replicas that come later

    @property
    def _swaps(self) -> bool:
        return self._fault in (SWAP, SWAP_DEAD) or (self._place is not None and self._place.needs == "swap")

    def run(self, times: int, stop: Callable[[], bool] = lambda: False) -> Result:
        """Provoke the fault so many times, let it recover, compare."""
        began_s = time.monotonic()
        try:
            for slot in range(self._setup.replicas):
                self._start(slot)
            self.site.feed.start()
            self._until(lambda: self.site.feed.beyond({}), "the first commits")
            for _ in range(times):
                if stop():
                    break
                self._watch()
                self._provoke()
            self._finish()
            self._compare()
        except Exception as error:  # the other rounds go on, and the table tells
            self.result.problems.append(f"{type(error).__name__}: {error}")
        finally:
            self.site.feed.close()
            for life in self._lives.values():
                life.signal(signal.SIGKILL)
            if self.site.feed.failure:
                self.result.problems.append(f"feed: {self.site.feed.failure!r}")
            self.result.seconds = time.monotonic() - began_s
        return self.result

    # Replicas.

    def _start(self, slot: int, *, armed: bool = False) -> Life:
        failpoint = Failpoint(self._fault, self._dice.randint(1, 3), armed) if self._place else None
        if failpoint is not None and self._place is not None and self._place.needs:
            failpoint = Failpoint(self._fault, 1, armed)
        life = self._lives[slot] = self.site.start(slot, failpoint)
        return life

    def _watch(self) -> None:
        """Nobody ends who was not killed."""
        for slot, life in list(self._lives.items()):
            code = life.exit_code
            if code is not None:
                self.result.problems.append(f"replica {slot} ended with {code}: ...{life.log()[-600:]}")
                self._start(slot)

    def _kill(self, slot: int) -> None:
        life = self._lives.pop(slot)
        life.signal(signal.SIGKILL)
        life.ended(10)
        self.result.kills += 1

    def _until(self, condition: Callable[[], Any], what: str, within_s: float = PATIENCE_S) -> bool:
        deadline_s = time.monotonic() + within_s
        while not condition():
            if self.site.feed.failure:
                raise self.site.feed.failure
            if time.monotonic() > deadline_s:
                self.result.problems.append(f"waited {within_s:g} s for {what}; {self._say()}")
                return False
            time.sleep(0.02)
        return True

    def _say(self) -> str:
        tails = {slot: life.log()[-400:] for slot, life in self._lives.items()}
        return f"committed {self.site.feed.committed}, sent {self.site.feed.sent}; logs end {tails}"

    # Faults.

    def _provoke(self) -> None:
        feed, dice = self.site.feed, self._dice
        for recovered in self._once(dice.choice(sorted(self._lives))):
            self.result.times += 1
            # What the feed knows may be older than a swap.
            before, since_s = self.site.committed() if self._swaps else dict(feed.committed), time.monotonic()
            if recovered and self._until(lambda: feed.beyond(before), "every partition to be committed further"):  # noqa: B023
                self.result.recovery_s.append(time.monotonic() - since_s)

    def _once(self, slot: int) -> Iterator[bool]:
        """Provoke it; yields once for each time, True where recovery is waited for before it goes on."""
        dice = self._dice
        waits = dice.random() < 0.6
        if self._place is not None:
            yield from self._die(slot, waits)
        elif self._fault == OUTSIDE:
            time.sleep(dice.uniform(0, 1.2))
            self._kill(slot)
            self._start(slot)
            yield waits
        elif self._fault == TERM:
            self._leave(slot)
            self._start(slot if self._setup.store == "local" else next(self._slots))
            yield waits
        elif self._fault == JOIN:
            while len(self._lives) > self._setup.replicas:
                self._leave(max(self._lives))
            self._start(next(self._slots))
            yield waits
        elif self._fault == ZOMBIE:
            life = self._lives[slot]
            life.signal(signal.SIGSTOP)
            yield True
            time.sleep(dice.uniform(0, 1.5))
            life.signal(signal.SIGCONT)
        elif self._fault == BROKER:
            self._broker.down()
            time.sleep(dice.uniform(0.1, 3))
            self._broker.up()
            yield True
        elif self._fault == SWAP:
            self._use_everywhere()
            self._promote_other()
            self._use_everywhere()
            yield True
        elif self._fault == SWAP_DEAD:
            self._use_everywhere()
            time.sleep(dice.uniform(0, 0.4))
            self._kill(slot)
            self._promote_other()
            if waits:  # until another has taken over, if there is another
                time.sleep(dice.uniform(0, 3))
            self._start(slot)
            yield True

    def _die(self, slot: int, waits: bool) -> Iterator[bool]:
        """A failpoint, reached in the way it needs."""
        assert self._place is not None
        needs = self._place.needs
        if needs == "start":
            self._kill(slot)
            for _ in range(self._dice.randint(1, 3)):
                yield from self._wait_for_death(self._start(slot, armed=True), slot, False)
            self._start(slot)
            before = dict(self.site.feed.committed)
            self._until(lambda: self.site.feed.beyond(before), "a life after these")
            return
        if needs == "rebalance":
            for other in sorted(self._lives)[self._setup.replicas :]:
                self._leave(other)
            slot = self._dice.choice(sorted(self._lives))
        life = self._lives[slot]
        if needs == "swap":
            self._use_everywhere()
        elif needs:
            self._until(life.reads, "a replica to have partitions")
        self._arm(life)
        if needs == "swap":
            self._promote_other()
        elif needs == "rebalance" and self._setup.store == "local":
            life.signal(signal.SIGTERM)
        elif needs == "rebalance":
            self._start(next(self._slots))
            if life.ended(8) is None:  # it lost nothing to the newcomer; on leaving it does
                life.signal(signal.SIGTERM)
        for each in self._wait_for_death(life, slot, waits):
            self._start(slot)
            yield each

    def _wait_for_death(self, life: Life, slot: int, waits: bool) -> Iterator[bool]:
        deadline_s = time.monotonic() + PATIENCE_S
        while life.runs and time.monotonic() < deadline_s:
            if not (life.failpoint and life.failpoint.armed):
                self._arm(life)
            life.ended(0.3)
        self._lives.pop(slot, None)
        if life.exit_code == -signal.SIGKILL:
            self.result.kills += 1
            yield waits
            return
        self.result.problems.append(f"{self._fault} was not reached by replica {slot}: ...{life.log()[-600:]}")
        life.signal(signal.SIGKILL)
        life.ended(10)
        self._start(slot)

    def _arm(self, life: Life) -> None:
        life.signal(signal.SIGUSR1)

    def _leave(self, slot: int) -> None:
        life = self._lives.pop(slot)
        self._until(life.works, "a replica to begin")
        life.signal(signal.SIGTERM)
        code = life.ended(25)
        if code != 0:
            self.result.problems.append(f"replica {slot} left with {code} after SIGTERM: ...{life.log()[-600:]}")
            life.signal(signal.SIGKILL)

    def _use_everywhere(self) -> None:
        """Each model has to score something in every partition, or nobody could say from outside that it was in use."""
        version, setup = str(self._registry.current()), self._setup
        # Streams are not spread evenly, and one is scored with every `stride`th reading only.
        enough = 4 * setup.stride * setup.streams // setup.partitions
        for _ in range(10):
            for life in self._lives.values():
                self._until(lambda: life.bundles()[-1:] == [version], f"bundle {version} to be used")  # noqa: B023
            used, before = [life.bundles() for life in self._lives.values()], self.site.committed()
            self._until(lambda: self.site.feed.beyond(before, enough), f"bundle {version} to score")  # noqa: B023
            # Whoever takes over partitions of a dead one may use another bundle for a while.
            if [life.bundles() for life in self._lives.values()] == used:
                return

    def _promote_other(self) -> None:
        current = self._registry.current()
        other = next(version for version in self._registry.versions() if version != current)
        self._registry.promote(other)

    # The end.

    def _finish(self) -> None:
        """Nothing new, all read, all counted, all leave in good order."""
        self._watch()
        feed = self.site.feed
        feed.finish()
        ends = self.site.ends()
        self._until(lambda: feed.committed == ends, f"all to be committed, {ends}", 2 * PATIENCE_S)
        self._watch()
        for slot, life in self._lives.items():
            metrics = life.metrics()
            consumed, accounted = metrics.get("streamer_records_consumed_total", -1.0), metrics.accounted()
            if consumed != accounted:
                self.result.problems.append(f"replica {slot}: {consumed:g} records consumed, {accounted:g} accounted")
        for slot in list(self._lives):
            self._leave(slot)
        cold = [line for log in self.site.logs() for line in log.splitlines() if "begins without its state" in line]
        if cold:
            self.result.problems.append(f"{len(cold)} times a partition began without its state: {cold[0]}")

    def _compare(self) -> None:
        result, site = self.result, self.site
        records, rules = site.records(), self._setup.rules(site.topic)
        detectors = {version: self._registry.load(version)[0] for version in self._registry.versions()}
        published, told = site.scores(), site.alerts()
        swaps = swaps_of(published, records, site, self._first) if self._swaps else Swaps(self._first)
        wanted = expected(records, rules, detectors, swaps)
        anomalies = {id: some for id, some in told.items() if some[0]["kind"] == "anomaly"}
        result.alerts, result.scores = len(wanted.alerts), len(wanted.scores)
        result.lost = len(wanted.alerts.keys() - anomalies.keys())
        result.extra = len(anomalies.keys() - wanted.alerts.keys())
        self._compare_scores(published, anomalies, wanted)
        if result.difference > result.tolerance:
            result.problems.append(f"swaps {swaps}")
        if self._setup.silence:
            calm = self._undisturbed()
            silences = {id for id, some in told.items() if some[0]["kind"] == "silence" and some[0]["scope"] != "topic"}
            result.alerts += len(calm)
            result.lost += len(calm - silences)
            result.extra += len(silences - calm)

    def _compare_scores(
        self, published: Mapping[Key, set[tuple[float, str]]], told: Mapping[str, list[dict[str, Any]]], wanted: Told
    ) -> None:
        result = self.result
        result.scores_lost = len(wanted.scores.keys() - published.keys())
        result.scores_extra = len(published.keys() - wanted.scores.keys())
        pairs = [
            (score, wanted.scores[key], f"{key} by {version}")
            for key in sorted(published.keys() & wanted.scores)
            for score, version in published[key]
        ]
        for id in told.keys() & wanted.alerts:
            for alert in told[id]:
                pairs += [
                    (alert[name], round(wanted.alerts[id][name], 6), f"{name} of alert {id}")
                    for name in ("score", "peak_score")
                ]
        apart = [(abs(score - own) / max(1.0, abs(own)), score, own, what) for score, own, what in pairs]
        result.difference = max((each[0] for each in apart), default=0.0)
        wrong = [each for each in apart if each[0] > result.tolerance]
        if wrong:
            some = "; ".join(f"{what}: {score!r}, not {own!r}" for _, score, own, what in wrong[:8])
            result.problems.append(f"{len(wrong)} of {len(apart)} scores differ: {some}")

    def _undisturbed(self) -> set[str]:
        """Silences told by one replica that nobody disturbs, reading all of the topic for a group of its own."""
        names = {key: f"{self.site.topic}-calm-{key}" for key in ("alerts_topic", "scores_topic", "group")}
        for key in ("alerts_topic", "scores_topic"):
            self._broker.create_topic(names[key])
        site, ends = self.site, self.site.ends()
        life = site.start(next(self._slots), None, kafka=names)
        self._lives[-1] = life
        with Onlooker(self._broker, names["group"]) as consumer:
            self._until(lambda: committed(consumer, site.topic, self._setup.partitions) == ends, "the undisturbed run")
        self._leave(-1)
        told = site.alerts(names["alerts_topic"])
        return {id for id, some in told.items() if some[0]["kind"] == "silence" and some[0]["scope"] != "topic"}


def swaps_of(published: Mapping[Key, set[tuple[float, str]]], records: list[Record], site: Site, first: str) -> Swaps:
    """Where each partition changed its model, from the versions of the scores that were published.

    Raises:
        AssertionError: A reading was told with the scores of two models.
    """
    where = places(records, site.setup.rules(site.topic))
    twice = [key for key, told in published.items() if len({version for _, version in told}) > 1]
    assert not twice, f"{len(twice)} readings were told with the scores of two models, such as {twice[0]}"
    lines: dict[int, list[tuple[int, str]]] = {}
    for key, told in published.items():
        partition, offset = where[key]
        lines.setdefault(partition, []).append((offset, next(iter(told))[1]))
    changes: dict[int, list[tuple[int, str]]] = {}
    for partition, line in lines.items():
        version = first
        for offset, used in sorted(line):
            if used != version:
                changes.setdefault(partition, []).append((offset, used))
                version = used
    return Swaps(first, changes)
