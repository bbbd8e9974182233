"""The catalogue is what a scrape shows, and series of single streams are capped and go with their stream."""

from __future__ import annotations

from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from streamer.core.alerts import Attribution
from streamer.core.events import KINDS
from streamer.formats.rejects import REASONS
from streamer.observability.metrics import CATALOGUE, Metrics, StreamSeries

Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]

# The contract with dashboards and rules, without the prefix.
PROMISED = [
    "records_consumed_total",
    "records_windowed_total",
    "records_duplicate_total",
    "records_late_total",
    "readings_corrected_total",
    "records_dead_lettered_total",
    "records_rejected_total",
    "records_replayed_total",
    "filled_values_total",
    "windows_sparse_total",
    "windows_scored_total",
    "scoring_failures_total",
    "window_resets_total",
    "incidents_opened_total",
    "incidents_resolved_total",
    "alerts_published_total",
    "delivery_failures_total",
    "checkpoints_total",
    "checkpoint_failures_total",
    "commits_total",
    "commit_failures_total",
    "model_reloads_total",
    "model_reload_failures_total",
    "scoring_duration_seconds",
    "checkpoint_duration_seconds",
    "state_write_duration_seconds",
    "state_restore_duration_seconds",
    "state_bytes",
    "event_to_score_seconds",
    "consumer_lag_records",
    "partitions_assigned",
    "topic_partitions",
    "streams_tracked",
    "incidents_open",
    "alerts_pending",
    "ready",
    "last_poll_timestamp_seconds",
    "last_record_timestamp_seconds",
    "last_event_timestamp_seconds",
    "last_window_scored_timestamp_seconds",
    "last_checkpoint_timestamp_seconds",
    "last_commit_timestamp_seconds",
    "model_info",
    "model_trained_timestamp_seconds",
    "build_info",
    "stream_series_dropped",
    "anomaly_score_ratio",
    "reconstruction_error",
    "anomaly_active",
    "stream_last_event_timestamp_seconds",
    "feature_error_share",
    "feature_observed",
    "feature_expected",
]


def scrape(metrics: Metrics) -> str:
    """What `/metrics` answers."""
    status: list[str] = []
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/metrics", "QUERY_STRING": "", "HTTP_ACCEPT": "text/plain"}
    body = b"".join(metrics.app()(environ, lambda code, headers: status.append(code)))
    assert status == ["200 OK"]
    return body.decode()


def series(text: str) -> Series:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def of(found: Series, name: str) -> dict[tuple[str, ...], float]:
    return {tuple(v for _, v in labels): value for (n, labels), value in found.items() if n == f"streamer_{name}"}


def view(stream: str = "s", parts: tuple[Attribution, ...] = ()) -> StreamSeries:
    return StreamSeries(stream, 0.5, 0.75, 1.5, bool(parts), 1.7e9, parts)


def test_every_promised_metric_is_in_the_catalogue() -> None:
    assert {f"streamer_{name}" for name in PROMISED} <= set(CATALOGUE)


def test_a_scrape_shows_the_catalogue_and_nothing_else() -> None:
    metrics = Metrics(CollectorRegistry(), lambda: [view(parts=(Attribution("heat", 1.0, 2.0, 3.0),))])
    metrics.consumer_lag.labels("0").set(1)
    metrics.sink_deliveries.labels("ops", "delivered").inc()
    for one in (metrics.sink_failures, metrics.sink_backlog, metrics.sink_oldest):
        one.labels("ops")
    metrics.not_ready.labels("starting").set(1)
    metrics.model_info.labels("v", "lstm", "plain").set(1)

    found = series(scrape(metrics))

    ours = {name: {key for key, _ in labels} for name, labels in found if name.startswith("streamer_")}
    declared = {name: set(labels) for name, labels in CATALOGUE.items() if f"{name}_bucket" not in CATALOGUE}
    assert ours == declared
    others = {name.split("_")[0] for name, _ in found if not name.startswith("streamer_")}
    assert others <= {"process", "python"}
    assert "python" in others


def test_names_end_in_their_kind_and_have_help() -> None:
    text = scrape(Metrics(CollectorRegistry()))

    for family in text_string_to_metric_families(text):
        assert family.documentation, family.name
        if family.name.startswith("streamer_") and family.type == "counter":
            assert f"{family.name}_total" in CATALOGUE


def test_series_of_known_labels_are_there_before_their_first_event() -> None:
    found = series(scrape(Metrics(CollectorRegistry())))

    reasons = {label for (label,) in of(found, "records_dead_lettered_total")}
    assert reasons | {label for (label,) in of(found, "records_rejected_total")} == set(REASONS)
    assert set(of(found, "alerts_published_total")) == {("open",), ("update",), ("resolve",)}
    assert set(of(found, "streams_tracked")) == {("warming",), ("active",), ("alerting",), ("silent",)}
    assert set(of(found, "incidents_open")) == {(kind,) for kind in KINDS}
    assert not of(found, "anomaly_score_ratio")


def test_two_instances_do_not_share_counters() -> None:
    one, other = Metrics(CollectorRegistry()), Metrics(CollectorRegistry())

    one.records_consumed.inc(5)
    one.post(held=0)

    assert of(series(scrape(one)), "records_consumed_total") == {(): 5}
    assert of(series(scrape(other)), "records_consumed_total") == {(): 0}


def test_streams_come_and_go_with_the_view() -> None:
    shown = [view("a"), view("b", (Attribution("heat", 1.0, 2.0, 3.0),))]
    metrics = Metrics(CollectorRegistry(), lambda: shown)
    app = metrics.app()
    metrics.app = lambda: app  # type: ignore[method-assign]

    both = series(scrape(metrics))
    shown = [view("a")]
    one = series(scrape(metrics))

    assert of(both, "anomaly_score_ratio") == {("a",): 0.5, ("b",): 0.5}
    assert of(both, "settled_score_ratio") == {("a",): 0.75, ("b",): 0.75}
    assert of(both, "feature_observed") == {("heat", "b"): 2.0}
    assert of(both, "anomaly_active") == {("a",): 0, ("b",): 1}
    assert of(one, "anomaly_score_ratio") == {("a",): 0.5}
    assert of(one, "feature_observed") == {}


def test_a_stream_without_a_score_shows_none() -> None:
    metrics = Metrics(CollectorRegistry(), lambda: [StreamSeries("a", None, None, None, False, 1.0)])

    found = series(scrape(metrics))

    assert of(found, "anomaly_score_ratio") == of(found, "settled_score_ratio") == {}
    assert of(found, "stream_last_event_timestamp_seconds") == {("a",): 1.0}
