"""A bundle comes back as it went in, or not at all."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from models.detector import Detector
from models.errors import ArtifactError, PolicyError
from models.fitting.fit import fit
from models.fitting.training import TrainingOptions
from models.network.architecture import Architecture
from models.scoring.alert_line import AlertPolicy
from models.store import bundle
from models.store.bundle import CALIBRATION, MANIFEST, STREAMS, VERSION, WEIGHTS
from tests import tiny

CREATED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def saved(tiny_detector: Detector, tmp_path: Path) -> Path:
    bundle.save(tiny_detector, tmp_path, created=CREATED, fingerprint="f1")
    return tmp_path


def edit_manifest(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((directory / MANIFEST).read_text())
    change(manifest)
    (directory / MANIFEST).write_text(json.dumps(manifest))


def replace_file(directory: Path, name: str, content: bytes) -> None:
    """Another content, with a manifest that vouches for it."""
    (directory / name).write_bytes(content)
    entry = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    edit_manifest(directory, lambda manifest: manifest["files"].update({name: entry}))


def edit_tensor(directory: Path, name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    tensors = load_tensors((directory / WEIGHTS).read_bytes())
    tensors[name] = change(tensors[name])
    replace_file(directory, WEIGHTS, save_tensors(tensors))


def test_a_loaded_detector_scores_exactly_as_the_saved_one(saved: Path, tiny_detector: Detector) -> None:
    windows = np.random.default_rng(0).normal(size=(9, 16, 2)).astype(np.float32)
    rows = np.arange(9) % 3

    loaded, manifest = bundle.load(saved)

    for one, other in zip(loaded.score(windows, rows), tiny_detector.score(windows, rows), strict=True):
        assert np.array_equal(one, other)
    assert (loaded.features, loaded.streams) == (tiny_detector.features, tiny_detector.streams)
    assert loaded.interval_s == tiny_detector.interval_s
    assert np.array_equal(loaded.line, tiny_detector.line)
    assert loaded.report == json.loads(json.dumps(tiny_detector.report))
    assert manifest["data_fingerprint"] == "f1"


def test_the_manifest_says_all_that_the_design_asks_for(saved: Path) -> None:
    manifest = bundle.read_manifest(saved)

    assert manifest["architecture"]["window"] == 16
    assert manifest["architecture"]["patch"] == 4
    assert manifest["features"] == ["heat", "current"]
    assert {"torch", "numpy", "python", "safetensors"} <= set(manifest["libraries"])
    assert manifest["created"] == "2026-01-02T03:04:05+00:00"
    for name, entry in manifest["files"].items():
        content = (saved / name).read_bytes()
        assert entry == {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    assert sorted(path.name for path in saved.iterdir()) == sorted([*manifest["files"], MANIFEST])


def test_the_version_is_the_moment_in_utc_and_a_digest_of_the_content(tiny_detector: Detector, tmp_path: Path) -> None:
    versions = []
    moments = [CREATED, CREATED.astimezone(timezone(timedelta(hours=5))), CREATED]
    detectors = [
        tiny_detector,
        tiny_detector,
        tiny.with_tables(tiny_detector, typical=2 * tiny_detector.baseline.typical),
    ]
    for i, (moment, one) in enumerate(zip(moments, detectors, strict=True)):
        (tmp_path / str(i)).mkdir()
        versions.append(bundle.save(one, tmp_path / str(i), created=moment, fingerprint=""))

    assert all(VERSION.fullmatch(version) for version in versions)
    assert versions[0] == versions[1] != versions[2]
    assert versions[0].startswith("20260102T030405Z-")


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from([WEIGHTS, CALIBRATION, STREAMS]),
    where=st.floats(0, 1, exclude_max=True),
    bit=st.integers(0, 7),
)
def test_a_flipped_bit_in_any_file_is_refused(saved: Path, name: str, where: float, bit: int) -> None:
    content = (saved / name).read_bytes()
    damaged = bytearray(content)
    damaged[int(where * len(content))] ^= 1 << bit
    (saved / name).write_bytes(damaged)

    with pytest.raises(ArtifactError, match="wanted sha256"):
        bundle.load(saved)
    (saved / name).write_bytes(content)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255))
def test_a_damaged_manifest_is_refused_or_harmless(saved: Path, where: float, byte: int) -> None:
    content = (saved / MANIFEST).read_bytes()
    damaged = bytearray(content)
    damaged[int(where * len(content))] = byte
    (saved / MANIFEST).write_bytes(damaged)

    try:
        loaded, _ = bundle.load(saved)
    except ArtifactError:
        pass
    else:
        assert np.isfinite(loaded.line).all()
    (saved / MANIFEST).write_bytes(content)


@pytest.mark.parametrize("name", [WEIGHTS, CALIBRATION, STREAMS, MANIFEST])
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_a_file_cut_short_is_refused(saved: Path, name: str, keep: float) -> None:
    content = (saved / name).read_bytes()
    (saved / name).write_bytes(content[: int(keep * len(content))])

    with pytest.raises(ArtifactError, match=name):
        bundle.load(saved)


@pytest.mark.parametrize("name", [WEIGHTS, CALIBRATION, STREAMS, MANIFEST])
def test_a_missing_file_is_named(saved: Path, name: str) -> None:
    (saved / name).unlink()

    with pytest.raises(ArtifactError, match=f"{name}: wanted a readable file; No such file"):
        bundle.load(saved)


def test_a_file_longer_than_the_manifest_says_is_not_read_to_its_end(saved: Path) -> None:
    with (saved / WEIGHTS).open("ab") as file:
        file.write(b"x")

    with pytest.raises(ArtifactError, match=r"wanted at most \d+ bytes; it is larger"):
        bundle.load(saved)


def test_an_oversize_manifest_is_refused_unread(saved: Path) -> None:
    (saved / MANIFEST).write_bytes(b" " * (bundle.MAX_MANIFEST_BYTES + 1) + (saved / MANIFEST).read_bytes())

    with pytest.raises(ArtifactError, match="at most 1048576 bytes"):
        bundle.load(saved)


class Trap:
    """Unpickling it would call `touch`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.path,)


