"""Small causal language models of `transformers`: their own loss against `causal_lm_loss`.

    python -m harness.causal_lm
    python -m harness.causal_lm --models="Gemma 2,Cohere" --vocab_size=65536

Each is built from its config, with random weights and without a download. Loss and every
gradient of both are held against the same model in float64; what a step allocates is read
from the allocator's events. Prints a table and writes it, with a record for every model, into
a folder under --output_dir. Needs `transformers` and PyTorch.

Exit status: 0 when ours was within the error rule for every model, 1 when not or when a
model failed; 2 for unusable flags; 130 after an interrupt, with what was compared kept.
"""

from __future__ import annotations

import importlib.util
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from rich.console import Console

from harness.environment import describe_host
from harness.flags import BadFlagError, expect, expect_positive, new_console, parse
from harness.store import NotWrittenError, RunStore, new_run

COMMAND = "harness.causal_lm"
INTERRUPTED = 130


def define_flags() -> flags.FlagValues:
    values = flags.FlagValues()
    flags.DEFINE_list("models", None, "Models to compare. Default: all.", flag_values=values)
    for name, size in (("batch_size", 4), ("seq_len", 256), ("vocab_size", 32768)):
        flags.DEFINE_integer(name, size, "Of the step that is compared.", flag_values=values)
    flags.DEFINE_string(
        "output_dir", "results/causal_lm", "Where the folder is made.", flag_values=values
    )
    flags.DEFINE_bool("help", False, "Show this help.", short_name="h", flag_values=values)
    return values


def main(arguments: Sequence[str]) -> int:
    """Runs the command line; returns the exit status."""
    console = new_console()
    values = define_flags()
    try:
        parse(values, COMMAND, arguments)
        if values.help:
            console.print(f"{__doc__}\n{values.get_help()}", markup=False)
            return 0
        expect_positive(values, "batch_size", "seq_len", "vocab_size")
        expect(values, "seq_len", values.seq_len > 1, "a next token, so 2 or more")
        names = _models(values)
        command = shlex.join(["python", "-m", COMMAND, *arguments])
        store = new_run(Path(values.output_dir), [{"case_id": name} for name in names], command)
    except (flags.Error, BadFlagError, OSError) as error:
        print(f"{COMMAND}: {error}", file=sys.stderr)
        return 2
    status = 0
    try:
        for name in names:
            with console.status(name):
                store.append(_record(name, values))
    except KeyboardInterrupt:
        status = INTERRUPTED
    except NotWrittenError as error:
        console.print(str(error), markup=False, soft_wrap=True)
        status = 1
    _show(store, console, values)
    failed = any(record["error"] or record["beyond_the_rule"] for record in store.records())
    return status or int(failed)


def _models(values: flags.FlagValues) -> list[str]:
    for package in ("torch", "transformers"):
        if importlib.util.find_spec(package) is None:
            raise BadFlagError(f"expected {package}, which is not installed: pip install {package}")
    from harness.causal_lm.models import MODELS  # transformers is slow to load

    names = list(MODELS) if values.models is None else [name.strip() for name in values.models]
    unknown = [name for name in names if name not in MODELS]
    expect(values, "models", names and not unknown, f"a list of {', '.join(MODELS)}")
    return names


def _record(name: str, values: flags.FlagValues) -> dict[str, Any]:
    from harness.causal_lm.compare import LOSSES, Shape, compare, describe_head, step_memory

    shape = Shape(values.batch_size, values.seq_len, values.vocab_size)
    host = describe_host()
    host["versions"] |= _versions()
    record = {"case_id": name, "model": name, **shape._asdict(), "error": None, "environment": host}
    try:
        return record | {
            "head": describe_head(name),
            **compare(name, shape),
            "memory": {each: step_memory(of, name, shape) for each, of in LOSSES.items()},
        }
    except Exception as error:  # one model that fails is no reason to lose the others
        return record | {"error": {"type": type(error).__name__, "message": str(error)}}


def _versions() -> dict[str, str]:
    import torch
    import transformers

    return {"torch": torch.__version__, "transformers": transformers.__version__}


def _show(store: RunStore, console: Console, values: flags.FlagValues) -> None:
    from harness.causal_lm.table import READING, table
    from harness.report.markdown import table_parts
    from harness.report.rich_table import rich_table

    shape = f"{values.batch_size} x {values.seq_len} tokens, V={values.vocab_size:,}, float32"
    title = f"causal_lm_loss against the models' own: {shape}"
    text = table(store.records())
    console.print(rich_table(text, title))
    console.print(READING, soft_wrap=True)
    path = store.directory / "causal_lm.md"
    body = "\n\n".join([f"# {title}", f"```\n{store.command}\n```", *table_parts(text), READING])
    path.write_text(f"{body}\n")
    console.print(f"\n{path}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
