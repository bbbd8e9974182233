"""What both dashboards share: data source, queries and panels in one style.

Inside: small functions that return foundation-sdk builders, so that a dashboard
reads as a list of questions and answers. Every panel function requires a
description: a panel nobody can explain at night does not belong here. Not inside:
the panels themselves.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    BigValueTextMode,
    GraphDrawStyle,
    GraphTresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    ScaleDistribution,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    FieldColorModeId,
    RangeMap,
    RegexMap,
    SpecialValueMap,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
    VariableOption,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

GREEN, YELLOW, ORANGE, RED, BLUE, GREY = "green", "yellow", "orange", "red", "blue", "text"

DATASOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
JOB = 'job=~"$job"'

Steps = Sequence[tuple[float | None, str]]

OK_AT_ZERO: Steps = ((None, GREEN), (1, RED))
ALERT_LINE: Steps = ((None, GREEN), (1.0, YELLOW), (1.5, ORANGE), (3.0, RED))  # thresholds of info, warning, critical
PLAIN: Steps = ((None, BLUE),)


def thresholds(steps: Steps) -> dashboard.ThresholdsConfig:
    return (
        dashboard.ThresholdsConfig()
        .mode(ThresholdsMode.ABSOLUTE)
        .steps([Threshold(value=value, color=color) for value, color in steps])
    )


def query(expr: str, legend: str = "", *, instant: bool = False, as_table: bool = False) -> prometheus.Dataquery:
    """One PromQL query; `instant` for panels that show only now."""
    built = prometheus.Dataquery().datasource(DATASOURCE).expr(expr).legend_format(legend or "__auto")
    built = built.instant() if instant else built.range()
    return built.format(PromQueryFormat.TABLE if as_table else PromQueryFormat.TIME_SERIES)


def value_names(names: dict[str, tuple[str, str]]) -> list[ValueMap | RangeMap | RegexMap | SpecialValueMap]:
    """Show coloured words for values: `{"1": ("ALERT", RED)}`."""
    options = {
        value: ValueMappingResult(text=text, color=color, index=i)
        for i, (value, (text, color)) in enumerate(names.items())
    }
    return [ValueMap(options=options)]


def number(
    title: str,
    description: str,
    expr: str,
    *,
    unit: str = "short",
    steps: Steps = PLAIN,
    legend: str = "",
    show_name: bool = False,
    sparkline: bool = True,
    decimals: int | None = None,
    no_value: str = "no data",
    names: dict[str, tuple[str, str]] | None = None,
    calc: str = "lastNotNull",
    width: int = 4,
    height: int = 4,
) -> stat.Panel:
    """One number, large, coloured by its thresholds."""
    panel = (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .with_target(query(expr, legend, instant=not sparkline).ref_id("A"))
        .unit(unit)
        .thresholds(thresholds(steps))
        .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.THRESHOLDS))
        .reduce_options(common.ReduceDataOptions().calcs([calc]))
        .color_mode(BigValueColorMode.VALUE if steps is PLAIN else BigValueColorMode.BACKGROUND)
        .graph_mode(BigValueGraphMode.AREA if sparkline else BigValueGraphMode.NONE)
        .text_mode(BigValueTextMode.NAME if show_name else BigValueTextMode.VALUE)
        .no_value(no_value)
        .span(width)
        .height(height)
    )
    if names:
        panel = panel.mappings(value_names(names))
    if decimals is not None:
        panel = panel.decimals(decimals)
    return panel


def lines(
    title: str,
    description: str,
    queries: Sequence[tuple[str, str]],
    *,
    unit: str = "short",
    steps: Steps | None = None,
    threshold_line: bool = False,
    stacked: bool = False,
    bars: bool = False,
    minimum: float | None = 0,
    soft_max: float | None = None,
    maximum: float | None = None,
    log2: bool = False,
    no_value: str = "no data",
    legend_calcs: Sequence[str] = ("lastNotNull", "max"),
    width: int = 12,
    height: int = 8,
) -> timeseries.Panel:
    """Values over time; `threshold_line` draws the steps as lines with the area above them shaded."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit(unit)
        .draw_style(GraphDrawStyle.BARS if bars else GraphDrawStyle.LINE)
        .line_width(1)
        .fill_opacity(60 if bars else 25 if stacked else 8)
        .show_points(VisibilityMode.NEVER)
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(LegendDisplayMode.TABLE)
            .placement(LegendPlacement.BOTTOM)
            .calcs(list(legend_calcs))
        )
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
        .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.PALETTE_CLASSIC))
        .no_value(no_value)
        .span(width)
        .height(height)
    )
    for ref, (expr, legend) in zip("ABCDEFGHIJKL", queries, strict=False):
        panel = panel.with_target(query(expr, legend).ref_id(ref))
    if minimum is not None:
        panel = panel.min(minimum)
    if maximum is not None:
        panel = panel.max(maximum)
    if soft_max is not None:
        panel = panel.axis_soft_max(soft_max)
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL).group("A"))
    if log2:
        panel = panel.scale_distribution(
            common.ScaleDistributionConfig().type(ScaleDistribution.SYMLOG).log(2).linear_threshold(1)
        )
    if steps:
        panel = panel.thresholds(thresholds(steps))
    if threshold_line:
        panel = panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(GraphTresholdsStyleMode.LINE_AND_AREA))
    return panel


