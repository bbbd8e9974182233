"""The section `rules`: names of fields are checked when the configuration is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamer import config
from streamer.core.rules import BookRule, PriceRule, QuoteRule
from streamer.errors import ConfigError


def rules(path: Path, text: str, records: str = "features: [bid, ask, price]") -> config.Settings:
    file = path / "streamer.yaml"
    file.write_text(f"records: {{{records}}}\nrules: {text}\n")
    return config.load(file, {})


def test_rules_name_fields_of_the_records(tmp_path: Path) -> None:
    settings = rules(
        tmp_path,
        "{crossed_book: {longer_than: 2s}, power_of_ten: {field: price}, stale_quote: {after: 5m}, sequence_gap: true}",
        "features: [ask, bid, price], sequence: number",
    )

    options = settings.pipeline_options().rules

    assert options.book == BookRule(bid=1, ask=0, longer_than_ns=2_000_000_000)
    assert options.price == PriceRule(2, "price")
    assert options.quote == QuoteRule((1, 0), 300_000_000_000)
    assert options.sequence


def test_without_the_section_no_rule_is_on(tmp_path: Path) -> None:
    assert not rules(tmp_path, "{}").pipeline_options().rules.active


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{power_of_ten: {field: pricce}}", "rules.power_of_ten.field: wanted one of records.features"),
        ("{crossed_book: {bid: b}}", "rules.crossed_book.bid: wanted one of records.features"),
        ("{sequence_gap: true}", "rules.sequence_gap needs records.sequence"),
        ("{crossed_book: {longer: 1s}}", "rules.crossed_book.longer"),
    ],
)
def test_a_rule_about_what_is_not_sent_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        rules(tmp_path, text)
