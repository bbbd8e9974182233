"""One stream: how anomalous, since when, which feature. uid `streamer-stream`, variable `stream`.

Alerts link here with the stream and the time range. The first row shows the current
state, the second the score against the alert line, the third, while an incident is
open, each feature as observed and as the model expected it.
"""

from __future__ import annotations

from typing import Any

from grafana_foundation_sdk.builders import dashboard as sdk
from grafana_foundation_sdk.models.dashboard import (
    VariableHide,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from dashboards.parts import (
    ALERT_LINE,
    DATASOURCE,
    GREEN,
    JOB,
    ORANGE,
    RED,
    base,
    lines,
    link,
    number,
    plain,
    properties,
    row,
    shares,
    timeline,
)

UID = "streamer-stream"
ONE = f'{JOB},stream="$stream"'
NO_INCIDENT = "no open incident"


def build() -> dict[str, Any]:
    dashboard = (
        base(
            "Streamer / Stream",
            UID,
            "One stream: score against the alert line, and what each feature did while an incident was open.",
            time_from="now-1h",
        )
        .link(link("Fleet", "/d/streamer-fleet", "All streams and the daemon's health"))
        .with_variable(
            sdk.QueryVariable("stream")
            .label("Stream")
            .description("Streams with series of their own; http.max_stream_series caps their number.")
            .datasource(DATASOURCE)
            .query(f"label_values(streamer_anomaly_score_ratio{{{JOB}}}, stream)")
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(VariableSort.ALPHABETICAL_ASC)
        )
        .with_variable(
            # One panel for each feature attributed to an incident in this time range.
            sdk.QueryVariable("feature")
            .hide(VariableHide.HIDE_VARIABLE)
            .datasource(DATASOURCE)
            .query(f"label_values(streamer_feature_observed{{{ONE}}}, feature)")
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(VariableSort.ALPHABETICAL_ASC)
            .multi(True)
            .include_all(True)
            .current(VariableOption(text="All", value="$__all", selected=True))
        )
        .annotation(
            sdk.AnnotationQuery()
            .name("Incident")
            .datasource(DATASOURCE)
            .enable(True)
            .icon_color(RED)
            .expr(f"max by (stream) (streamer_anomaly_active{{{ONE}}}) == 1")
        )
        .with_row(row("$stream now"))
        .with_panel(
            number(
                "Incident",
                "Whether an anomaly of this stream is open. Silences and broken rules are on the fleet dashboard.",
                f"max(streamer_anomaly_active{{{ONE}}})",
                steps=((None, GREEN), (1, RED)),
                names={"0": ("none", GREEN), "1": ("OPEN", RED)},
                sparkline=False,
                no_value="no series",
            )
        )
        .with_panel(
            number(
                "Score",
                "The latest score; 1.0 is the alert line, whatever the model.",
                f"max(streamer_anomaly_score_ratio{{{ONE}}})",
                unit="none",
                decimals=2,
                steps=ALERT_LINE,
                no_value="warming up",
            )
        )
        .with_panel(
            number(
                "Peak score",
                "The highest score in this time range.",
                f"max(streamer_anomaly_score_ratio{{{ONE}}})",
                unit="none",
                decimals=2,
                steps=ALERT_LINE,
                calc="max",
                no_value="warming up",
            )
        )
        .with_panel(
            number(
                "Time in incident",
                "Time in this range during which an incident was open.",
                f"avg_over_time(max(streamer_anomaly_active{{{ONE}}})[$__range:$__interval]) * $__range_s",
                unit="s",
                steps=((None, GREEN), (1, ORANGE)),
                sparkline=False,
                decimals=0,
            )
        )
        .with_panel(
            number(
                "Last event",
                "Event time of the newest reading of this stream.",
                f"max(streamer_stream_last_event_timestamp_seconds{{{ONE}}}) * 1000",
                unit="dateTimeFromNow",
                sparkline=False,
                no_value="no reading",
            )
        )
        .with_panel(
            number(
                "Model",
                "Version of the bundle that scores this stream.",
                f"max by (version) (streamer_model_info{{{JOB}}})",
                legend="{{version}}",
                show_name=True,
                sparkline=False,
                no_value="no model",
            )
        )
        .with_panel(
            lines(
                "Score",
                "Score of each window, higher is more anomalous; 1.0 is the alert line, set by the alert budget. "
                "Incidents are shaded.",
                [
                    (f"max by (stream) (streamer_anomaly_score_ratio{{{ONE}}})", "{{stream}}"),
                    (
                        f"max by (stream) (streamer_settled_score_ratio{{{ONE}}})",
                        "{{stream}}, settled (16 scores later)",
                    ),
                ],
                unit="none",
                steps=((None, "transparent"), (1.0, RED)),
                threshold_line=True,
                soft_max=1.5,
                no_value="warming up: the first window is not full yet",
                width=24,
                height=9,
            )
        )
        .with_panel(
            timeline(
                "Incident",
                "When an incident was open. It opens once n of the last m scores reached 1.0 and resolves after a "
                "quiet time, so it begins after the score crosses the line and ends after the score has fallen.",
                [(f"max by (stream) (streamer_anomaly_active{{{ONE}}})", "incident")],
                names={"0": ("quiet", GREEN), "1": ("OPEN", RED)},
                height=4,
            )
        )
        .with_panel(
            lines(
                "Reconstruction error",
                "Error of the autoencoder relative to the stream's baseline, before it is set against the alert line; "
                "1 is typical. Logarithmic above 1.",
                [(f"max by (stream) (streamer_reconstruction_error{{{ONE}}})", "{{stream}}")],
                unit="none",
                log2=True,
                width=12,
            )
        )
        .with_panel(
            lines(
                "Time since the last reading",
                "Grows in a straight line while the stream is silent.",
                [(f"time() - max by (stream) (streamer_stream_last_event_timestamp_seconds{{{ONE}}})", "{{stream}}")],
                unit="s",
                minimum=None,
                width=12,
            )
        )
        .with_row(row("Features while an incident is open"))
        .with_panel(
            shares(
                "Share of the error now",
                "Contribution of each feature to the error of the open incident; the shares sum to 1.",
                f"sort_desc(max by (feature) (streamer_feature_error_share{{{ONE}}}))",
                "{{feature}}",
                no_value=NO_INCIDENT,
            )
        )
        .with_panel(
            lines(
                "Share of the error over time",
                "Which feature dominated, and whether that changed: a spreading fault shows as a changing order.",
                [(f"max by (feature) (streamer_feature_error_share{{{ONE}}})", "{{feature}}")],
                unit="percentunit",
                maximum=1,
                stacked=True,
                no_value=NO_INCIDENT,
                legend_calcs=("mean", "max"),
                width=16,
            )
        )
        .with_panel(
            lines(
                "$feature: observed and expected",
                "The reading at which the open incident deviates most: as observed, and as the model reconstructed "
                "it, in the feature's units.",
                [
                    (f'max by (feature) (streamer_feature_observed{{{ONE},feature="$feature"}})', "observed"),
                    (f'max by (feature) (streamer_feature_expected{{{ONE},feature="$feature"}})', "expected"),
                ],
                unit="none",
                minimum=None,
                no_value=NO_INCIDENT,
                legend_calcs=("lastNotNull",),
                width=8,
            )
            .repeat("feature")
            .override_by_name("observed", properties({"color": {"mode": "fixed", "fixedColor": ORANGE}}))
            .override_by_name(
                "expected",
                properties(
                    {
                        "color": {"mode": "fixed", "fixedColor": GREEN},
                        "custom.lineStyle": {"fill": "dash", "dash": [8, 6]},
                        "custom.fillOpacity": 0,
                    }
                ),
            )
        )
    )
    data = plain(dashboard)
    # The builder has no method for the text of a Prometheus annotation.
    data["annotations"]["list"][0]["titleFormat"] = "Incident on {{stream}}"
    return data