def timeline(
    title: str,
    description: str,
    queries: Sequence[tuple[str, str]],
    *,
    names: dict[str, tuple[str, str]],
    no_value: str = "no data",
    width: int = 24,
    height: int = 5,
) -> statetimeline.Panel:
    """States over time as coloured bars."""
    panel = (
        statetimeline.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .mappings(value_names(names))
        .thresholds(thresholds(((None, GREY),)))
        .merge_values(True)
        .show_value(VisibilityMode.AUTO)
        .row_height(0.8)
        .fill_opacity(80)
        .legend(
            common.VizLegendOptions()
            .show_legend(False)
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
        )
        .no_value(no_value)
        .span(width)
        .height(height)
    )
    for ref, (expr, legend) in zip("ABCDEFGH", queries, strict=False):
        panel = panel.with_target(query(expr, legend).ref_id(ref))
    return panel


def shares(
    title: str, description: str, expr: str, legend: str, *, no_value: str, width: int = 8, height: int = 8
) -> bargauge.Panel:
    """Shares of a whole right now, largest on top."""
    return (
        bargauge.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .with_target(query(expr, legend, instant=True).ref_id("A"))
        .unit("percentunit")
        .min(0)
        .max(1)
        .thresholds(thresholds(((None, BLUE), (0.4, ORANGE), (0.7, RED))))
        .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.THRESHOLDS))
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .no_value(no_value)
        .span(width)
        .height(height)
    )


def ranking(
    title: str,
    description: str,
    queries: Sequence[str],
    *,
    columns: dict[str, str],
    sort: str,
    overrides: dict[str, dict[str, Any]],
    no_value: str,
    width: int = 12,
    height: int = 8,
) -> table.Panel:
    """A table of the worst right now; `columns` maps a query's field to its heading, in order; others are hidden.

    `overrides` gives each heading Grafana's field properties (`unit`, `links`, ...).
    """
    hidden = ("Time", "job", "instance", "__name__")
    panel = (
        table.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .with_transformation(DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(
            DataTransformerConfig(
                id_val="organize",
                options={
                    "excludeByName": dict.fromkeys(hidden, True),
                    "indexByName": {field: i for i, field in enumerate(columns)},
                    "renameByName": columns,
                },
            )
        )
        .sort_by([common.TableSortByFieldState().display_name(sort).desc(True)])
        .show_header(True)
        .no_value(no_value)
        .span(width)
        .height(height)
    )
    for ref, expr in zip("ABCDEFGH", queries, strict=False):
        panel = panel.with_target(query(expr, instant=True, as_table=True).ref_id(ref))
    for heading, values in overrides.items():
        panel = panel.override_by_name(heading, properties(values))
    return panel


def properties(values: dict[str, Any]) -> list[DynamicConfigValue]:
    """Grafana's field properties for an override: `{"unit": "s", "custom.lineWidth": 2}`."""
    return [DynamicConfigValue(id_val=key, value=value) for key, value in values.items()]


def row(title: str) -> dashboard.Row:
    return dashboard.Row(title)


def base(title: str, uid: str, description: str, *, time_from: str) -> dashboard.Dashboard:
    """A dashboard with the data source and job variables, a shared crosshair and no way to edit it in Grafana."""
    return (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags(["streamer"])
        .readonly()
        .timezone("browser")
        .refresh("10s")
        .time(time_from, "now")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus").regex(""))
        .with_variable(
            dashboard.QueryVariable("job")
            .label("Job")
            .description("Scrape job of the daemon; one for each deployment.")
            .datasource(DATASOURCE)
            .query("label_values(streamer_build_info, job)")
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(VariableSort.ALPHABETICAL_ASC)
            .include_all(True)
            .multi(True)
            .current(VariableOption(text="All", value="$__all", selected=True))
        )
    )


def link(title: str, url: str, tooltip: str) -> dashboard.DashboardLink:
    """A link at the top that keeps time range and variables."""
    return (
        dashboard.DashboardLink(title)
        .type(DashboardLinkType.LINK)
        .url(url)
        .tooltip(tooltip)
        .keep_time(True)
        .include_vars(True)
    )


def plain(built: Any) -> dict[str, Any]:
    """The dashboard as Grafana's provisioning expects it: plain data, `id: null`, version left to Grafana."""
    data: dict[str, Any] = json.loads(json.dumps(built.build(), cls=JSONEncoder))
    data["id"] = None
    data["version"] = 0
    # Panels are numbered by position: links to a panel stay valid as long as the order does.
    for number_, panel in enumerate(data["panels"], start=1):
        panel["id"] = number_
    return data
