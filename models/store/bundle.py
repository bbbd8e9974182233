"""One versioned directory that holds all a detector needs to live.

    <version>/
      weights.safetensors       network weights, the tables of scaler and baseline, the alert line
      calibration.safetensors   evidence that the line is computed from, under any policy
      streams.json              the streams the tables' rows belong to
      manifest.json             architecture, features, policy, fit report, library
                                versions, data fingerprint, sha256 and size of each file

No pickle: loading a bundle runs no code of its author. Everything read is bounded
and checked against the manifest before a tensor is built. Bundles of format 2, which hold no
calibration data, are read too; their line is fixed. Not inside: which bundle is current (`registry`).
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import asdict, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from models.detector import Detector
from models.errors import ArtifactError, PolicyError, ShapeError
from models.network.architecture import Architecture, check_context
from models.network.autoencoder import Autoencoder
from models.scaling import RobustScaler
from models.scoring.alert_line import AlertPolicy, CalibrationEvidence
from models.scoring.baseline import Baseline
from models.scoring.errors import Scales

FORMAT = 3
_READABLE = (2, 3)
# What tables were called in format 2.
_OLD_NAMES = {"typical": "usual", "channel_typical": "head_usual", "channel_spread": "head_spread"}
VERSION = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}")
MANIFEST = "manifest.json"
WEIGHTS = "weights.safetensors"
CALIBRATION = "calibration.safetensors"
STREAMS = "streams.json"
MAX_MANIFEST_BYTES = 1 << 20
MAX_FILE_BYTES = 4 << 30


def save(
    detector: Detector,
    directory: Path,
    *,
    created: datetime,
    fingerprint: str,
    trained_on: Mapping[str, Any] | None = None,
) -> str:
    """Write a detector into an empty `directory` and fsync it.

    Args:
        detector: What to store.
        directory: Exists and is empty; the caller moves it into place (`registry`).
        created: Moment of the fit, with a time zone.
        fingerprint: Digest of the training data.
        trained_on: Up to where the training data reaches in the topic it came from:
            `{"topic": ..., "partitions": {"0": next offset, ...}}`; None if it came from files.

    Returns:
        The version: creation time and a digest of the content, e.g. `20260102T030405Z-1a2b3c4d`.
    """
    tensors = {f"network.{name}": value.contiguous() for name, value in detector.network.state_dict().items()}
    scaler = {"center": detector.scaler.center, "width": detector.scaler.width}
    tables = {**scaler, **detector.baseline.tables(), "line": detector.line}
    tensors |= {f"table.{name}": torch.from_numpy(table) for name, table in tables.items()}
    files = {WEIGHTS: save_tensors(tensors), STREAMS: json.dumps(detector.streams).encode()}
    if detector.calibration is not None:
        kept = detector.calibration.tables().items()
        files[CALIBRATION] = save_tensors({name: torch.from_numpy(table) for name, table in kept})
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    stamp = created.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    version = f"{stamp}-{hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()[:8]}"
    manifest = {
        "format": FORMAT,
        "version": version,
        "created": created.astimezone(UTC).isoformat(timespec="seconds"),
        "architecture": detector.architecture.to_dict(),
        "features": list(detector.features),
        **({"context": list(detector.context)} if detector.context else {}),
        "streams": len(detector.streams),
        "interval_s": detector.interval_s,
        "policy": asdict(detector.policy),
        "fit": detector.report,
        "data_fingerprint": fingerprint,
        "trained_on": None if trained_on is None else dict(trained_on),
        "libraries": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "safetensors": safetensors.__version__,
        },
        "files": {name: {"sha256": digests[name], "bytes": len(content)} for name, content in files.items()},
    }
    files[MANIFEST] = json.dumps(manifest, indent=2, allow_nan=False).encode() + b"\n"
    for name, content in files.items():
        with (directory / name).open("wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    return version


def read_manifest(directory: Path) -> dict[str, Any]:
    """The manifest alone, without loading weights.

    Raises:
        ArtifactError: Missing, too large, not JSON, or of another format.
    """
    content = _read(directory / MANIFEST, MAX_MANIFEST_BYTES)
    try:
        manifest = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{directory / MANIFEST}: wanted JSON; {error}") from None
    if not isinstance(manifest, dict) or manifest.get("format") not in _READABLE:
        got = manifest.get("format") if isinstance(manifest, dict) else type(manifest).__name__
        raise ArtifactError(f"{directory / MANIFEST}: wanted format {FORMAT}; got {got!r}: run `streamer retrain`")
    return manifest


def load(directory: Path) -> tuple[Detector, dict[str, Any]]:
    """A detector and its manifest, every file checked against its digest.

    Raises:
        ArtifactError: A file is missing, changed, too large, or does not fit the architecture.
    """
    manifest = read_manifest(directory)
    try:
        files, architecture = manifest["files"], Architecture(**manifest["architecture"])
        features = tuple(str(name) for name in manifest["features"])
        context = tuple(str(name) for name in manifest.get("context", ()))
        check_context(context, architecture)
        interval_s = float(manifest["interval_s"])
        report = dict(manifest["fit"])
        policy = AlertPolicy(**_policy_settings(manifest))
        if not VERSION.fullmatch(str(manifest["version"])):
            raise ValueError(f"version {manifest['version']!r}")
        datetime.strptime(str(manifest["version"])[:16], "%Y%m%dT%H%M%SZ")  # a month 13 is no version either
        names = [WEIGHTS, STREAMS] + ([CALIBRATION] if CALIBRATION in files else [])
        contents = {name: _checked(directory / name, files[name]) for name in names}
        streams = tuple(str(name) for name in json.loads(contents[STREAMS]))
    except (KeyError, TypeError, ValueError, RecursionError, PolicyError) as error:
        raise ArtifactError(f"{directory / MANIFEST}: incomplete or wrong: {error!r}") from None
    if architecture.features != len(features) or not np.isfinite(interval_s) or interval_s <= 0:
        raise ArtifactError(f"{directory / MANIFEST}: features or interval_s do not fit together")
    tensors = _tensors(directory / WEIGHTS, contents[WEIGHTS])
    tables = _take_tables(directory / WEIGHTS, tensors, architecture, 1 + len(streams), manifest["format"])
    calibration = None
    if CALIBRATION in contents:
        calibration = _calibration(directory / CALIBRATION, contents[CALIBRATION], len(streams))
    network = _network(directory / WEIGHTS, tensors, architecture)
    scaler, line = RobustScaler(tables.pop("center"), tables.pop("width")), tables.pop("line")
    baseline = Baseline(**tables)
    detector = Detector(
        network,
        features,
        streams,
        scaler,
        baseline,
        line,
        interval_s,
        report,
        policy=policy,
        calibration=calibration,
        context=context,
    )
    return detector, manifest


def _policy_settings(manifest: dict[str, Any]) -> dict[str, Any]:
    """Those of the policy that the line was computed for."""
    if manifest["format"] == 2:
        return {name: manifest["fit"][name] for name in ("budget_per_stream_per_week", "open_after", "open_within")}
    wanted, found = {field.name for field in fields(AlertPolicy)}, dict(manifest["policy"])
    if set(found) != wanted:
        raise ValueError(f"policy must have {sorted(wanted)}; got {sorted(found)[:9]}")
    return found


def _tensors(path: Path, content: bytes) -> dict[str, Tensor]:
    try:
        return load_tensors(content)
    except (safetensors.SafetensorError, ValueError) as error:
        raise ArtifactError(f"{path}: not readable as safetensors: {error}") from None


def _take_tables(
    path: Path, tensors: dict[str, Tensor], architecture: Architecture, rows: int, format_: int
) -> dict[str, np.ndarray]:
    """Tables of scaler, baseline and line, taken out of the tensors; what is left is the network's."""
    scaled = (rows, architecture.features)
    shapes = Baseline.shapes(rows, len(Scales.of(architecture)), architecture.features)
    tables = {}
    for name, wanted in {"center": scaled, "width": scaled, **shapes, "line": (rows,)}.items():
        stored = _OLD_NAMES.get(name, name) if format_ == 2 else name
        table = tensors.pop(f"table.{stored}", None)
        shape = None if table is None else tuple(table.shape)
        if table is None or shape != wanted or table.dtype != torch.float32 or not table.isfinite().all():
            raise ArtifactError(f"{path}: table {stored!r} must be finite {wanted}; got {shape}")
        if name in ("width", "floor", "spread", "channel_spread") and not (table > 0).all():
            raise ArtifactError(f"{path}: table {stored!r} must be positive")
        tables[name] = table.numpy()
    return tables