def test_a_pickle_in_place_of_weights_is_refused_and_never_run(saved: Path) -> None:
    ran = saved / "ran"
    payload = pickle.dumps(Trap(ran))
    pickle.loads(payload)
    assert ran.exists(), "the trap works"
    ran.unlink()
    replace_file(saved, WEIGHTS, payload)

    with pytest.raises(ArtifactError, match="not readable as safetensors"):
        bundle.load(saved)

    assert not ran.exists()


def test_a_torch_checkpoint_in_place_of_weights_is_refused_and_never_run(saved: Path) -> None:
    ran = saved / "ran"
    torch.save({"trap": Trap(ran)}, saved / "checkpoint")
    replace_file(saved, WEIGHTS, (saved / "checkpoint").read_bytes())

    with pytest.raises(ArtifactError, match="not readable as safetensors"):
        bundle.load(saved)

    assert not ran.exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.pop("files"),
        lambda m: m.pop("architecture"),
        lambda m: m.update(architecture=[]),
        lambda m: m["architecture"].update(window=15),
        lambda m: m["architecture"].update(hidden=17),
        lambda m: m["architecture"].update(layers=10**9),
        lambda m: m["architecture"].update(backbone="conv", layers=10**12),
        lambda m: m["architecture"].update(backbone="pickle"),
        lambda m: m["architecture"].update(surprise=1),
        lambda m: m.update(features=["heat"]),
        lambda m: m.update(interval_s=float("nan")),
        lambda m: m.update(interval_s="long"),
        lambda m: m.update(interval_s=None),
        lambda m: m.update(interval_s=0),
        lambda m: m.update(interval_s=float("inf")),
        lambda m: m["files"][WEIGHTS].update(bytes="many"),
        lambda m: m["files"][WEIGHTS].pop("sha256"),
        lambda m: m.update(fit=3),
        lambda m: m.pop("policy"),
        lambda m: m.update(policy=3),
        lambda m: m["policy"].pop("stride"),
        lambda m: m["policy"].update(stride=0),
        lambda m: m["policy"].update(open_after="3"),
        lambda m: m["policy"].update(open_after=9),
        lambda m: m["policy"].update(budget_per_stream_per_week=float("inf")),
        lambda m: m["policy"].update(surprise=1),
    ],
)
def test_a_manifest_that_does_not_fit_together_is_refused(
    saved: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    edit_manifest(saved, change)

    with pytest.raises(ArtifactError):
        bundle.load(saved)


@pytest.mark.parametrize("text", ["", "[]", "null", '{"format": 1}', '{"format": "2"}', "{", "[" * 100_000, "\x00"])
def test_what_is_no_manifest_of_this_format_is_refused(saved: Path, text: str) -> None:
    (saved / MANIFEST).write_text(text)

    with pytest.raises(ArtifactError, match=r"wanted (JSON|format 3)"):
        bundle.read_manifest(saved)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("table.center", lambda t: t[:1]),
        ("table.center", lambda t: t * torch.nan),
        ("table.width", lambda t: t * 0),
        ("table.width", lambda t: -t),
        ("table.typical", lambda t: t[:, :1].contiguous()),
        ("table.typical", lambda t: t.double()),
        ("table.floor", lambda t: t * torch.inf),
        ("table.line", lambda t: t * torch.nan),
        ("network.head.bias", lambda t: t[:1]),
        ("network.head.bias", lambda t: t * torch.nan),
    ],
)
def test_tensors_of_the_wrong_shape_or_not_finite_are_refused(
    saved: Path, name: str, change: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    edit_tensor(saved, name, change)

    with pytest.raises(ArtifactError, match=WEIGHTS):
        bundle.load(saved)


def test_a_missing_or_a_surplus_tensor_is_refused(saved: Path) -> None:
    tensors = load_tensors((saved / WEIGHTS).read_bytes())

    for wrong in ({k: v for k, v in tensors.items() if k != "network.head.bias"}, tensors | {"more": torch.ones(1)}):
        replace_file(saved, WEIGHTS, save_tensors(wrong))
        with pytest.raises(ArtifactError):
            bundle.load(saved)


def test_more_stream_names_than_table_rows_are_refused(saved: Path) -> None:
    replace_file(saved, STREAMS, json.dumps(["a", "b", "c"]).encode())

    with pytest.raises(ArtifactError, match=r"must be finite \(4, 2\); got \(3, 2\)"):
        bundle.load(saved)


def test_a_manifest_without_a_proper_version_is_refused(saved: Path) -> None:
    edit_manifest(saved, lambda manifest: manifest.update(version="../../latest"))

    with pytest.raises(ArtifactError):
        bundle.load(saved)


def edit_calibration(directory: Path, name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    tensors = load_tensors((directory / CALIBRATION).read_bytes())
    tensors[name] = change(tensors[name])
    replace_file(directory, CALIBRATION, save_tensors(tensors))


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("values", lambda t: t * torch.nan, "values must be finite"),
        ("values", lambda t: t[1:].clone(), "counts must be positive and sum to"),
        ("values", lambda t: t.double(), "wanted tensors .* as float32 and int64"),
        ("values", lambda t: t.to(torch.bfloat16), "wanted tensors .* as float32 and int64"),
        ("values", lambda t: t[:, None], "values must be a row of float32"),
        ("counts", lambda t: t + 1, "counts must be positive and sum to"),
        ("counts", lambda t: torch.tensor([0, int(t.sum())]), "counts must be positive"),
        ("counts", lambda t: torch.tensor([-1, int(t.sum()) + 1]), "counts must be positive"),
        ("counts", lambda t: torch.tensor([2**62, 2**62]), "counts must be positive"),
        ("counts", lambda t: t[:1], "wanted counts of 2 streams; got 1"),
        ("counts", lambda t: t.float(), "counts must be a row of int64"),
        ("held_out", lambda t: t * 0, "held-out counts must be at least 1"),
        ("held_out", lambda t: t + 10**9, "held-out counts must be"),
        ("stand_in_counts", lambda t: t - 1, "counts must be positive and sum to"),
        ("stand_in_values", lambda t: t + torch.inf, "values must be finite"),
    ],
)
def test_calibration_data_that_does_not_fit_together_is_refused(
    saved: Path, name: str, change: Callable[[torch.Tensor], torch.Tensor], words: str
) -> None:
    edit_calibration(saved, name, change)

    with pytest.raises(ArtifactError, match=rf"{CALIBRATION}: {words}"):
        bundle.load(saved)


