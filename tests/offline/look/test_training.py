"""What `init` writes trains: from topics of every kind to a bundle, with nothing added by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.store.registry import Registry
from streamer import config
from streamer.cli import main
from streamer.connectors.files import DataSet
from streamer.connectors.kafka.decoding import decoder_for
from streamer.core.keyed_state import KeyedState
from streamer.offline.look.examining import batches
from streamer.offline.look.looking import look
from streamer.offline.look.proposing import propose
from streamer.offline.look.sampling import Sample
from streamer.offline.look.writing import document
from streamer.offline.retrain import retrain
from tests.offline.look import topics

pytestmark = pytest.mark.usefixtures("keep_logging")

SAMPLES = {
    "wide": topics.sample(topics.machines(rows=400)),
    "long": topics.sample(topics.long_metrics(rows=400)),
    "trades": topics.sample(topics.trades(9000)),
    "quotes": topics.sample(topics.quotes(9000)),
    "odd": topics.odd(rows=400),
}
QUICK = {"EPOCHS": "1", "STEPS_PER_EPOCH": "2", "BATCH_SIZE": "16", "HIDDEN": "4", "LATENT": "2"}


def decoded(settings: config.Settings, sample: Sample) -> list[DataSet]:
    """The messages as the daemon decodes them."""
    streams = KeyedState()
    decoder = decoder_for(settings, streams)
    parts = [decoder.decode(batch).readings for batch in batches(sample)]
    return [DataSet(streams.names, part.stream, part.time_ns, part.values.astype(np.float64)) for part in parts]


@pytest.mark.parametrize("name", SAMPLES)
def test_what_init_writes_trains(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in QUICK.items():
        monkeypatch.setenv(f"STREAMER_MODEL__{key}", value)
    sample, file = SAMPLES[name], tmp_path / "streamer.yaml"
    seen = look(sample)
    file.write_text(document(seen, propose(seen), config.KafkaConfig(), asked="streamer init"))
    settings = config.load(file)

    version = retrain(settings, decoded(settings, sample))

    detector, manifest = Registry(settings.model.directory).load(version)
    assert detector.features == settings.features
    assert manifest["streams"] == seen.timing.streams


def test_from_a_file_to_a_bundle_in_two_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for key, value in QUICK.items():
        monkeypatch.setenv(f"STREAMER_MODEL__{key}", value)
    data, file = tmp_path / "rows.jsonl", str(tmp_path / "streamer.yaml")
    data.write_bytes(b"\n".join(message.value or b"" for message in SAMPLES["long"].messages))

    assert main(["init", "--data", str(data), "--out", file]) == 0
    assert main(["retrain", "--config", file, "--data", str(data)]) == 0

    assert Registry(tmp_path / "bundles").current() == capsys.readouterr().out.split()[-1]
