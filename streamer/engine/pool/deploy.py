"""Putting the pool into a Ray cluster, and taking it out again."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from streamer.contract.errors import FaceError
from streamer.engine.bundle import Bundle
from streamer.engine.pool.gateway import PoolBackend, join

if TYPE_CHECKING:
    from streamer.engine.pool.replica import PoolOptions

log = logging.getLogger(__name__)


def deploy(address: str, options: dict[str, Any], bundle: Bundle) -> PoolBackend:
    """Starts the pool, or changes the one that runs, and waits until it answers.

    Args:
        address: of the cluster, as for ``PoolBackend``. options: fields of ``replica.PoolOptions``.
        bundle: what the replicas hold, to see that they do.

    Returns:
        What asks it.

    Raises:
        FaceError: ``bad_config``, ``bad_bundle``, or ``inference_failed``, the replicas do not start.
    """
    serve = join(address)
    from streamer.engine.pool.replica import APP, PoolOptions, app

    if (lack := _lack(PoolOptions(**options))) is not None:
        log.warning(lack)
    try:
        serve.start(proxy_location="Disabled")  # gateways hold a handle; nothing listens
        serve.run(app(options), name=APP, route_prefix=None)
    except Exception as error:  # whatever the replicas failed with
        reason = (str(error) or type(error).__name__).strip().splitlines()[-1]
        raise FaceError(
            "inference_failed", f"The replicas do not start: {reason}", "See Ray's log."
        ) from None
    return PoolBackend(address, bundle)


def _lack(options: PoolOptions) -> str | None:
    """Where no machine of the cluster has what a replica needs, a sentence: a cluster may still grow."""
    import ray

    nodes: Any = ray.nodes
    found = [node["Resources"] for node in nodes() if node["Alive"]]
    if any(one.get("CPU", 0) >= options.cpus and one.get("GPU", 0) >= options.gpus for one in found):
        return None
    largest = max((one.get("CPU", 0), one.get("GPU", 0)) for one in found)
    return (
        f"No machine has what a replica needs, {options.cpus:g} processors and {options.gpus:g} GPUs; the "
        f"largest has {largest[0]:g} and {largest[1]:g}. Waiting: `ray status` tells more, Ctrl-C gives up."
    )


def remove(address: str) -> None:
    """Takes the pool out of a cluster; raises ``bad_config`` where nothing answers."""
    serve = join(address)
    from streamer.engine.pool.replica import APP

    serve.delete(APP)