def test_a_missing_or_a_surplus_table_of_calibration_is_refused(saved: Path) -> None:
    tensors = load_tensors((saved / CALIBRATION).read_bytes())

    for wrong in ({k: v for k, v in tensors.items() if k != "counts"}, tensors | {"more": torch.ones(1)}):
        replace_file(saved, CALIBRATION, save_tensors(wrong))
        with pytest.raises(ArtifactError, match="wanted tensors"):
            bundle.load(saved)


def test_a_loaded_detector_takes_another_policy_as_the_saved_one_does(saved: Path, tiny_detector: Detector) -> None:
    policy = AlertPolicy(budget_per_stream_per_week=30, open_after=2, open_within=2, stride=2)

    loaded, _ = bundle.load(saved)

    assert loaded.policy == tiny_detector.policy
    assert np.array_equal(loaded.with_policy(policy).line, tiny_detector.with_policy(policy).line)


def make_format_2(directory: Path) -> None:
    """The bundle as the version before wrote it."""
    old = {"table.typical": "table.usual", "table.channel_typical": "table.head_usual"}
    old["table.channel_spread"] = "table.head_spread"
    tensors = load_tensors((directory / WEIGHTS).read_bytes())
    replace_file(directory, WEIGHTS, save_tensors({old.get(name, name): value for name, value in tensors.items()}))
    (directory / CALIBRATION).unlink()

    def change(manifest: dict[str, Any]) -> None:
        manifest["format"] = 2
        del manifest["policy"], manifest["files"][CALIBRATION], manifest["fit"]["stride"]

    edit_manifest(directory, change)


