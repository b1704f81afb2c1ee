"""The page in a real browser, as wide as the screens of a phone, a laptop and a desktop."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess

import pytest

from harness.memory.anatomy import WORKSPACE, Buffer
from harness.report import write_merged_report, write_report
from harness.report.run import Run, named

BROWSERS = ("chromium", "chromium-browser", "google-chrome")  # as in .ci/prepare
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
SCREENS = {"phone": (390, 844), "laptop": (1180, 800), "desktop": (1280, 800)}
VARIANTS = ("standard", "chunked", "two_pass", "one_pass", "compiled", "cut_cross_entropy",
            "linear_cross_entropy_chunked", "floor", "stream")  # fmt: skip

# Frames of the wanted widths, as a window is never as narrow as a phone.
FRAMES = """
<!DOCTYPE html><title>frames</title>
<body>{frames}<script>
window.onload = () => {{
  const found = [...document.querySelectorAll("iframe")].map(frame => {{
    const page = frame.contentDocument, root = page.documentElement;
    const table = page.querySelector("table");
    return {{
      name: frame.name,
      scrollWidth: root.scrollWidth,
      clientWidth: root.clientWidth,
      firstRowBottom: table.rows[1].getBoundingClientRect().bottom,
      scrollingTables: [...page.querySelectorAll(".scroll")]
        .filter(each => each.scrollWidth > each.clientWidth).length,
      scrollingPictures: [...page.querySelectorAll(".picture")]
        .filter(each => each.scrollWidth > each.clientWidth).length,
      imageWidths: [...page.images].map(image => image.naturalWidth),
    }};
  }});
  const answer = document.createElement("pre");
  answer.textContent = JSON.stringify(found);
  document.body.replaceChildren(answer);
}};
</script></body>
"""


@pytest.fixture
def records(sweep, make_record, anatomies, make_anatomy, make_search):
    """What makes a page wide: many variants, long labels, long messages without a space."""
    options = {"vocab_chunk": 16384, "token_chunk": 512, "memory_budget": 2**24}
    return [
        *sweep(variants=VARIANTS, out_of_memory=[("torch", "standard", 32768)]),
        *(make_record(variant="chunked", options=options | {"token_chunk": n}) for n in (1, 2)),
        *(
            make_record(
                variant=name, status="error", error={"type": "RuntimeError", "message": message}
            )
            for name, message in (("liger", "x" * 4000), ("a_very_long_name" * 5, "<b>y</b> " * 99))
        ),
        *anatomies(),
        make_anatomy("torch", "a_very_long_name" * 5, buffers=[long_buffer("y" * 200)]),
        make_anatomy("torch", "liger", status="oom"),
        *make_search(),
        *make_search("jax", "chunked", fits=240_000),
        long_search(make_search),
    ]


def long_buffer(name):
    return Buffer(kind=WORKSPACE, name=name, size_bytes=2**30, asked_by="z" * 300)


def long_search(make_search):
    *_, record = make_search(variant="liger", cut_short=(1, "error"))
    record["breaking_point"]["failure"] = {"type": "RuntimeError", "message": "x" * 4000}
    return record


@pytest.fixture
def reports(records, sweep, tmp_path):
    write_report(records, tmp_path / "single", "python -m harness.run --flag=" + "z" * 500)
    runs: list[Run] = [
        named("intel-2-cores/float32", "python -m harness.run", records),
        named("nvidia-h100/float32", "python -m harness.run --device=gpu", sweep(device="gpu")),
        named("nvidia-h100/bfloat16", "python -m harness.run", sweep(dtype="bfloat16")),
    ]
    write_merged_report(runs, tmp_path / "merged")
    return ("single", "merged")


@pytest.mark.usefixtures("drawn")
@pytest.mark.skipif(BROWSER is None, reason=f"none of {', '.join(BROWSERS)} is installed")
def test_page_fits_every_screen(reports, tmp_path):
    frames = [
        f'<iframe name="{report} {screen}" src="{report}/report.html" '
        f'style="width: {width}px; height: {height}px; border: 0"></iframe>'
        for report in reports
        for screen, (width, height) in SCREENS.items()
    ]
    page = tmp_path / "frames.html"
    page.write_text(FRAMES.format(frames="\n".join(frames)), encoding="utf-8")
    answer, log = in_browser(page)
    assert "CONSOLE" not in log, "errors and warnings of the page"
    found = json.loads(re.search(r"<pre>(.*?)</pre>", answer)[1])
    assert len(found) == len(reports) * len(SCREENS)
    for each in found:
        report, screen = each["name"].split()
        width, height = SCREENS[screen]
        assert each["clientWidth"] == width, each
        assert each["scrollWidth"] <= width, each
        assert each["firstRowBottom"] < height, each
        assert len(each["imageWidths"]) == 4 * (3 if report == "merged" else 1) + 5, each
        assert min(each["imageWidths"]) > 500, each
        assert screen == "phone" or each["scrollingPictures"] == 0, each
    assert found[0]["scrollingTables"] > 0, "on a phone tables scroll in boxes of their own"


def in_browser(page):
    """(the document as its scripts left it, what was logged)."""
    command = [
        *(BROWSER, "--headless=new", "--disable-gpu", "--hide-scrollbars"),
        "--disable-background-networking",
        *(["--no-sandbox"] if os.geteuid() == 0 else []),  # root has no sandbox to go to
        f"--user-data-dir={page.parent / 'profile'}",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        "--allow-file-access-from-files",  # or a frame's document would be out of reach
        "--enable-logging=stderr",
        "--dump-dom",
        page.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr
