"""The terminal's table and the Markdown tables: the same rows, words and figures."""

from __future__ import annotations

import io
import random
from pathlib import Path

import pytest
from rich.console import Console

from harness.report.columns import COLUMNS
from harness.report.markdown import section_parts
from harness.report.naming import variant_labels
from harness.report.rows import make_rows
from harness.report.sweep_section import sweep_tables
from harness.report.tables import closing_table


def printed(records, width=120):
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(closing_table(records))
    return console.file.getvalue()


def markdown_tables(records):
    return "\n\n".join(section_parts(sweep_tables(records), Path()))


def markdown_rows(text):
    """Each row of each Markdown table as {header: cell}."""
    rows, headers = [], None
    for line in text.splitlines():
        if not line.startswith("| "):
            headers = None
            continue
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if headers is None:
            headers = cells
        elif not set(line) <= set("|-: "):
            rows.append(dict(zip(headers, cells, strict=True)))
    return rows


def test_both_forms_show_the_same_cells(sweep):
    records = sweep(out_of_memory=[("torch", "standard", 32768)])
    table = closing_table(records)
    shorts = {column.short: column.title for column in COLUMNS if column.short}
    merged = {}
    for row in markdown_rows(markdown_tables(records)):
        key = (row["framework"], row["variant"], row["V"])
        merged.setdefault(key, {}).update(row)
    assert len(merged) == len(records) == table.row_count
    titles = [shorts[column.header] for column in table.columns]
    columns = [[cell.plain for cell in column.cells] for column in table.columns]
    for cells in zip(*columns, strict=True):
        shown = dict(zip(titles, cells, strict=True))
        full = merged[shown["framework"], shown["variant"], shown["V"]]
        assert shown == {title: full[title] for title in shown}


def test_rows_go_by_shape_framework_and_variant(sweep):
    records = sweep((16384, 8192), variants=("floor", "liger", "chunked", "standard"))
    random.Random(0).shuffle(records)
    rows = [
        (row.record["vocab_size"], row.record["framework"], row.label) for row in make_rows(records)
    ]
    assert rows == [
        (vocab_size, framework, variant)
        for vocab_size in (8192, 16384)
        for framework in ("jax", "torch")
        for variant in ("standard", "chunked", "liger", "floor")
    ]


def test_yardsticks_come_last_and_the_stream_has_its_time_alone(sweep):
    records = sweep((8192,), variants=("stream", "floor", "optax", "standard"))
    assert [row.label for row in make_rows(records)][:4] == [
        "standard", "optax", "floor", "stream"
    ]  # fmt: skip
    (overview,) = sweep_tables(records).tables
    *_, stream = (dict(zip(overview.headers, row, strict=True)) for row in overview.rows)
    assert {name for name, cell in stream.items() if cell != "\u2013"} == {
        "framework", "variant", "status", "V", "step ms", "spread ± %"
    }  # fmt: skip


def test_every_column_is_in_a_markdown_table(sweep):
    records = sweep((8192,)) + sweep(
        (32000,),
        seq_len=64,
        hidden_dim=128,
        dtype="bfloat16",
        device="gpu",
        run="another",
        options={"ignored_fraction": 0.1, "memory_limit_gib": 2.0},
    )
    section = sweep_tables(records)
    tables = (*section.tables, *section.details)
    shown = {header for table in tables for header in table.headers}
    assert shown == {column.title for column in COLUMNS}


def test_page_opens_on_one_table(sweep):
    (overview,) = sweep_tables(sweep(out_of_memory=[("torch", "standard", 8192)])).tables
    assert overview.headers == (
        *("framework", "variant", "status", "V", "step ms", "spread ± %", "x standard"),
        *("x floor", "peak MiB", "workspace MiB", "error / tolerance"),
    )
    assert len(overview.rows) == len(sweep())
    assert overview.rows[3][2] == overview.rows[3][4] == "out of memory"
    assert overview.rows[0][-1] == "0.04", "4e-7 of the weight's gradient, of 1e-5"


@pytest.mark.parametrize("seed_shape", [{}, {"seq_len": 8192, "hidden_dim": 4096}])
def test_terminal_table_fits_in_120_columns(sweep, seed_shape):
    records = sweep(out_of_memory=[("jax", "standard", 8192)]) + sweep((128256,), **seed_shape)
    lines = printed(records).splitlines()
    assert max(map(len, lines)) <= 120
    assert any("standard" in line and "128256" in line for line in lines), "no row is folded"
    assert "\u2026" not in printed(records), "no cell is cut"


def test_sizes_are_columns_where_they_differ_and_a_title_where_not(sweep):
    one = closing_table(sweep((8192,)))
    assert not {"N", "D"} & {column.header for column in one.columns}
    assert "N = 2048" in str(one.title)
    assert "D = 512" in str(one.title)
    two = closing_table(sweep((8192,)) + sweep((8192,), hidden_dim=64, seq_len=128))
    assert {"N", "D", "V"} <= {column.header for column in two.columns}


def test_each_framework_is_named_with_its_probe(sweep):
    for text in (printed(sweep()), markdown_tables(sweep())):
        assert "JAX by xla buffer assignment, PyTorch by torch allocator events" in text
        assert "Different probes" in text


