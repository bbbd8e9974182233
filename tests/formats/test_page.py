"""The samples of docs/formats.md are what they say: each decodes with the configuration above it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from streamer.config import Settings
from streamer.core.keyed_state import KeyedState
from streamer.formats import decoder_of, framed
from streamer.formats.rejects import REASONS
from tests.messages import batch

PAGE = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
SAMPLES = re.findall(r"^## ([^\n]+)\n(?:(?!^## ).)*?```yaml\n(.*?)```\n\n```(?:json|text)\n(.*?)```", PAGE, re.S | re.M)


@pytest.mark.parametrize(("title", "configuration", "sample"), SAMPLES, ids=[title for title, *_ in SAMPLES])
def test_a_sample_decodes_with_its_configuration(title: str, configuration: str, sample: str) -> None:
    settings = Settings.model_validate(yaml.safe_load(configuration))
    streams = KeyedState()

    decoded = decoder_of(settings.format_options(), streams).decode(batch([sample.encode()]))

    assert decoded.rejects == []
    assert len(decoded.readings) >= 1
    assert all(re.match(r"press-7|hall-3/press", name) for name in streams.names)


def test_the_page_has_a_sample_of_every_shape_and_names_every_format_and_reason() -> None:
    assert len(SAMPLES) == 5
    registry = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", PAGE, re.S)[-1])
    registry["schema_registry"]["password"] = "from a file"
    Settings.model_validate(registry)
    for word in (*REASONS, *framed.FORMATS, "csv", "tsv", "influx", "msgpack"):
        assert word in PAGE, word
