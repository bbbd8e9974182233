"""`make bench`: every ratio in one run, on one core.

    model / matmul       floating-point rate of the network against the best matrix multiply found here
    pipeline / model     bytes in memory to scores, a full poll at a time, against the bare network on ready windows
    pipeline / loop      against the loop a user would write first: one message, one window, one forward
    patched / unpatched  the default network against the same fed one reading a step
    bytes a stream       what one stream costs in memory
    plain / ordered, plain / bars       what order and bars cost; see `event_time.py`
    mapped / in memory, gathered / overlaps, overlaps / readings      training; see `training.py`

Medians of several rounds, the two sides of a ratio in turn, so that a machine whose
speed drifts does not favour one.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks import event_time, training, workloads
from models.detector import BATCH, Detector
from streamer.connectors.kafka import RecordBatch
from streamer.core.pipeline import Pipeline
from streamer.formats import decoder_of

AIMS = {
    "model / matmul": 0.70,
    "pipeline / model": 0.75,
    "pipeline / loop": 20.0,
    "bytes a stream": 6144.0,
    "plain / ordered": 0.9,
    "plain / bars": 0.9,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true", help="print JSON only")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found, scale = measure(options.rounds)
    for measured in (event_time.measure(options.rounds), training.measure()):
        for told, more in zip((found, scale), measured, strict=True):
            told.update(more)
    if options.json:
        print(json.dumps({"machine": machine(), "ratios": found, "scale": scale}, indent=2))
        return 0
    print(f"{machine()}, one core, medians of {options.rounds} rounds\n")
    for name, value in found.items():
        aim = AIMS.get(name)
        met = aim is None or (value <= aim if name.startswith("bytes") else value >= aim)
        says = "" if aim is None else f"   aim {'<=' if name.startswith('bytes') else '>='} {aim:g}"
        print(f"{name:<22}{value:>10,.2f}{says}{'' if met else '   MISSED'}")
    print("\nfor scale on this machine: " + ", ".join(f"{name} {value:,.2f}" for name, value in scale.items()))
    return 0


def measure(rounds: int) -> tuple[dict[str, float], dict[str, float]]:
    """The ratios, and absolute figures for scale."""
    detector = workloads.detector()
    settings = workloads.settings()
    pipeline = Pipeline(settings.pipeline_options(), detector, "benchmark")
    decoder = decoder_of(settings.format_options(), pipeline.keys)
    # At full load polls are full: `max_poll_records`, here some readings of every stream.
    a_poll = settings.kafka.max_poll_records // workloads.STREAMS
    readings_a_poll = a_poll * workloads.STREAMS
    steps = workloads.messages(workloads.WINDOW + (rounds + 1) * a_poll)
    offsets, stamps = np.arange(readings_a_poll), np.full(readings_a_poll, -1)

    def take_in(first: int) -> np.ndarray:
        messages = [message for step in steps[first : first + a_poll] for message in step]
        n = len(messages)
        began = time.perf_counter()
        decoded = decoder.decode(RecordBatch("readings", 0, offsets[:n], stamps[:n], [None] * n, messages, [[]] * n))
        scores = pipeline.process(decoded.readings).scores.score
        taken.append((time.perf_counter() - began) / n)
        assert not decoded.rejects
        return scores

    taken: list[float] = []
    for step in range(0, workloads.WINDOW, a_poll):
        scores = take_in(step)
    assert np.isfinite(scores[-workloads.STREAMS :]).all(), "every stream must have closed a window"
    begin = -(-workloads.WINDOW // a_poll) * a_poll
    windows = torch.from_numpy(
        np.random.default_rng(1).normal(size=(workloads.STREAMS, workloads.WINDOW, workloads.FEATURES))
    ).float()
    loop = NaiveLoop(detector)
    few = 40
    for messages in steps[: workloads.WINDOW]:
        for message in messages[:few]:
            loop.take_in(message, score=False)
    unpatched = workloads.detector(patch=1).network

    peak, bare, naive, single = list[float](), list[float](), list[float](), list[float]()
    taken.clear()
    for step in range(begin, begin + rounds * a_poll, a_poll):
        peak.append(matmul_rate())
        bare.append(seconds(lambda: forward(detector, windows)) / workloads.STREAMS)
        take_in(step)
        some = steps[step][:few]
        naive.append(seconds(lambda: [loop.take_in(message) for message in some]) / few)  # noqa: B023
        with torch.inference_mode():
            single.append(seconds(lambda: unpatched(windows[:BATCH])) / BATCH)
    whole = taken
    flops = flops_a_window(detector)

    def ratio(above: list[float], below: list[float]) -> float:
        return statistics.median(a / b for a, b in zip(above, below, strict=False))

    names = sum(sys.getsizeof(name) for name in pipeline.keys.names) + sys.getsizeof(pipeline.keys.codes)
    ratios = {
        "model / matmul": statistics.median(flops / b / p for b, p in zip(bare, peak, strict=True)),
        "pipeline / model": ratio(bare, whole),
        "pipeline / loop": ratio(naive, whole),
        "patched / unpatched": ratio(single, bare),
        "bytes a stream": pipeline.keys.bytes_per_stream + names / workloads.STREAMS,
    }
    scale = {
        "matrix multiply GFLOP/s": statistics.median(peak) / 1e9,
        "bare model us a window": statistics.median(bare) * 1e6,
        "pipeline us a reading": statistics.median(whole) * 1e6,
        "loop us a message": statistics.median(naive) * 1e6,
    }
    return ratios, scale


def forward(detector: Detector, windows: torch.Tensor) -> None:
    with torch.inference_mode():
        for i in range(0, len(windows), BATCH):
            detector.network(windows[i : i + BATCH])


class NaiveLoop:
    """What one writes first: decode, append, stack, forward, square, mean."""

    def __init__(self, detector: Detector) -> None:
        self.network = detector.network
        self.rings: dict[str, deque[list[float]]] = {}

    def take_in(self, message: bytes, *, score: bool = True) -> float | None:
        record = json.loads(message)
        ring = self.rings.setdefault(record["stream"], deque(maxlen=workloads.WINDOW))
        ring.append([float(record[name]) for name in workloads.NAMES])
        if not score or len(ring) < workloads.WINDOW:
            return None
        window = torch.tensor([list(ring)])
        with torch.no_grad():
            rebuilt = self.network(window)
        return float(((rebuilt - window) ** 2).mean())


def flops_a_window(detector: Detector) -> float:
    """Multiplications and additions of the matrix products in one forward."""
    a = detector.architecture
    step_in, gates = a.patch * a.features, 4 * a.hidden
    encoder = a.steps * 2 * gates * (step_in + a.hidden)
    decoder = a.steps * 2 * gates * (a.latent + a.hidden)
    return float(encoder + decoder + 2 * a.hidden * a.latent + a.steps * 2 * a.hidden * step_in)


def matmul_rate() -> float:
    """Best rate of any float32 matrix multiply torch offers here, FLOP/s.

    Both its libraries are asked: a plain product may go to one, layers to another.
    """
    best = 0.0
    n = 1024
    a, b = torch.randn(n, n), torch.randn(n, n)
    weight = b.reshape(n, n, 1, 1)
    image = a.reshape(1, n, 32, n // 32)
    with torch.inference_mode():
        for product in (lambda: a @ b, lambda: torch.nn.functional.conv2d(image, weight)):
            best = max(best, 2 * n**3 / min(seconds(product) for _ in range(3)))
    return best


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def machine() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return f"{model}, Python {platform.python_version()}, torch {torch.__version__}"


if __name__ == "__main__":
    sys.exit(main())
