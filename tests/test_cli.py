"""Exit codes and words of the commands; each runs in this process."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import streamer
from models.store.registry import Registry
from streamer import cli
from tests import tiny

pytestmark = pytest.mark.usefixtures("keep_logging")

YAML = """\
records: {features: [heat, current]}
window: {length: 16, patch: 4}
model: {epochs: 1, steps_per_epoch: 2, batch_size: 16, hidden: 4, latent: 2}
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    (tmp_path / "streamer.yaml").write_text(YAML)
    return str(tmp_path / "streamer.yaml")


@pytest.fixture
def csv(tmp_path: Path) -> str:
    frame = pd.DataFrame(tiny.wave(200), columns=list(tiny.FEATURES))
    frame.insert(0, "timestamp", pd.date_range("2024-01-01", periods=200, freq="min"))
    frame["fault"] = (np.arange(200) // 20 == 8).astype(int)
    frame["site"] = np.where(np.arange(200) < 150, "north", "south")
    frame.to_csv(tmp_path / "pump-1.csv", index=False)
    return str(tmp_path / "pump-1.csv")


def run(*arguments: str) -> int:
    """Exit code, also where argparse leaves by itself."""
    try:
        return cli.main(list(arguments))
    except SystemExit as left:
        return int(left.code or 0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "streamer: no command given; see `streamer --help`"),
        (["--config", "x", "run"], "options come after the command: streamer COMMAND --config FILE"),
        (["models", "--config", "x"], "action is missing; see `streamer models --help`"),
        (["fly"], "invalid choice: 'fly'"),
        (["chek", "--config", "x"], "invalid choice: 'chek'; did you mean 'check'?; see"),
        (["run", "--confg", "x"], "--config is missing; did you mean --config for --confg?; see"),
        (["inspect", "--topc", "t"], "streamer inspect: unrecognized arguments: --topc t; did you mean --topic for"),
        (["inspect", "--topic", "t", "--preset", "sensr"], "invalid choice: 'sensr'; did you mean 'sensor'?"),
        (["models", "lst", "--config", "x"], "invalid choice: 'lst'; did you mean 'list'?"),
        (["dlq"], "streamer dlq: no action given; see `streamer dlq --help`"),
        (["dlq", "shwo", "--config", "x", "0:1"], "invalid choice: 'shwo'; did you mean 'show'?"),
        (["dlq", "replay", "--config", "x", "--resaon", "late"], "; did you mean --reason for --resaon?"),
        (["run"], "streamer run: --config is missing; see `streamer run --help`"),
        (["demo", "--seconds", "soon"], "--seconds"),
        (["demo", "--seconds", "0"], "wanted a number above 0; got 0"),
        (["demo", "--seconds", "nan"], "wanted a number above 0; got nan"),
        (["retrain", "--config", "x"], "--data --from-kafka is required"),
        (["retrain", "--config", "x", "--data", "y", "--from-kafka"], "not allowed with"),
        (["backtest", "--config", "x", "--data", "y"], "--out"),
        (["replay", "--config", "x", "--data", "y", "--speed", "-1"], "wanted a number above 0; got -1"),
        (["models", "burn", "--config", "x"], "invalid choice: 'burn'"),
    ],
)
def test_a_wrong_command_line_exits_64_and_says_why(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert run(*arguments) == 64

    assert words in capsys.readouterr().err


@pytest.mark.parametrize("command", ["run", "check", "retrain", "backtest", "replay", "models"])
def test_a_missing_configuration_exits_78(capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str) -> None:
    more = {
        "retrain": ["--data", "x"],
        "backtest": ["--data", "x", "--out", "y"],
        "replay": ["--data", "x"],
        "models": ["list"],
    }.get(command, [])

    assert run(command, *more, "--config", str(tmp_path / "no.yaml")) == 78

    error = capsys.readouterr().err
    assert error.startswith("streamer: --config: wanted a readable YAML file")
    assert "Traceback" not in error


def test_a_wrong_setting_exits_78_and_names_its_key(capsys: pytest.CaptureFixture[str], config: str) -> None:
    Path(config).write_text(YAML + "http: {port: 99999}\n")

    assert run("run", "--config", config) == 78

    assert "http.port: wanted at most 65535; got 99999" in capsys.readouterr().err


def test_a_missing_data_file_exits_65(capsys: pytest.CaptureFixture[str], config: str) -> None:
    assert run("retrain", "--config", config, "--data", "no.csv") == 65

    assert "no.csv: wanted a readable CSV or Parquet file" in capsys.readouterr().err


def test_too_little_data_exits_65(capsys: pytest.CaptureFixture[str], config: str, csv: str) -> None:
    lines = Path(csv).read_text().splitlines()[:12]
    Path(csv).write_text("\n".join(lines))

    assert run("retrain", "--config", config, "--data", csv) == 65

    assert "training needs a stream of at least 19 readings" in capsys.readouterr().err


def test_a_backtest_without_a_bundle_exits_78(
    capsys: pytest.CaptureFixture[str], config: str, csv: str, tmp_path: Path
) -> None:
    assert run("backtest", "--config", config, "--data", csv, "--out", str(tmp_path / "out")) == 78

    assert "no bundle is current; run `streamer retrain` first" in capsys.readouterr().err


def test_retrain_then_models_then_backtest(
    capsys: pytest.CaptureFixture[str], config: str, csv: str, tmp_path: Path
) -> None:
    assert run("retrain", "--config", config, "--data", csv, "--where", "site=north") == 0
    version = capsys.readouterr().out.strip()
    assert Registry(tmp_path / "bundles").current() == version

    assert run("models", "list", "--config", config) == 0
    assert capsys.readouterr().out.startswith(f"* {version}  1 stream(s)")

    assert run("models", "show", "--config", config) == 0
    assert json.loads(capsys.readouterr().out)["version"] == version

    assert run("backtest", "--config", config, "--data", csv, "--out", str(tmp_path / "out")) == 0
    assert "readings                   200" in capsys.readouterr().out
    assert len(pd.read_csv(tmp_path / "out" / "scores.csv")) == 200

    more = ["--labels", "fault", "--embeddings", "--rebuilt"]
    assert run("backtest", "--config", config, "--data", csv, "--out", str(tmp_path / "more"), *more) == 0
    assert "labelled_incidents         1\n" in capsys.readouterr().out
    written = {path.name for path in (tmp_path / "more").iterdir()}
    assert written >= {"report.html", "labels.csv", "embeddings.parquet", "nearest.csv", "rebuilt.parquet"}

    assert run("backtest", "--config", config, "--data", csv, "--out", str(tmp_path / "x"), "--labels", "heat") == 65
    assert "streamer: --labels: wanted a column of its own" in capsys.readouterr().err


def test_promote_and_rollback_move_the_current_bundle(
    capsys: pytest.CaptureFixture[str], config: str, tmp_path: Path
) -> None:
    from datetime import UTC, datetime

    registry = Registry(tmp_path / "bundles")
    detector = tiny.fit(epochs=1)
    first, second = (
        registry.publish(detector, created=datetime(2026, 1, day, tzinfo=UTC), fingerprint="") for day in (1, 2)
    )

    assert run("models", "rollback", "--config", config) == 0
    assert registry.current() == first
    assert run("models", "promote", second, "--config", config) == 0
    assert registry.current() == second
    assert capsys.readouterr().out == f"current: {first}\ncurrent: {second}\n"
    assert run("models", "promote", "--config", config, first) == 0
    assert registry.current() == first


def test_the_list_shows_what_is_current_what_was_and_what_never_was(
    capsys: pytest.CaptureFixture[str], config: str, tmp_path: Path
) -> None:
    from datetime import UTC, datetime

    registry = Registry(tmp_path / "bundles")
    assert run("models", "list", "--config", config) == 0
    assert f"no bundles in {registry.directory}; `streamer retrain` makes one" in capsys.readouterr().err
    detector = tiny.fit(epochs=1)
    when = [datetime(2026, 1, day, tzinfo=UTC) for day in (1, 2, 3, 4)]
    first, second, third, _ = (registry.publish(detector, created=day, fingerprint="", promote=False) for day in when)
    for version in (first, second, third):
        registry.promote(version, at=when[3])
    registry.rollback(at=when[3])
    (registry.directory / first / "manifest.json").write_text("{")

    assert run("models", "list", "--config", config) == 0

    lines = capsys.readouterr().out.splitlines()
    assert [line[0] for line in lines] == [" ", "*", " ", " "]
    assert "cannot be read" in lines[0]
    ends = ["promoted 2026-01-04T00:00:00Z", "current since 2026-01-04T00:00:00Z", "withdrawn 2026-01-04T00:00:00Z"]
    assert [line.split("  ")[-1] for line in lines] == [*ends, "never promoted"]


@pytest.mark.parametrize("arguments", [["promote", "../../etc"], ["rollback"], ["show"], ["show", "x"]])
def test_a_bundle_that_is_not_there_exits_78(
    capsys: pytest.CaptureFixture[str], config: str, arguments: list[str]
) -> None:
    assert run("models", *arguments, "--config", config) == 78

    assert capsys.readouterr().err.startswith("streamer: ")


def test_a_wrong_duration_is_refused(capsys: pytest.CaptureFixture[str], config: str) -> None:
    assert run("retrain", "--config", config, "--from-kafka", "--since", "1w") == 64

    error = capsys.readouterr().err
    assert "wanted a duration such as 7d, 12h, 30m or 45s; got '1w'" in error
    assert "or an ISO 8601 time such as 2026-01-31T08:00Z" in error


@pytest.mark.parametrize(
    ("since", "until"), [("45s", "1h"), ("2026-02-01", "2026-01-01"), ("2026-01-31T08:00Z", "2026-01-31T09:00+02:00")]
)
def test_a_range_that_ends_before_it_begins_is_refused(
    capsys: pytest.CaptureFixture[str], config: str, since: str, until: str
) -> None:
    assert run("retrain", "--config", config, "--from-kafka", "--since", since, "--until", until) == 64

    assert f"--since: wanted a time before --until; got --since {since} and --until {until}" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--since", "--until"])
def test_times_of_records_go_with_a_topic_not_with_files(
    capsys: pytest.CaptureFixture[str], config: str, option: str
) -> None:
    assert run("retrain", "--config", config, "--data", "x", option, "1d") == 64

    assert f"{option}: goes with --from-kafka" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["retrain", "--from-kafka"], ["replay", "--data", "x.csv"]])
