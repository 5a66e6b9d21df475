"""What the server counts, under the field's usual names, for Prometheus and for a scaler.

Scale on ``face_sessions_active`` ÷ ``face_sessions_capacity`` and on ``face_deadline_miss_total``, not on
CPU. Each server has a registry of its own, so that several can live in one process; ``together`` joins the
texts of several processes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from streamer.engine.backend import Backend
from streamer.engine.providers import short

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

_SECONDS = (0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)
_BATCH = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The counters and gauges of one server; times in seconds."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._backend: Backend | None = None
        self._counted_fallbacks = 0
        registry = self._registry
        self.sessions = Gauge("face_sessions_active", "Speakers being animated now.", registry=registry)
        self.capacity = Gauge("face_sessions_capacity", "Speakers that are admitted.", registry=registry)
        self.watchers = Gauge("face_watchers_active", "Connections that receive frames.", registry=registry)
        self.first_frame = Histogram(
            "face_first_frame_seconds",
            "From a stream's first sample to its first frame.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.frame_latency = Histogram(
            "face_frame_latency_seconds",
            "Compute: from submitting a window to its segment. Total: from the arrival of the audio at a "
            "block's first frame to the block's encoding.",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.queue_wait = Histogram(
            "face_queue_wait_seconds",
            "How long a complete window waited to be denoised.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.batch_size = Histogram(
            "face_batch_size", "Windows denoised together.", buckets=_BATCH, registry=registry
        )
        self.frames = Counter("face_frames", "Frames emitted, before fan-out.", registry=registry)
        self.deadline_misses = Counter(
            "face_deadline_miss", "Windows that were denoised later than a hop.", registry=registry
        )
        self.windows_joined = Counter(
            "face_windows_joined",
            "Late windows of live speakers that were denoised as one with a newer one.",
            registry=registry,
        )
        self.windows_given_back = Counter(
            "face_windows_given_back",
            "Windows that no machine answered by their deadline, and that were asked again later.",
            registry=registry,
        )
        self.fallbacks = Counter(
            "face_backend_fallback",
            "Times that a provider or a variant failed and the next one took over, the start included.",
            registry=registry,
        )
        self.backend = Gauge(
            "face_backend_info", "1 for what computes now.", ["provider", "variant"], registry=registry
        )
        self.hung_workers = Gauge(
            "face_inference_hung_workers",
            "Inference threads that have not come back from a batch.",
            registry=registry,
        )
        self.frames_dropped = Counter(
            "face_frames_dropped", "Frames that were not sent.", ["reason"], registry=registry
        )
        self.av_skew = Gauge(
            "face_av_skew_seconds",
            "How much later than the published face delay the newest frames were; negative is early.",
            registry=registry,
        )
        self.resumed = Counter(
            "face_streams_resumed", "Speakers who were lost and came back in time.", registry=registry
        )
        self.interrupts = Counter("face_interrupts", "Interrupts received.", registry=registry)
        self.errors = Counter("face_errors", "Errors told to clients.", ["code"], registry=registry)
        # A labelled series exists from its first use: name those that a dashboard expects.
        self.frames_dropped.labels("slow_watcher")
        self.frames_dropped.labels("interrupt")
        self.frame_latency.labels("compute")
        self.frame_latency.labels("total")

    def follow(self, backend: Backend) -> None:
        """Shows what computes, as it is whenever somebody asks."""
        self._backend = backend

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        if self._backend is not None:
            backend = self._backend
            self.fallbacks.inc(backend.fallbacks - self._counted_fallbacks)
            self._counted_fallbacks = backend.fallbacks
            self.backend.clear()
            self.backend.labels(short(backend.provider), backend.variant).set(1)
        return generate_latest(self._registry)


class _Collected:
    """Metrics that were read from texts, for ``generate_latest``."""

    def __init__(self) -> None:
        self.metrics: dict[str, Metric] = {}

    def collect(self) -> Iterable[Metric]:
        return self.metrics.values()


def together(texts: Sequence[bytes]) -> bytes:
    """Each process's metrics as one text, with a label that tells whose each is."""
    collected: Any = _Collected()
    for number, text in enumerate(texts):
        for family in text_string_to_metric_families(text.decode()):
            metric = collected.metrics.setdefault(
                family.name, Metric(family.name, family.documentation, family.type)
            )
            for sample in family.samples:
                metric.add_sample(sample.name, {"process": str(number), **sample.labels}, sample.value)
    return generate_latest(collected)
