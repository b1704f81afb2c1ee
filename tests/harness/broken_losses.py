"""Losses that end in each of the ways in which a case can end. Targets of workers."""

from __future__ import annotations

import atexit
import itertools
import os
import resource
import signal
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch

from torch_impl import standard_linear_cross_entropy


def wrong(hidden: Any, weight: Any, labels: Any) -> Any:
    """Right but for the tokens' number: a plausible, wrong loss."""
    return standard_linear_cross_entropy(hidden, weight, labels) * 1.001


def not_a_number(hidden: Any, weight: Any, labels: Any) -> Any:
    return standard_linear_cross_entropy(hidden, weight, labels) * float("nan")


def raising(hidden: Any, weight: Any, labels: Any) -> Any:
    raise ArithmeticError("this loss [does] not work")


def refused_memory(hidden: Any, weight: Any, labels: Any) -> Any:
    return torch.empty(2**50)


def refused_memory_for_many_logits(hidden: Any, weight: Any, labels: Any) -> Any:
    """A device on which 150 tokens fit at V = 1024."""
    if labels.numel() * len(weight) > 150 * 1024:
        torch.empty(2**50)
    return standard_linear_cross_entropy(hidden, weight, labels)


def refused_memory_by_python(hidden: Any, weight: Any, labels: Any) -> Any:
    raise MemoryError("no room")


def killed(hidden: Any, weight: Any, labels: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def killed_under_a_limit(hidden: Any, weight: Any, labels: Any) -> Any:
    if resource.getrlimit(resource.RLIMIT_DATA)[0] != resource.RLIM_INFINITY:
        os.kill(os.getpid(), signal.SIGKILL)
    return standard_linear_cross_entropy(hidden, weight, labels)


def leaving(hidden: Any, weight: Any, labels: Any) -> Any:
    sys.exit(0)


def sleeping(hidden: Any, weight: Any, labels: Any) -> Any:
    if "SLEEPING" in os.environ:
        Path(os.environ["SLEEPING"]).touch()  # for whoever waits until it sleeps
    time.sleep(600)


def out_of_memory_in_cpp(hidden: Any, weight: Any, labels: Any) -> Any:
    """As a C++ library ends that does not catch its allocator's exception."""
    print("terminate called after throwing an instance of 'std::bad_alloc'", file=sys.stderr)
    sys.stderr.flush()
    os.abort()


def dying_of_the_limit(hidden: Any, weight: Any, labels: Any) -> Any:
    """As a library ends that does not look whether it was given the memory that it asked for."""
    try:
        torch.empty(2**27)
    except RuntimeError:
        os.kill(os.getpid(), signal.SIGSEGV)
    return standard_linear_cross_entropy(hidden, weight, labels)


def hiding_the_limit(hidden: Any, weight: Any, labels: Any) -> Any:
    """As a library ends that says something else when it has been refused memory."""
    try:
        torch.empty(2**27)
    except RuntimeError:
        raise ArithmeticError("operation failed") from None
    return standard_linear_cross_entropy(hidden, weight, labels)


def leaving_a_mess(hidden: Any, weight: Any, labels: Any) -> Any:
    """Right, but nothing in its process is as it was."""
    loss = standard_linear_cross_entropy(hidden, weight, labels)
    os.environ["MESS"] = "yes"
    torch.set_num_threads(torch.get_num_threads() + 1)
    torch.set_default_dtype(torch.float64)
    torch.set_float32_matmul_precision("medium")
    warnings.warn("a mess", stacklevel=2)
    return loss


def refusing_company(hidden: Any, weight: Any, labels: Any) -> Any:
    """Right, but only where the other framework has not been loaded."""
    if "jax" in sys.modules:
        raise RuntimeError("a torch worker has loaded jax")
    return standard_linear_cross_entropy(hidden, weight, labels)


def stopping(hidden: Any, weight: Any, labels: Any) -> Any:
    """Right the first time; the second time it stops, as by Ctrl-Z, and nothing wakes it."""
    if Path(os.environ["PID_FILE"]).exists():
        os.kill(os.getpid(), signal.SIGSTOP)
    _leave_pid()
    return standard_linear_cross_entropy(hidden, weight, labels)


def stopping_at_exit(hidden: Any, weight: Any, labels: Any) -> Any:
    return _signalled_at_exit(signal.SIGSTOP, hidden, weight, labels)


def killed_at_exit(hidden: Any, weight: Any, labels: Any) -> Any:
    return _signalled_at_exit(signal.SIGKILL, hidden, weight, labels)


def killed_with_a_child(hidden: Any, weight: Any, labels: Any) -> Any:
    """What it has started outlives it, and holds its pipes open."""
    if os.fork() == 0:
        _leave_pid()
        time.sleep(600)
        os._exit(0)
    while not Path(os.environ["PID_FILE"]).exists():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)


def printing_garbage(hidden: Any, weight: Any, labels: Any) -> Any:
    """Eight megabytes a call that are no UTF-8, on both streams, without a line's end."""
    for stream in (1, 2):
        garbage = b"\xff\xfe\x00\x1b[2J\x80" * 2**19
        while garbage:
            garbage = garbage[os.write(stream, garbage) :]
    return standard_linear_cross_entropy(hidden, weight, labels)


def aborting_after_garbage(hidden: Any, weight: Any, labels: Any) -> Any:
    printing_garbage(hidden, weight, labels)
    os.abort()


def raising_in_colour(hidden: Any, weight: Any, labels: Any) -> Any:
    raise ArithmeticError("\x1b[31mred\x1b[0m, \x07 a bell, \ud800 half a character\nnext")


def garbling_results(hidden: Any, weight: Any, labels: Any) -> Any:
    """Writes where only the worker should, as does a library that has mistaken the descriptor."""
    os.write(int(sys.argv[1]), b'\xff\xfe\n12\n{"section": "timing"}\n{"section": "numerics", "va')
    return standard_linear_cross_entropy(hidden, weight, labels)


def setting_the_clock_back(hidden: Any, weight: Any, labels: Any) -> Any:
    """The clock on the wall steps back an hour whenever it is read."""
    steps = itertools.count(time.time(), -3600.0)
    time.time = lambda: next(steps)
    return standard_linear_cross_entropy(hidden, weight, labels)


def _signalled_at_exit(number: signal.Signals, hidden: Any, weight: Any, labels: Any) -> Any:
    if not Path(os.environ["PID_FILE"]).exists():
        _leave_pid()
        atexit.register(os.kill, os.getpid(), number)
    return standard_linear_cross_entropy(hidden, weight, labels)


def _leave_pid() -> None:
    """For whoever wants to see that the process is gone."""
    Path(os.environ["PID_FILE"]).write_text(str(os.getpid()))