def test_a_broker_that_is_away_exits_69_and_says_so_in_one_sentence(
    capsys: pytest.CaptureFixture[str], config: str, command: list[str]
) -> None:
    Path(config).write_text(YAML + "kafka: {bootstrap_servers: '127.0.0.1:1'}\n")

    assert run(*command, "--config", config) == 69

    error = capsys.readouterr().err
    assert error.startswith("streamer: no connection to 127.0.0.1:1: refused; is the broker running there?")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["simulate"], "wanted --config FILE to send readings to Kafka, or --out FILE to write them to a file"),
        (["retrain", "--config", "x", "--data", "y", "--since", "1d"], "--since: goes with --from-kafka"),
        (["retrain", "--config", "x", "--from-kafka", "--where", "a=b"], "--where: goes with --data"),
        (["models", "promote", "--config", "x"], "models promote: wanted a version; see `streamer models list`"),
        (["models", "rollback", "v1", "--config", "x"], "for a certain one: streamer models promote v1"),
        (["models", "list", "v1", "--config", "x"], "for one bundle: streamer models show VERSION"),
    ],
)
def test_options_that_do_not_go_together_exit_64_before_anything_is_read(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert run(*arguments) == 64

    error = capsys.readouterr().err
    assert error.startswith("streamer: ")
    assert words in error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["demo", "--seconds", "soon"], "wanted a number above 0; got soon"),
        (["demo", "--seed", "x"], "wanted a whole number from 0; got x"),
        (["simulate", "--machines", "many"], "wanted a whole number from 1 to 100000; got many"),
        (["simulate", "--hours", "long"], "wanted hours from 0.0167 (one reading) to 87840 (ten years); got long"),
    ],
)
def test_an_option_that_is_no_number_is_told_what_is_wanted(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert run(*arguments) == 64

    error = capsys.readouterr().err
    assert words in error
    assert "invalid" not in error


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_simulated_history_can_be_written(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "deep" / f"history.{suffix}"

    assert run("simulate", "--out", str(path), "--hours", "0.5", "--machines", "2") == 0

    table = pd.read_csv(path) if suffix == "csv" else pd.read_parquet(path)
    assert len(table) == 60


def test_history_of_another_format_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run("simulate", "--out", str(tmp_path / "history.xlsx"), "--hours", "1") == 65

    assert "--out: wanted a file name that ends in .csv or .parquet; got" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["--machines", "0"], ["--machines", "-1"], ["--hours", "0.001"], ["--seed", "-1"]]
)
def test_simulating_nothing_is_a_wrong_command_line(tmp_path: Path, arguments: list[str]) -> None:
    assert run("simulate", "--out", str(tmp_path / "x.csv"), "--hours", "1", *arguments) == 64


def test_a_fault_of_ours_exits_70(monkeypatch: pytest.MonkeyPatch, config: str) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("models.store.registry.Registry.versions", broken)

    assert run("models", "list", "--config", config) == 70


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0

    assert capsys.readouterr().out == f"streamer {streamer.__version__}\n"


def test_help_lists_the_commands_and_ends_with_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0

    text = capsys.readouterr().out
    for command in ("demo", "run", "check", "retrain", "backtest", "replay", "simulate", "models"):
        assert f"\n    {command}" in text
    assert "streamer backtest --config streamer.yaml" in text


def test_help_says_that_since_and_until_are_times_of_arrival(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("retrain", "--help") == 0

    assert "records that arrived from then on, by the broker's clock" in " ".join(capsys.readouterr().out.split())