def test_a_bundle_of_the_format_before_scores_as_ever_under_its_own_policy(
    saved: Path, tiny_detector: Detector
) -> None:
    make_format_2(saved)
    windows = np.random.default_rng(0).normal(size=(9, 16, 2)).astype(np.float32)
    rows = np.arange(9) % 3

    loaded, _ = bundle.load(saved)

    assert np.array_equal(loaded.score(windows, rows)[0], tiny_detector.score(windows, rows)[0])
    assert loaded.with_policy(AlertPolicy(1.0, 3, 5)) is loaded


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        (AlertPolicy(stride=4), "stride 4, not 1"),
        (AlertPolicy(budget_per_stream_per_week=500), "budget_per_stream_per_week 500, not 1"),
        (AlertPolicy(open_after=1, open_within=1), "open_after 1, not 3, open_within 1, not 5"),
    ],
)
def test_a_bundle_of_the_format_before_refuses_another_policy_and_says_what_to_do(
    saved: Path, policy: AlertPolicy, says: str
) -> None:
    make_format_2(saved)
    loaded, _ = bundle.load(saved)

    with pytest.raises(PolicyError, match=f"line of this bundle is fixed.*{says}.*run `streamer retrain`"):
        loaded.with_policy(policy)


@pytest.mark.parametrize("missing", ["budget_per_stream_per_week", "open_after"])
def test_a_bundle_of_the_format_before_without_its_policy_is_refused(saved: Path, missing: str) -> None:
    make_format_2(saved)
    edit_manifest(saved, lambda manifest: manifest["fit"].pop(missing))

    with pytest.raises(ArtifactError, match="incomplete or wrong"):
        bundle.load(saved)


@pytest.fixture
def saved_with_context(tmp_path: Path) -> Path:
    clock = np.stack([np.sin(np.arange(300) / 4), np.cos(np.arange(300) / 4)], 1).astype(np.float32)
    detector = fit(
        {"a": np.concatenate([tiny.wave(300), clock], 1)},
        tiny.FEATURES,
        Architecture(features=2, context=2, window=16, patch=4, hidden=4, latent=2),
        interval_s=60,
        context=["time-of-day"],
        options=TrainingOptions(epochs=1, steps_per_epoch=1, batch_size=4),
    )
    bundle.save(detector, tmp_path, created=CREATED, fingerprint="")
    return tmp_path


def test_a_bundle_says_what_context_it_was_trained_with(saved_with_context: Path) -> None:
    loaded, manifest = bundle.load(saved_with_context)

    assert loaded.context == ("time-of-day",)
    assert manifest["context"] == ["time-of-day"]
    assert loaded.architecture.context == manifest["architecture"]["context"] == 2


def test_a_bundle_without_a_context_is_written_as_before_there_was_one(saved: Path) -> None:
    manifest = bundle.read_manifest(saved)

    assert "context" not in manifest
    assert "context" not in manifest["architecture"]
    assert bundle.load(saved)[0].context == ()


@pytest.mark.parametrize("names", [[], ["a", "b", "c"], None, 7])
def test_a_context_that_does_not_fit_the_network_is_refused(saved_with_context: Path, names: Any) -> None:
    edit_manifest(saved_with_context, lambda manifest: manifest.update(context=names))

    with pytest.raises(ArtifactError, match="incomplete or wrong"):
        bundle.load(saved_with_context)
