"""Where the milliseconds of a window went, as OpenTelemetry traces; off unless a collector is named.

A window is a trace of its own::

    window ─┬─ queue    complete, and waiting for its batch
            ├─ denoise  in the model
            └─ emit     crossfaded, encoded and put into every outbox

Spans are made when the window is done, from times that were taken anyway, and leave on a thread of the
OpenTelemetry package with a bounded queue: a collector that is slow or away costs the stream nothing. The
package's own environment variables hold (``OTEL_TRACES_SAMPLER=traceidratio`` with
``OTEL_TRACES_SAMPLER_ARG=0.01`` keeps one window in a hundred).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from streamer.contract.errors import FaceError
from streamer.engine.inference_thread import Outcome

_PATH = "/v1/traces"


class Tracer:
    """Sends a trace of every window.

    Args:
        endpoint: of a collector that takes OTLP over HTTP, ``http://host:4318``.
        clock: monotonic seconds, of the times that are given.

    Raises:
        FaceError: ``bad_config``, the packages are not installed.
    """

    def __init__(self, endpoint: str, clock: Callable[[], float]) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.trace import set_span_in_context
        except ImportError:
            raise FaceError(
                "bad_config",
                "Traces need OpenTelemetry, which is not installed.",
                'Install it with pip install "diffspeaker-live[traces]".',
            ) from None
        self._clock = clock
        self._inside: Callable[[Any], Any] = set_span_in_context
        self._provider = TracerProvider(resource=Resource.create({"service.name": "diffspeaker-live"}))
        url = endpoint.rstrip("/") + _PATH
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=url)))
        self._tracer = self._provider.get_tracer("streamer")

    def window(self, who: Mapping[str, object], asked: float, outcome: Outcome) -> None:
        """Traces a window that is emitted now; ``asked`` is when it was complete, on the clock."""
        now = self._clock()
        # The wall clock may step; what lies between the times is taken from the monotonic one.
        wall = time.time_ns() - int(1e9 * now)

        def at(moment: float) -> int:
            return wall + int(1e9 * moment)

        request = outcome.request
        facts: dict[str, str | int | bool] = {
            **{f"diffspeaker.{name}": str(value) for name, value in who.items()},
            "diffspeaker.epoch": request.epoch,
            "diffspeaker.first_frame": request.window.emit_start,
            "diffspeaker.frames": request.window.emit_stop - request.window.emit_start,
            "diffspeaker.batch": outcome.batch,
            "diffspeaker.late": outcome.late,
        }
        picked = asked + outcome.queue_s
        computed = picked + outcome.compute_s
        root = self._tracer.start_span("window", start_time=at(asked), attributes=facts)
        parent = self._inside(root)
        for name, begin, end in (
            ("queue", asked, picked),
            ("denoise", picked, computed),
            ("emit", computed, now),
        ):
            span = self._tracer.start_span(name, parent, start_time=at(begin))
            span.end(at(max(begin, end)))
        root.end(at(now))

    def close(self) -> None:
        """Sends what is left; waits for a collector for some seconds at most."""
        self._provider.shutdown()
