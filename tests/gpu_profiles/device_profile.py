"""What ran during a step, and where: the profiles of both frameworks, read into the same words.

The frameworks are loaded by what profiles a step, and by nothing else here. A process can
have one profiler of a GPU: profile with one framework in each.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

_GPU = "/device:GPU:"
_OF_TORCH = ("kernel", "gpu_memcpy", "gpu_memset")
_COPIES_TO_HOST = ("MemcpyD2H", "Memcpy DtoH")
_NO_KERNEL = ("Memcpy", "Memset")


class Event(NamedTuple):
    """Something that ran; times are since the profile began, in its own clock."""

    place: str
    """E.g. "/device:GPU:0 Stream #7", or a thread of the host."""
    name: str
    start_s: float
    duration_s: float

    @property
    def is_on_gpu(self) -> bool:
        return self.place.startswith(_GPU)


def kernels(events: Iterable[Event]) -> list[Event]:
    """What a GPU computed."""
    return [each for each in events if each.is_on_gpu and not each.name.startswith(_NO_KERNEL)]


def copies_to_host(events: Iterable[Event]) -> list[Event]:
    """What a GPU sent to the host, which as a rule waits for it."""
    return [each for each in events if each.is_on_gpu and each.name.startswith(_COPIES_TO_HOST)]


def profile_jax(step: Callable[[], object]) -> list[Event]:
    """Runs a step of JAX under its profiler; the step returns when it is done."""
    import jax

    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    with TemporaryDirectory() as directory:
        with jax.profiler.trace(directory, profiler_options=options):
            step()
        (path,) = Path(directory).rglob("*.xplane.pb")
        return list(xla_events(jax.profiler.ProfileData.from_file(str(path))))


def xla_events(profile: Any) -> Iterator[Event]:
    """The events of a `jax.profiler.ProfileData`.

    Of a GPU those of its streams: other lines of its plane would tell the same once more.
    """
    for plane in profile.planes:
        for line in plane.lines:
            place = f"{plane.name} {line.name}"
            if plane.name.startswith(_GPU):
                if not line.name.startswith("Stream"):
                    continue
                # "Stream #7(Compute,MemcpyD2H)" says what kinds of events it has.
                place = place.partition("(")[0]
            for event in line.events:
                yield Event(place, event.name, event.start_ns / 1e9, event.duration_ns / 1e9)


def profile_torch(step: Callable[[], object]) -> list[Event]:
    """Runs a step of PyTorch under its profiler, and waits for the GPU if there is one."""
    import torch
    from torch.profiler import profile, supported_activities

    with profile(activities=supported_activities()) as profiler:
        step()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
    with TemporaryDirectory() as directory:
        trace = Path(directory) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        # Names of other people's functions need not be UTF-8.
        text = trace.read_bytes().decode(errors="replace")
    return list(torch_events(json.loads(text)))


def torch_events(trace: dict[str, Any]) -> Iterator[Event]:
    """The events of a Chrome trace, the form in which PyTorch exports a profile."""
    spans = [event for event in trace["traceEvents"] if event.get("ph") == "X"]
    start = min((span["ts"] for span in spans), default=0.0)
    for span in spans:
        place = f"/host:CPU {span['tid']}"
        if span.get("cat") in _OF_TORCH:
            place = f"{_GPU}{span['args']['device']} Stream #{span['args']['stream']}"
        yield Event(place, span["name"], (span["ts"] - start) / 1e6, span["dur"] / 1e6)
