"""The `files` section: how data files are written, where they do not say it themselves.

Not inside: which columns mean what (`records`), how files are read (`connectors.files`).
"""

from __future__ import annotations

import codecs
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from streamer.config.section import Section

_BY_NAME = {"tab": "\t", "space": " ", "comma": ",", "semicolon": ";"}


class FilesConfig(Section):
    """How the data files of `retrain`, `backtest` and `replay` are written; what is left out is found in the file."""

    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None  # of CSV, also tab; none: found
    decimal: Literal[".", ","] | None = None  # decimal point or comma in CSV; none: found
    thousands: Annotated[str, Field(min_length=1, max_length=1)] | None = None  # 1.234,5: "."; none: not used
    date_format: Annotated[str, Field(min_length=2, max_length=100)] | None = None  # e.g. "%d/%m/%Y %H:%M"; none: found
    timestamp: tuple[str, ...] = ()  # columns that make up the time, e.g. [Date, Time]; none: that of the records
    missing: tuple[str, ...] = ()  # words for no value, e.g. "?", besides an empty cell, NA, NaN, null and the like
    encoding: str | None = None  # of text, e.g. cp1252; none: UTF-8, or UTF-16 with its mark
    one_stream: bool = False  # a file without the stream column is one stream even if its times repeat or go back

    @field_validator("delimiter", mode="before")
    @classmethod
    def _named(cls, delimiter: object) -> object:
        return _BY_NAME.get(delimiter, delimiter) if isinstance(delimiter, str) else delimiter

    @field_validator("date_format")
    @classmethod
    def _has_codes(cls, date_format: str | None) -> str | None:
        if date_format is not None and "%" not in date_format:
            raise ValueError(f'wanted strptime codes such as "%d/%m/%Y %H:%M:%S"; got {date_format!r}')
        return date_format

    @field_validator("encoding")
    @classmethod
    def _known(cls, encoding: str | None) -> str | None:
        try:
            return None if encoding is None else codecs.lookup(encoding).name
        except LookupError:
            raise ValueError(f"wanted an encoding such as utf-8, cp1252 or utf-16; got {encoding!r}") from None

    @model_validator(mode="after")
    def _apart(self) -> FilesConfig:
        if self.thousands is not None and self.thousands == self.decimal:
            raise ValueError(f"decimal and thousands must differ; got {self.decimal!r} for both")
        return self
