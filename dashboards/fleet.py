"""The fleet: is any stream anomalous, and is the daemon healthy? uid `streamer-fleet`.

Ordered for an operator on call: what is wrong now, which streams, since when; then
whether records flow, whether scoring keeps up, whether state and alerts are safe. A
click on a stream opens its own dashboard.
"""

from __future__ import annotations

from typing import Any

from dashboards.parts import (
    ALERT_LINE,
    GREEN,
    JOB,
    OK_AT_ZERO,
    ORANGE,
    RED,
    YELLOW,
    base,
    lines,
    link,
    number,
    plain,
    properties,
    ranking,
    row,
    timeline,
)

UID = "streamer-fleet"
TO_STREAM = (
    "/d/streamer-stream?var-stream=${__data.fields.Stream:percentencode}"
    "&${datasource:queryparam}&${job:queryparam}&${__url_time_range}"
)


def build() -> dict[str, Any]:
    dashboard = base(
        "Streamer / Fleet",
        UID,
        "All streams at a glance and the health of the daemon. Alerts are explained in docs/runbook.md.",
        time_from="now-3h",
    )
    dashboard = (
        dashboard.link(link("Stream drill-down", "/d/streamer-stream", "One stream: score, error, features"))
        .with_row(row("What is wrong now"))
        .with_panel(
            number(
                "Open anomalies",
                "Incidents open now because a stream's scores reached the alert line (1.0).",
                f'sum(streamer_incidents_open{{{JOB},kind="anomaly"}})',
                steps=OK_AT_ZERO,
                width=3,
            )
        )
        .with_panel(
            number(
                "Silent streams",
                "Incidents open now because a stream has stopped sending, measured by its typical interval.",
                f'sum(streamer_incidents_open{{{JOB},kind="silence"}})',
                steps=((None, GREEN), (1, ORANGE)),
                width=3,
            )
        )
        .with_panel(
            number(
                "Ready",
                "Replicas that would see records, tell of them and commit them; why not: Not ready, by reason.",
                f"avg(streamer_ready{{{JOB}}})",
                unit="percentunit",
                steps=((None, RED), (0.01, ORANGE), (1, GREEN)),
                no_value="daemon down",
                width=3,
            )
        )
        .with_panel(
            number(
                "Records/s",
                "Records consumed from Kafka per second, all replicas together.",
                f"sum(rate(streamer_records_consumed_total{{{JOB}}}[$__rate_interval]))",
                unit="cps",
                steps=((None, RED), (0.001, GREEN)),
                width=3,
            )
        )
        .with_panel(
            number(
                "Lag",
                "Records in the topic that no replica has read yet. Steady is fine; growing means alerts are delayed.",
                f"sum(max by (partition) (streamer_consumer_lag_records{{{JOB}}} >= 0))",
                steps=((None, GREEN), (1000, YELLOW), (10000, RED)),
                width=3,
            )
        )
        .with_panel(
            number(
                "Alerts not delivered",
                "Alerts sent to Kafka but not yet acknowledged. Above zero for more than a moment: alerts are not "
                "getting out.",
                f"sum(streamer_alerts_pending{{{JOB}}})",
                steps=OK_AT_ZERO,
                width=3,
            )
        )
        .with_panel(
            number(
                "Model",
                "Version of the bundle in use. Several versions for long: replicas disagree.",
                f"max by (version) (streamer_model_info{{{JOB}}})",
                legend="{{version}}",
                show_name=True,
                sparkline=False,
                no_value="no model",
                width=3,
            )
        )
        .with_panel(
            number(
                "Model age",
                "Time since the model was trained. Baselines drift: retrain within a month.",
                f"time() - min(streamer_model_trained_timestamp_seconds{{{JOB}}} > 0)",
                unit="s",
                steps=((None, GREEN), (14 * 86400, YELLOW), (30 * 86400, ORANGE)),
                sparkline=False,
                decimals=0,
                width=3,
            )
        )
        .with_panel(
            ranking(
                "Most anomalous streams",
                "Streams by current score; 1.0 is the alert line. Click one for its features. Only streams with "
                "series of their own (http.max_stream_series) are listed.",
                [
                    f"topk(15, max by (stream) (streamer_anomaly_score_ratio{{{JOB}}}))",
                    f"max by (stream) (streamer_anomaly_active{{{JOB}}}) and on (stream) "
                    f"topk(15, max by (stream) (streamer_anomaly_score_ratio{{{JOB}}}))",
                    f"max by (stream) (streamer_stream_last_event_timestamp_seconds{{{JOB}}}) * 1000 and on (stream) "
                    f"topk(15, max by (stream) (streamer_anomaly_score_ratio{{{JOB}}}))",
                ],
                columns={"stream": "Stream", "Value #A": "Score", "Value #B": "Incident", "Value #C": "Last event"},
                sort="Score",
                overrides={
                    "Stream": {"links": [{"title": "Open ${__value.text}", "url": TO_STREAM}]},
                    "Score": {
                        "unit": "none",
                        "decimals": 2,
                        "min": 0,
                        "custom.cellOptions": {"type": "gauge", "mode": "gradient"},
                        "thresholds": {
                            "mode": "absolute",
                            "steps": [{"value": value, "color": color} for value, color in ALERT_LINE],
                        },
                    },
                    "Incident": {
                        "custom.width": 90,
                        "custom.cellOptions": {"type": "color-text"},
                        "mappings": [
                            {
                                "type": "value",
                                "options": {
                                    "0": {"text": "-", "color": "text", "index": 0},
                                    "1": {"text": "OPEN", "color": RED, "index": 1},
                                },
                            }
                        ],
                    },
                    "Last event": {"unit": "dateTimeAsIso", "custom.width": 170},
                },
                no_value="no stream has a score yet: streams are warming up until their first window is full",
                width=12,
                height=10,
            )
        )
        .with_panel(
            lines(
                "Incidents opened and resolved",
                "Incidents opened per interval by kind and severity; resolved ones are drawn below zero, muted ones "
                "by reason (docs/notifications.md). A burst across kinds usually has one upstream cause.",
                [
                    (
                        "sum by (kind, severity) "
                        f"(increase(streamer_incidents_opened_total{{{JOB}}}[$__rate_interval])) > 0",
                        "opened: {{kind}} {{severity}}",
                    ),
                    (
                        f"-sum by (kind) (increase(streamer_incidents_resolved_total{{{JOB}}}[$__rate_interval])) < 0",
                        "resolved: {{kind}}",
                    ),
                    (
                        f"sum by (reason) (increase(streamer_incidents_muted_total{{{JOB}}}[$__rate_interval])) > 0",
                        "muted: {{reason}}",
                    ),
                ],
                bars=True,
                stacked=True,
                minimum=None,
                no_value="none in this time range",
                legend_calcs=("sum",),
                height=10,
            )
        )
        .with_panel(
            lines(
                "Highest scores",
                "The ten highest scores over time, with the alert line at 1.0.",
                [(f"topk(10, max by (stream) (streamer_anomaly_score_ratio{{{JOB}}}))", "{{stream}}")],
                unit="none",
                steps=((None, "transparent"), (1.0, RED)),
                threshold_line=True,
                soft_max=1.5,
            )
        )
        .with_panel(
            lines(
                "Streams by state",
                "warming: window not full yet; active: scored; alerting: incident open; silent: no readings arrive.",
                [
                    (f"sum by (state) (streamer_streams_tracked{{{JOB}}})", "{{state}}"),
                    (f"sum(increase(streamer_streams_expired_total{{{JOB}}}[1h])) > 0", "expired in the last hour"),
                    (f"sum(streamer_incidents_open_muted{{{JOB}}}) > 0", "open incidents that are muted"),
                ],
                stacked=True,
            )
        )
        .with_panel(
            timeline(
                "Alerts firing in Prometheus",
                "What Prometheus sends to Alertmanager: anomalies by stream, and faults of the daemon itself.",
                [
                    (
                        'max by (alertname, severity, stream) (ALERTS{alertname=~"Streamer.+",alertstate="firing"})',
                        "{{alertname}} {{stream}} {{severity}}",
                    )
                ],
                names={"1": ("firing", RED)},
                no_value="no alert in this time range",
                height=7,
            )
        )
        .with_panel(
            timeline(
                "Not ready, by reason",
                "Why a replica would not see records, tell of them or commit them; /readyz has it in words.",
                [(f"max by (instance, reason) (streamer_not_ready{{{JOB}}}) == 1", "{{instance}} {{reason}}")],
                names={"1": ("not ready", RED)},
                no_value="every replica was ready all the time",
                height=5,
            )
        )
        .with_row(row("Records: is every record accounted for?"))
        .with_panel(
            lines(
                "Records by outcome",
                "consumed + unpacked = windowed + duplicate + late + corrected + dropped + dead-lettered + rejected + "
                "replayed + ignored, but for readings held back. The line is consumed + unpacked; the stack should "
                "reach it.",
                [
                    (f"sum(rate(streamer_records_windowed_total{{{JOB}}}[$__rate_interval]))", "windowed"),
                    (f"sum(rate(streamer_records_duplicate_total{{{JOB}}}[$__rate_interval]))", "duplicate"),
                    (f"sum(rate(streamer_records_late_total{{{JOB}}}[$__rate_interval]))", "late"),
                    (f"sum(rate(streamer_readings_corrected_total{{{JOB}}}[$__rate_interval]))", "corrected"),
                    (f"sum(rate(streamer_records_dead_lettered_total{{{JOB}}}[$__rate_interval]))", "dead-lettered"),
                    (f"sum(rate(streamer_records_rejected_total{{{JOB}}}[$__rate_interval]))", "rejected"),
                    (f"sum(rate(streamer_records_replayed_total{{{JOB}}}[$__rate_interval]))", "replayed"),
                    (f"sum(rate(streamer_records_ignored_total{{{JOB}}}[$__rate_interval]))", "ignored"),
                    (f"sum(rate(streamer_records_dropped_total{{{JOB}}}[$__rate_interval]))", "dropped"),
                    (
                        f"sum(rate(streamer_records_consumed_total{{{JOB}}}[$__rate_interval]))"
                        f" + sum(rate(streamer_records_unpacked_total{{{JOB}}}[$__rate_interval]))",
                        "consumed",
                    ),
                ],
                unit="cps",
                stacked=True,
                width=8,
            ).override_by_name(
                "consumed",
                properties({"custom.stacking": {"mode": "none"}, "custom.fillOpacity": 0, "custom.lineWidth": 2}),
            )
        )
        .with_panel(
            lines(
                "Dead-lettered and rejected records by reason",
                "Records that could not be decoded (on the dead-letter topic, with the reason in the headers) and "
                "readings rejected by a limit.",
                [
                    (
                        f"sum by (reason) (rate(streamer_records_dead_lettered_total{{{JOB}}}[$__rate_interval])) > 0",
                        "dead letter: {{reason}}",
                    ),
                    (
                        f"sum by (reason) (rate(streamer_records_rejected_total{{{JOB}}}[$__rate_interval])) > 0",
                        "rejected: {{reason}}",
                    ),
                    (
                        f"sum(rate(streamer_headers_unreadable_total{{{JOB}}}[$__rate_interval])) > 0",
                        "read, but for their headers",
                    ),
                ],
                unit="cps",
                no_value="none",
                width=8,
            )
        )
        .with_panel(
            lines(
                "Lag by partition",
                "Unread records per partition; a gap where that is not known. One partition growing alone: a hot key "
                "or a stuck replica.",
                [(f"max by (partition) (streamer_consumer_lag_records{{{JOB}}})", "partition {{partition}}")],
                width=8,
            )
        )
        .with_row(row("Event time: order and bars"))
        .with_panel(
            lines(
                "Late, reordered, carried",
                "Readings that came too late, that came late and were put in their place, that were dropped, and bars "
                "in which values were carried over a gap. Many late ones: raise time.lateness.",
                [
                    (f"sum(rate(streamer_records_late_total{{{JOB}}}[$__rate_interval]))", "late"),
                    (f"sum(rate(streamer_records_reordered_total{{{JOB}}}[$__rate_interval]))", "reordered"),
                    (f"sum(rate(streamer_readings_carried_total{{{JOB}}}[$__rate_interval]))", "carried"),
                    (
                        f"sum by (reason) (rate(streamer_records_dropped_total{{{JOB}}}[$__rate_interval])) > 0",
                        "dropped: {{reason}}",
                    ),
                ],
                unit="cps",
                width=8,
            )
        )
        .with_panel(
            lines(
                "Watermark lag",
                "Event time from where the stream that waits longest stands to the newest reading: the lateness and a "
                "bar, and more where streams are far apart.",
                [(f"max by (instance) (streamer_watermark_lag_seconds{{{JOB}}})", "{{instance}}")],
                unit="s",
                width=8,
            )
        )
        .with_panel(
            lines(
                "Readings held back",
                "Waiting for late ones, or for their bar to be complete. They are part of the snapshots.",
                [(f"sum by (instance) (streamer_records_held{{{JOB}}})", "{{instance}}")],
                width=8,
            )
        )
        .with_row(row("Scoring: does it keep up?"))
        .with_panel(
            lines(
                "Event to score",
                "From the broker's timestamp of a record to its score: the delay of an alert.",
                [(_quantile(q, "streamer_event_to_score_seconds"), f"p{q * 100:g}") for q in (0.5, 0.9, 0.99)],
                unit="s",
                steps=((None, "transparent"), (30, RED)),
                width=8,
            )
        )
        .with_panel(
            lines(
                "Scoring of one poll",
                "Time to decode, window and score the records of one poll.",
                [(_quantile(q, "streamer_scoring_duration_seconds"), f"p{q * 100:g}") for q in (0.5, 0.9, 0.99)],
                unit="s",
                width=8,
            )
        )
        .with_panel(
            lines(
                "Windows scored and failed",
                "Windows scored per second. A window whose score is not a number can hide an anomaly; so can one with "
                "more than half of its values missing (sparse).",
                [
                    (f"sum(rate(streamer_windows_scored_total{{{JOB}}}[$__rate_interval]))", "scored"),
                    (f"sum(rate(streamer_scoring_failures_total{{{JOB}}}[$__rate_interval]))", "failed"),
                    (f"sum(rate(streamer_windows_sparse_total{{{JOB}}}[$__rate_interval])) > 0", "sparse"),
                    (f"sum(rate(streamer_filled_values_total{{{JOB}}}[$__rate_interval])) > 0", "values filled in"),
                    (
                        f"sum by (reason) (rate(streamer_window_resets_total{{{JOB}}}[$__rate_interval])) > 0",
                        "reset: {{reason}}",
                    ),
                ],
                unit="cps",
                width=8,
            ).override_by_name("failed", properties({"color": {"mode": "fixed", "fixedColor": RED}}))
        )
        .with_row(row("Safety: is state saved, are alerts delivered?"))
        .with_panel(
            lines(
                "Time since last checkpoint and commit",
                "Commits follow checkpoints, every few seconds. Above two minutes with records flowing: a restart "
                "would reprocess that much.",
                [
                    (
                        f"time() - max by (instance) (streamer_last_checkpoint_timestamp_seconds{{{JOB}}} > 0)",
                        "checkpoint {{instance}}",
                    ),
                    (
                        f"time() - max by (instance) (streamer_last_commit_timestamp_seconds{{{JOB}}} > 0)",
                        "commit {{instance}}",
                    ),
                ],
                unit="s",
                steps=((None, "transparent"), (120, RED)),
                threshold_line=True,
                width=8,
            )
        )
        .with_panel(
            lines(
                "Failures",
                "Failures per interval. All are retried; those that persist have an alert of their own.",
                [
                    (
                        f"sum (increase(streamer_delivery_failures_total{{{JOB}}}[$__rate_interval]))",
                        "delivery",
                    ),
                    (
                        f"sum(increase(streamer_messages_cut_total{{{JOB}}}[$__rate_interval])) > 0",
                        "cut: too large for their topic",
                    ),
                    (f"sum(increase(streamer_checkpoint_failures_total{{{JOB}}}[$__rate_interval]))", "checkpoint"),
                    (f"sum(increase(streamer_commit_failures_total{{{JOB}}}[$__rate_interval]))", "commit"),
                    (f"sum(increase(streamer_broker_errors_total{{{JOB}}}[$__rate_interval]))", "broker errors"),
                    (f"sum(increase(streamer_offset_resets_total{{{JOB}}}[$__rate_interval]))", "offsets lost"),
                    (f"sum(increase(streamer_cold_starts_total{{{JOB}}}[$__rate_interval]))", "begun without state"),
                    (f"sum(increase(streamer_scoring_failures_total{{{JOB}}}[$__rate_interval]))", "scoring"),
                    (
                        f"sum by (reason) (increase(streamer_model_reload_failures_total{{{JOB}}}[$__rate_interval]))",
                        "model reload: {{reason}}",
                    ),
                ],
                bars=True,
                stacked=True,
                legend_calcs=("sum",),
                width=8,
            )
        )
        .with_panel(
            lines(
                "Alerts published, checkpoints, reloads",
                "Alert messages acknowledged by Kafka, snapshots written, offsets committed, models swapped.",
                [
                    (
                        f"sum by (event) (increase(streamer_alerts_published_total{{{JOB}}}[$__rate_interval]))",
                        "alert: {{event}}",
                    ),
                    (f"sum(increase(streamer_checkpoints_total{{{JOB}}}[$__rate_interval]))", "checkpoints"),
                    (f"sum(increase(streamer_commits_total{{{JOB}}}[$__rate_interval]))", "commits"),
                    (f"sum(increase(streamer_model_reloads_total{{{JOB}}}[$__rate_interval]))", "model reloads"),
                    (f"sum(increase(streamer_streams_moved_total{{{JOB}}}[$__rate_interval]))", "streams moved"),
                ],
                bars=True,
                legend_calcs=("sum",),
                width=8,
            )
        )
        .with_panel(
            lines(
                "Partitions of each replica",
                "Partitions assigned. Zero on one replica: more replicas than partitions. Held by none: nobody reads "
                "them.",
                [
                    (f"max by (instance) (streamer_partitions_assigned{{{JOB}}})", "{{instance}}"),
                    (
                        f"max(streamer_topic_partitions{{{JOB}}}) - sum(streamer_partitions_assigned{{{JOB}}}) > 0",
                        "held by none",
                    ),
                ],
                stacked=True,
                width=6,
            )
        )
        .with_panel(
            lines(
                "Checkpoint duration",
                "Checkpoint: flush, snapshots of all partitions, commit. Kept and taken over: one partition's snapshot "
                "to and from the state store. Scoring goes on while snapshots are kept.",
                [
                    *((_quantile(q, "streamer_checkpoint_duration_seconds"), f"p{q * 100:g}") for q in (0.5, 0.99)),
                    (_quantile(0.99, "streamer_state_write_duration_seconds"), "p99 kept"),
                    (_quantile(0.99, "streamer_state_restore_duration_seconds"), "p99 taken over"),
                ],
                unit="s",
                width=6,
            )
        )
        .with_panel(
            lines(
                "State of a partition",
                "Size of one partition's snapshot in the state store, compressed.",
                [(_quantile(q, "streamer_state_bytes"), f"p{q * 100:g}") for q in (0.5, 0.99)],
                unit="bytes",
                width=6,
            )
        )
        .with_panel(
            lines(
                "Memory",
                "Resident memory of each replica.",
                [(f"max by (instance) (process_resident_memory_bytes{{{JOB}}})", "{{instance}}")],
                unit="bytes",
                width=6,
            )
        )
        .with_panel(
            lines(
                "CPU",
                "Cores used by each replica.",
                [
                    (
                        f"max by (instance) (rate(process_cpu_seconds_total{{{JOB}}}[$__rate_interval]))",
                        "{{instance}}",
                    )
                ],
                unit="none",
                width=6,
            )
        )
        .with_panel(
            lines(
                "Alerts that wait for a sink",
                "Alerts on the alerts topic that a sink (docs/sinks.md) is not done with. They wait while it fails.",
                [(f"sum by (sink) (streamer_sink_backlog{{{JOB}}})", "{{sink}}")],
                width=6,
            )
        )
        .with_panel(
            lines(
                "Failed attempts of sinks",
                "Attempts to deliver an alert that failed. They are repeated; StreamerSinkStalled tells when it lasts.",
                [(f"sum by (sink) (increase(streamer_sink_failures_total{{{JOB}}}[$__rate_interval]))", "{{sink}}")],
                bars=True,
                width=6,
            )
        )
        .with_panel(
            lines(
                "Store of incidents",
                "Alerts and actions that are not in the store yet, failures to keep it up to date, and messages that "
                "were neither. Scoring does not depend on it.",
                [
                    (f"max by (instance) (streamer_incident_store_lag_records{{{JOB}}})", "behind {{instance}}"),
                    (f"sum(increase(streamer_incident_store_failures_total{{{JOB}}}[$__rate_interval]))", "failures"),
                    (f"sum(increase(streamer_incident_store_refused_total{{{JOB}}}[$__rate_interval]))", "refused"),
                ],
                width=6,
            )
        )
    )
    return plain(dashboard)


def _quantile(q: float, histogram: str) -> str:
    return f"histogram_quantile({q:g}, sum by (le) (rate({histogram}_bucket{{{JOB}}}[$__rate_interval])))"
