"""Putting the pool into a Ray cluster, and taking it out again."""

from __future__ import annotations

from typing import Any

from streamer.contract.errors import FaceError
from streamer.engine.bundle import Bundle
from streamer.engine.pool.gateway import PoolBackend, join


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
    from streamer.engine.pool.replica import APP, app

    try:
        serve.start(proxy_location="Disabled")  # gateways hold a handle; nothing listens
        serve.run(app(options), name=APP, route_prefix=None)
    except Exception as error:  # whatever the replicas failed with
        reason = (str(error) or type(error).__name__).strip().splitlines()[-1]
        raise FaceError(
            "inference_failed", f"The replicas do not start: {reason}", "See Ray's log."
        ) from None
    return PoolBackend(address, bundle)


def remove(address: str) -> None:
    """Takes the pool out of a cluster; raises ``bad_config`` where nothing answers."""
    serve = join(address)
    from streamer.engine.pool.replica import APP

    serve.delete(APP)
