"""One replica of the pool: a bundle's graph on a share of a machine, as a Ray Serve deployment.

Ray Serve starts replicas, places them on GPUs or fractions of them, restarts those that die and adds more
when calls queue up. A call is a micro-batch of one gateway; calls that wait at a replica are denoised
together, whichever gateways they come from. Rules:

1. One thread computes, so that the replica answers Ray's health checks meanwhile.
2. A call of another bundle, or of another version of the packing, is refused as ``engine_away``: in a fleet
   that is half upgraded nobody gets motion from the wrong model, and another replica may be the right one.
3. Of calls that share a batch, one that breaks the model fails alone.

``app`` builds it for ``serve deploy`` and for a RayService; ``diffspeaker pool`` for everybody else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ray import serve
from ray.serve import Application

from streamer.contract.errors import FaceError
from streamer.engine.backend import OnnxBackend
from streamer.engine.binding import input_shapes
from streamer.engine.bundle import Bundle
from streamer.engine.pool.packing import VERSION, Packed, pack_motion, unpack_windows
from streamer.engine.providers import named_providers

APP, DEPLOYMENT = "diffspeaker", "Denoiser"
Answer = bytes | tuple[str, str]  # packed motion, or an error's code and a sentence

_GATHER_S = 0.001  # for calls of other gateways
_MOST_CALLS = 16


@dataclass(frozen=True)
class PoolOptions:
    """How the pool is made.

    Attributes:
        bundle: the model's folder on the replicas' machines; the one that ships where None.
        provider: what computes, best first; what is found where None. variant: how; each provider's best.
        threads: of each replica. max_batch: the most windows at a time.
        replicas, max_replicas: at first and least, and at most. calls: that a replica should have at a time;
            more of them add replicas.
        cpus, gpus: of a machine, for each replica; fractions are allowed.
    """

    bundle: str | None = None
    provider: str | None = None
    variant: str | None = None
    threads: int = 1
    max_batch: int = 32
    replicas: int = 1
    max_replicas: int = 1
    calls: float = 2.0
    cpus: float = 1.0
    gpus: float = 0.0


class Replica:
    """A bundle's graph, asked by gateways.

    Args:
        options: of the pool.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        chosen = PoolOptions(**options)
        bundle = Bundle.load(None if chosen.bundle is None else Path(chosen.bundle))
        providers = None if chosen.provider is None else named_providers(chosen.provider)
        self._backend = OnnxBackend(bundle, providers, chosen.threads, chosen.variant)
        self._backend.warm_up(min(chosen.max_batch, 8))
        self._shapes = input_shapes(bundle.manifest)
        self._max_batch = chosen.max_batch
        self._digest = bundle.digest
        self._bundle = f"{bundle.manifest.name} {bundle.manifest.version}"
        self._thread = ThreadPoolExecutor(1)

    async def facts(self) -> dict[str, Any]:
        """What a gateway compares with its own, and what computes."""
        return {
            "version": VERSION,
            "digest": self._digest,
            "bundle": self._bundle,
            "provider": self._backend.provider,
            "variant": self._backend.variant,
        }

    async def denoise(self, version: int, digest: str, packed: bytes) -> Answer:
        """Motion for a micro-batch; an error's code and a sentence where it is refused or fails."""
        if version != VERSION:
            return "engine_away", f"a replica packs windows as version {VERSION}, not {version}"
        if digest != self._digest:
            return "engine_away", f"a replica holds the bundle {self._bundle} ({self._digest[:12]})"
        try:
            windows = unpack_windows(packed, self._shapes)
        except FaceError as error:
            return "inference_failed", error.message
        answer: Answer = await self._together(windows)
        return answer

    @serve.batch(max_batch_size=_MOST_CALLS, batch_wait_timeout_s=_GATHER_S)
    async def _together(self, calls: list[list[Packed]]) -> list[Answer]:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._compute, calls)

    # ---- on the computing thread ----

    def _compute(self, calls: Sequence[Sequence[Packed]]) -> list[Answer]:
        windows = [window for call in calls for window in call]
        if len(calls) > 1 and len(windows) <= self._max_batch:
            try:
                motion = self._backend.infer(windows)
            except FaceError:
                return [answer for call in calls for answer in self._compute([call])]
            answers: list[Answer] = []
            place = 0
            for call in calls:
                answers.append(pack_motion(motion[place : place + len(call)]))
                place += len(call)
            return answers
        return [self._alone(call) for call in calls]

    def _alone(self, call: Sequence[Packed]) -> Answer:
        try:
            return pack_motion(self._backend.infer(call))
        except FaceError as error:
            return error.code, error.message


def app(options: Mapping[str, Any]) -> Application:
    """The pool for ``serve deploy`` and RayService: ``import_path: streamer.engine.pool.replica:app``.

    Args:
        options: fields of ``PoolOptions`` by name; what is left out has its default.
    """
    return application(PoolOptions(**options))


def application(options: PoolOptions) -> Application:
    """The pool, to be run by Ray Serve."""
    scaling: dict[str, Any] = {"num_replicas": options.replicas}
    if options.max_replicas > options.replicas:
        bounds = {"min_replicas": options.replicas, "max_replicas": options.max_replicas}
        scaling = {"autoscaling_config": {**bounds, "target_ongoing_requests": options.calls}}
    deployment: Any = serve.deployment(
        Replica,
        name=DEPLOYMENT,
        ray_actor_options={"num_cpus": options.cpus, "num_gpus": options.gpus},
        max_ongoing_requests=_MOST_CALLS,
        health_check_period_s=2.0,
        health_check_timeout_s=5.0,
        graceful_shutdown_timeout_s=5.0,
        **scaling,
    )
    bound: Application = deployment.bind(asdict(options))
    return bound