def test_memory_table_says_how_far_apart_two_probes_are(make_record):
    record = make_record()
    record["memory"]["host_rss_bytes"] = round(record["memory"]["additional_bytes"] * 1.034)
    text = markdown_tables([record, make_record(variant="floor")])
    cells = [r["other probe %"] for r in markdown_rows(text) if "other probe %" in r]
    assert cells == ["+3.4", "\u2013"]
    assert "in PyTorch the kernel resident high-water mark differs from torch" in text
    assert "(+3.4 %)" in text


@pytest.mark.parametrize(
    ("status", "timing", "cell"),
    [
        ("ok", {"step_s": [0.25]}, "250"),
        ("ok", None, "\u2013"),
        ("mismatch", {"step_s": [0.25]}, "mismatch 250"),
        ("mismatch", None, "mismatch"),
        ("timeout", {"step_s": [0.25]}, "timed out"),
        ("oom", None, "out of memory"),
    ],
)
def test_step_cell(make_record, status, timing, cell):
    (overview,) = sweep_tables([make_record() | {"status": status, "timing": timing}]).tables
    assert overview.rows[0][overview.headers.index("step ms")] == cell


def test_statuses_stand_in_words_with_the_first_line_of_their_error(make_record):
    records = [
        make_record(status="oom"),
        make_record(variant="liger", status="unavailable", error={"type": "E", "message": "[b]x"}),
        make_record(variant="one_pass") | {"status": "mismatch"},
        make_record(variant="chunked", status="timeout"),
    ]
    records[2]["numerics"]["grad_weight_error"] = float("nan")
    for text in (printed(records), markdown_tables(records)):
        assert "torch standard at V = 8192: out of memory" in text
        assert "OutOfMemoryError: tried 512 MiB" in text
        assert "second line" not in text
        assert "E: [b]x" in text, "messages are not read as markup"
        assert "torch one_pass at V = 8192: mismatch" in text
        assert "grad_weight_error nan above 1.0e-05" in text
        assert "timed out" in text
    steps = {row["variant"]: row for row in markdown_rows(markdown_tables(records))[:4]}
    assert steps["standard"]["step ms"] == "out of memory"
    assert steps["one_pass"]["step ms"].startswith("mismatch "), "in words before its time"
    assert steps["one_pass"]["x standard"] == "\u2013", "a wrong answer has no ratio to win with"


def test_same_failure_at_several_vocabularies_is_one_line(make_record):
    error = {"type": "ModuleNotFoundError", "message": "No module named 'liger_kernel'"}
    records = [
        make_record(variant="liger", vocab_size=size, status="unavailable", error=error)
        for size in (16384, 8192)
    ]
    assert "torch liger at V = 8192, 16384: unavailable" in markdown_tables(records)


@pytest.mark.parametrize(
    ("shapes", "subject"),
    [
        (
            [(8192, "float32"), (8192, "bfloat16"), (16384, "float32"), (16384, "bfloat16")],
            ["torch liger at V = 8192, 16384 (dtype bfloat16; dtype float32): error"],
        ),
        (
            [(8192, "float32"), (16384, "bfloat16")],
            [
                "torch liger at V = 8192 (dtype float32): error",
                "torch liger at V = 16384 (dtype bfloat16): error",
            ],
        ),
    ],
    ids=["all", "some"],
)
def test_failures_name_what_failed_and_no_more(make_record, shapes, subject):
    records = [
        make_record(variant="liger", vocab_size=size, dtype=dtype, status="error")
        for size, dtype in shapes
    ]
    failed = sweep_tables(records).failures
    assert sorted(each.subject for each in failed) == sorted(subject)
    assert {each.reason for each in failed} == {"the record does not say why"}


def test_long_reasons_are_cut(make_record):
    record = make_record(status="error", error={"type": "E", "message": "x" * 4000})
    (failure,) = sweep_tables([record]).failures
    assert len(failure.reason) == 400
    assert failure.reason.endswith("x\u2026")


def test_nulls_are_dashes(make_record):
    record = make_record(timing={"step_s": [], "forward_s": None}, memory=None, numerics=None)
    (overview, time, memory, numbers) = markdown_rows(markdown_tables([record]))
    for row in (overview, time, memory, numbers):
        measured = {
            k: v for k, v in row.items() if k not in ("framework", "variant", "V", "status")
        }
        assert set(measured.values()) == {"\u2013"}


def test_options_that_differ_are_part_of_the_name(make_record):
    chunks = [make_record(variant="chunked", options={"vocab_chunk": size}) for size in (512, 1024)]
    assert variant_labels([make_record(), *chunks]) == [
        "standard",
        "chunked vocab_chunk=512",
        "chunked vocab_chunk=1024",
    ]
    assert variant_labels(chunks[:1]) == ["chunked"]
    assert [row.label[-4:] for row in make_rows(chunks[::-1])] == ["=512", "1024"]


def test_no_records():
    assert "No records" in printed([])
    assert sweep_tables([]).is_empty


def test_records_of_other_modes_are_in_no_table(sweep, make_record):
    others = [make_record(mode="anatomy"), make_record(mode="breaking_point", variant="chunked")]
    same = [record | {"mode": "sweep"} for record in sweep()]
    assert sweep_tables([*same, *others]) == sweep_tables(sweep())
    assert printed([*same, *others]) == printed(sweep())
    assert sweep_tables(others).is_empty
