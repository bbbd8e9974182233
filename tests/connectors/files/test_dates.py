"""Times that are written as text, in layouts that are found or declared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from streamer.config import FilesConfig, RecordsConfig
from streamer.connectors import files as datafiles
from streamer.errors import DataError
from tests.connectors.files.samples import write

RECORDS = RecordsConfig(features=("a",))


def times(folder: Path, texts: list[str], **files: str) -> list[str]:
    text = "".join(f"{each};1\n" for each in ["timestamp", *texts]).replace(";1\n", ";a\n", 1)
    data = datafiles.load([write(folder / "f.csv", text)], RECORDS, files=FilesConfig.model_validate(files))
    return [str(each) for each in data.time_ns.astype("datetime64[ns]").astype("datetime64[ms]")]


@pytest.mark.parametrize(
    "text",
    [
        "07.10.2013 08:00:00,688",
        "7.10.2013 8:00:00.688",
        "07.10.13 08:00:00,688",
        "2013/10/07 08:00:00,688",
        "2013-10-07 08:00:00,688",
        "2013-10-07T10:00:00.688+02:00",
        "07-Oct-2013 08:00:00.688",
        "7 October 2013 8:00:00.688 AM",
        "Mon, 07 Oct 2013 08:00:00.688 GMT",
        "Oct 7, 2013, 8:00:00.688 am",
        "07/Oct/2013:10:00:00.688 +0200",
    ],
)
def test_a_layout_is_found(tmp_path: Path, text: str) -> None:
    assert times(tmp_path, [text, text]) == ["2013-10-07T08:00:00.688"] * 2


def test_day_and_month_are_told_apart_by_a_number_above_12_in_any_row(tmp_path: Path) -> None:
    british = [f"{day:02d}/10/2013 8:00 PM" for day in range(1, 14)]
    american = [f"10/{day:02d}/2013 8:00 PM" for day in range(1, 14)]

    wanted = [f"2013-10-{day:02d}T20:00:00.000" for day in range(1, 14)]
    assert times(tmp_path, british) == times(tmp_path, american) == wanted


def test_a_number_above_12_may_come_far_below_the_first_rows(tmp_path: Path) -> None:
    many = ["10/07/2013 8:00 AM"] * 5000

    assert times(tmp_path, [*many, "10/31/2013 8:00 AM"], one_stream="true")[0] == "2013-10-07T08:00:00.000"


def test_a_number_above_12_may_be_in_another_file_of_the_folder(tmp_path: Path) -> None:
    write(tmp_path / "f" / "1.csv", "timestamp,a\n10/07/2013,1\n")
    write(tmp_path / "f" / "2.csv", "timestamp,a\n10/31/2013,1\n")

    data = datafiles.load([tmp_path / "f"], RECORDS)

    assert np.diff(data.time_ns).tolist() == [24 * 86_400 * 10**9]


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("10/07/2013 8:00 AM", r'"%d/%m/%Y %I:%M %p" or to "%m/%d/%Y %I:%M %p"'),
        ("10-07-2013 08:00:00.5", r'"%d-%m-%Y %H:%M:%S.%f" or to "%m-%d-%Y %H:%M:%S.%f"'),
        ("10/07/2013", r'"%d/%m/%Y" or to "%m/%d/%Y"'),
    ],
)
def test_a_date_that_may_be_either_way_is_refused_and_the_remedy_works(tmp_path: Path, text: str, remedy: str) -> None:
    with pytest.raises(DataError, match=rf"f\.csv: 'timestamp': .*'{text}' may be either way.*set .*to {remedy}"):
        times(tmp_path, [text])
    first = remedy.split('"')[1]
    assert times(tmp_path, [text], date_format=first)[0].startswith("2013-07-10")
    second = remedy.split('"')[3]
    assert times(tmp_path, [text], date_format=second)[0].startswith("2013-10-07")


@pytest.mark.parametrize("text", ["20131007080000", "20131007", "201310070800"])
def test_dates_without_separators_are_no_seconds(tmp_path: Path, text: str) -> None:
    assert times(tmp_path, [text])[0] == f"2013-10-07T{'08' if len(text) > 8 else '00'}:00:00.000"


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (
            ["13.10.2013 08:00", "31.02.2013 08:00"],
            r"row 2: .*'31.02.2013 08:00' is not day, month, year as in",
        ),
        (["13.10.2013 08:00", "2013-10-14 08:00"], r"row 2: .*'2013-10-14 08:00' is not day, month, year"),
        (["13.10.2013 08:00", "13.10.2013 25:00"], r"row 2: .*'13.10.2013 25:00'"),
        (["13.10.1913 08:00"], r"row 1: .*'13.10.1913 08:00' is not .* between 1970 and 2200"),
        (["2013-10-14 08:00", "soon"], r"row 2: .*'soon' is not ISO 8601"),
        (["yesterday"], r"row 1: .*'yesterday' is not ISO 8601 .*: if it is a time, set files.date_format"),
        (["2013-10-14", ""], "row 2: wanted a time in every row of 'timestamp'; 1 have none"),
    ],
)
def test_a_time_that_is_none_is_named_with_its_row(tmp_path: Path, texts: list[str], words: str) -> None:
    with pytest.raises(DataError, match=rf"f\.csv: {words}"):
        times(tmp_path, texts)


def test_a_declared_format_is_held_to(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row 2: .*'2013-10-07' is not as files.date_format '%d.%m.%Y' says"):
        times(tmp_path, ["07.10.2013", "2013-10-07"], date_format="%d.%m.%Y")
