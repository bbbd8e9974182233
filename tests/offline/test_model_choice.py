"""Which model `streamer retrain` builds, and what it begins with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from models.errors import ArtifactError
from models.store.registry import Registry
from streamer import config
from streamer.cli import EXIT_CONFIG, EXIT_OK, main
from streamer.config import Settings
from streamer.errors import ConfigError
from streamer.offline.retrain import CURRENT, retrain_from_files
from tests import tiny

TRAINING = {"hidden": 8, "latent": 3, "epochs": 1, "steps_per_epoch": 2, "batch_size": 16, "holdout": 0.25}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "history.csv"
    frame = pd.DataFrame(tiny.wave(120), columns=list(tiny.FEATURES))
    frame.insert(0, "timestamp", pd.to_datetime(tiny.START_NS + np.arange(120) * tiny.MINUTE_NS, utc=True))
    frame.insert(1, "stream", "a")
    frame.to_csv(path, index=False)
    return path


def settings(directory: Path, **model: Any) -> Settings:
    return tiny.settings(model={"directory": directory, **TRAINING, **model})


def test_two_words_choose_the_model(data: Path, tmp_path: Path) -> None:
    retrain_from_files(settings(tmp_path, backbone="conv", regulariser="variational"), [data])

    made = Registry(tmp_path).load()[0].architecture
    assert (made.backbone, made.regulariser) == ("conv", "variational")


def test_the_strength_reaches_the_training(data: Path, tmp_path: Path) -> None:
    losses = []
    for strength in (None, 50.0):
        retrain_from_files(settings(tmp_path, regulariser="denoising", strength=strength), [data])
        losses.append(Registry(tmp_path).load()[0].report["held_out_loss"])

    assert losses[0] != losses[1]


@pytest.mark.parametrize("named", [True, False])
def test_a_warm_start_says_in_the_manifest_what_it_began_with(data: Path, tmp_path: Path, named: bool) -> None:
    chosen = settings(tmp_path)
    cold = retrain_from_files(chosen, [data])
    loss = Registry(tmp_path).manifest(cold)["fit"]["held_out_loss"]

    warm = retrain_from_files(chosen, [data], promote=False, warm_start=cold if named else CURRENT)

    fit = Registry(tmp_path).manifest(warm)["fit"]
    assert fit["warm_start"] == cold
    assert fit["held_out_loss"] < loss


def test_a_warm_start_from_another_make_is_a_configuration_error_that_names_what_differs(
    data: Path, tmp_path: Path
) -> None:
    version = retrain_from_files(settings(tmp_path), [data])

    with pytest.raises(
        ConfigError, match=rf"--warm-start: .*{version} is not: latent 2, not 3; backbone 'gru', not 'lstm'"
    ):
        retrain_from_files(settings(tmp_path, backbone="gru", latent=2), [data], warm_start=CURRENT)


def test_a_warm_start_needs_a_bundle(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no bundle is current"):
        retrain_from_files(settings(tmp_path), [data], warm_start=CURRENT)


def test_the_command_line_takes_a_version_or_the_current_one(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "streamer.yaml"
    options = ", ".join(f"{key}: {value}" for key, value in TRAINING.items())
    path.write_text(
        "records: {features: [heat, current]}\nwindow: {length: 16, patch: 4}\n"
        f"model: {{directory: b, {options}}}\n"
    )
    command = ["retrain", "--config", str(path), "--data", str(data)]

    codes = [main(command), main([*command, "--warm-start"])]
    first, second = capsys.readouterr().out.split()
    codes.append(main([*command, "--warm-start", first]))

    assert codes == [EXIT_OK] * 3
    assert Registry(tmp_path / "b").manifest(second)["fit"]["warm_start"] == first
    assert main([*command, "--warm-start", "20200101T000000Z-00000000"]) == EXIT_CONFIG


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("backbone: conv, layers: 4", "backbone conv halves the patches of a window in every layer"),
        ("regulariser: sparse-kl, latent: 1", "with latent 1 most windows would have no active unit"),
        ("strength: 0.1", "strength has no effect with regulariser plain; got 0.1"),
        (
            "regulariser: sparse, target_activation: 0.1",
            "an effect with regulariser sparse-kl alone; got 0.1 with sparse",
        ),
        ("regulariser: sparse-kl, target_activation: 1", r"model\.target_activation: .*less than 1"),
        ("regulariser: hope", r"model\.regulariser: wanted 'plain', .*; got 'hope'"),
    ],
)
def test_what_makes_no_sense_together_is_refused_before_anything_is_read(
    tmp_path: Path, model: str, words: str
) -> None:
    path = tmp_path / "streamer.yaml"
    path.write_text(f"records: {{features: [a]}}\nmodel: {{{model}}}\n")

    with pytest.raises(ConfigError, match=words):
        config.load(path, {})
