"""Samples of readings, written to files in every way that is read."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow

Rows = Sequence[Mapping[str, Any]]

PACK: Mapping[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda raw: bytes(pyarrow.compress(raw, "zstd", asbytes=True)),
}

DATES: Mapping[str, Callable[[pd.Timestamp], str]] = {
    "iso": lambda stamp: stamp.isoformat(),
    "iso with comma": lambda stamp: stamp.strftime("%Y-%m-%d %H:%M:%S,%f"),
    "year first": lambda stamp: stamp.strftime("%Y/%m/%d %H:%M:%S.%f"),
    "german": lambda stamp: stamp.strftime("%d.%m.%Y %H:%M:%S,%f"),
    "british": lambda stamp: stamp.strftime("%d/%m/%Y %H:%M:%S.%f"),
    "american": lambda stamp: stamp.strftime("%m/%d/%Y %I:%M:%S.%f %p"),
    "month by name": lambda stamp: stamp.strftime("%d-%b-%Y %H:%M:%S.%f"),
    "log": lambda stamp: stamp.strftime("%d/%b/%Y:%H:%M:%S.%f +0000"),
    "epoch": lambda stamp: f"{stamp.value // 10**9}.{stamp.value // 1000 % 10**6:06d}",
}


def csv(rows: Rows, *, delimiter: str = ",", decimal: str = ".", header: bool = True) -> str:
    """Rows as CSV; what holds the delimiter is quoted."""

    def cell(value: Any) -> str:
        text = "" if value is None else repr(value).replace(".", decimal) if isinstance(value, float) else str(value)
        return f'"{text}"' if delimiter in text else text

    lines = [delimiter.join(map(cell, row.values())) for row in rows]
    return "\n".join([delimiter.join(rows[0])] * header + lines) + "\n"


def json_lines(rows: Rows) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    """Text to a file, compressed as its name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(PACK.get(path.suffix, bytes)(text.encode(encoding)))
    return path