def _calibration(path: Path, content: bytes, streams: int) -> CalibrationEvidence:
    tensors = _tensors(path, content)
    wanted = {field.name for field in fields(CalibrationEvidence)}
    if set(tensors) != wanted or any(t.dtype not in (torch.float32, torch.int64) for t in tensors.values()):
        raise ArtifactError(f"{path}: wanted tensors {sorted(wanted)} as float32 and int64; got {sorted(tensors)[:9]}")
    evidence = CalibrationEvidence(**{name: tensor.numpy() for name, tensor in tensors.items()})
    if flaw := evidence.flaw(streams):
        raise ArtifactError(f"{path}: {flaw}")
    return evidence


def _network(path: Path, tensors: dict[str, Tensor], architecture: Architecture) -> Autoencoder:
    """The network with its weights; shapes are compared before memory is taken, for a manifest may claim any size."""
    try:
        if architecture.layers > len(tensors):  # even without memory, a billion layers take for ever
            raise ShapeError(f"{architecture.layers} layers, and {len(tensors)} tensors of weights")
        with torch.device("meta"):
            network = Autoencoder(architecture)
        weights = {name.removeprefix("network."): value for name, value in tensors.items()}
        other = [name for name, value in weights.items() if value.dtype != torch.float32]
        if other:
            raise ShapeError(f"weights must be 32-bit floats; {other[:3]} are not")
        network.load_state_dict(weights, assign=True)
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:  # torch says so of sizes beyond all bounds
        said = " ".join(str(error).split())[:400]
        raise ArtifactError(f"{path}: does not fit the architecture: {said}") from None
    if not all(value.isfinite().all() for value in network.state_dict().values()):
        raise ArtifactError(f"{path}: holds weights that are not finite")
    return network.eval()


def _checked(path: Path, entry: dict[str, Any]) -> bytes:
    content = _read(path, min(MAX_FILE_BYTES, int(entry["bytes"])))
    digest = hashlib.sha256(content).hexdigest()
    if digest != entry["sha256"]:
        raise ArtifactError(f"{path}: wanted sha256 {entry['sha256']}; got {digest}: the file was changed or cut short")
    return content


def _read(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise ArtifactError(f"{path}: wanted a readable file; {error.strerror}") from None
    if len(content) > limit:
        raise ArtifactError(f"{path}: wanted at most {limit} bytes; it is larger")
    return content
