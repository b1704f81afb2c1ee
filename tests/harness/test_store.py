"""Records survive: cut lines, errors that are no numbers, runs of other cases."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from harness.record import judge
from harness.store import new_run, newest_run, open_run


def test_records_come_back_and_are_strict_json(tmp_path: Path) -> None:
    store = new_run(tmp_path, [{"id": "a"}], "command")
    store.append({"case_id": "a", "numerics": {"loss_error": math.nan, "list": [math.inf, 1.5]}})
    (line,) = (store.directory / "records.jsonl").read_text().splitlines()
    json.loads(line, parse_constant=pytest.fail)
    (record,) = store.records()
    assert math.isnan(record["numerics"]["loss_error"])
    assert record["numerics"]["list"] == [math.inf, 1.5]


def test_a_line_cut_short_is_not_a_record(tmp_path: Path) -> None:
    store = new_run(tmp_path, [{"id": "a"}], "command")
    store.append({"case_id": "a"})
    with (store.directory / "records.jsonl").open("a") as file:
        file.write('{"case_id": "b", "sta')
    assert store.records() == [{"case_id": "a"}]
    store.append({"case_id": "c"})
    assert store.records() == [{"case_id": "a"}, {"case_id": "c"}]


def test_newest_run_of_the_same_cases(tmp_path: Path) -> None:
    first = new_run(tmp_path, [{"id": "a"}, {"id": "b"}], "command")
    second = new_run(tmp_path, [{"id": "a"}, {"id": "b"}], "command")
    new_run(tmp_path, [{"id": "a"}], "command")
    assert first.directory != second.directory
    found = newest_run(tmp_path, [{"id": "a"}, {"id": "b"}])
    assert found is not None
    assert found.directory == second.directory
    assert found.command == "command"
    assert newest_run(tmp_path, [{"id": "c"}]) is None


def test_open_run_is_told_a_folder_and_refuses_others(tmp_path: Path) -> None:
    store = new_run(tmp_path, [{"id": "a"}], "command")
    store.append({"case_id": "a"})
    opened = open_run(store.directory)
    assert (opened.run_id, opened.command) == (store.run_id, "command")
    assert opened.records() == [{"case_id": "a"}]
    (store.directory / "run.json").write_text('{"command": "cut sho')
    for directory in (tmp_path, tmp_path / "missing", store.directory):
        with pytest.raises(ValueError, match=f"folder of a run, got {directory}"):
            open_run(directory)


@pytest.mark.parametrize(
    ("error", "status"), [(0.5e-6, "ok"), (2e-6, "mismatch"), (math.nan, "mismatch")]
)
def test_judge(error: float, status: str) -> None:
    numerics = {"loss_error": error, "tolerance": {"loss_error": 1e-6}}
    assert judge(numerics)[0] == status
    assert judge(None) == ("ok", None)
