"""The manifests of deploy/kubernetes: each is what its reader accepts, and asks of this program what it has.

Nothing here has a cluster. The formats' schemas are in ``tests.manifests``; whether the objects fit each
other is in ``test_kubernetes_fit``, and what their nginx does in ``test_kubernetes_front``.
"""

from __future__ import annotations

import asyncio
import copy
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from websockets.datastructures import Headers
from websockets.http11 import Request

from export.lock import pyproject
from streamer.cli.config import parse
from streamer.cli.listening import ListeningOptions
from streamer.cli.relay import RelayOptions
from streamer.cli.serve import ServeOptions
from streamer.contract.errors import FaceError
from streamer.engine.bundle import Bundle
from streamer.server.http import Site
from streamer.server.metrics import Metrics
from streamer.server.settings import Settings
from tests.manifests import (
    CLIENT_PORT,
    FOLDER,
    OURS,
    Document,
    containers,
    documents,
    named,
    of_kind,
    pods,
    problems,
    replica,
    serve_configuration,
    the,
)

ROOT = Path(__file__).resolve().parents[1]
NGINX = (FOLDER / "nginx.conf").read_text("utf-8")
PAGE = (ROOT / "docs" / "kubernetes.md").read_text("utf-8")
COMMANDS: dict[str, type[ListeningOptions]] = {"serve": ServeOptions, "relay": RelayOptions}


def image_environment() -> dict[str, str]:
    """What the image sets."""
    (line,) = re.findall(
        r"^ENV (DIFFSPEAKER_HOST=.*)$", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE
    )
    return dict(word.split("=") for word in line.split())


def options_of(container: Document) -> ListeningOptions:
    """What a container's command makes of its words and variables; a secret is the word ``secret``."""
    environment = image_environment()
    for variable in container["env"]:
        environment[variable["name"]] = variable.get("value", "secret")
    command, *words = container["args"]
    return parse(COMMANDS[command], words, f"diffspeaker {command}", "", environment)


# ---- the formats ----


@pytest.mark.parametrize(
    "place", range(len(documents())), ids=[f"{name}-{one['kind']}" for name, one in documents()]
)
def test_an_object_is_what_its_reader_accepts(place: int) -> None:
    assert problems(documents()[place][1]) == []


def worker(service: Document) -> Document:
    found: Document = service["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]
    return found


def serve(document: Document, change: Callable[[Document], Any]) -> None:
    configuration = yaml.safe_load(document["spec"]["serveConfigV2"])
    change(configuration)
    document["spec"]["serveConfigV2"] = yaml.safe_dump(configuration)


BROKEN: list[tuple[str, Callable[[Document], Any]]] = [
    ("StatefulSet", lambda one: one["spec"].update(serviceNam="x")),
    ("StatefulSet", lambda one: one["spec"].pop("serviceName") and one["spec"].update(replicas="two")),
    ("StatefulSet", lambda one: one["spec"]["template"]["spec"]["containers"][0].update(livenesProbe={})),
    ("Deployment", lambda one: one["spec"].pop("selector")),
    ("Service", lambda one: one["spec"].update(ports=8600)),
    ("NetworkPolicy", lambda one: one["spec"]["ingress"][0].update(fro=[])),
    ("HorizontalPodAutoscaler", lambda one: one["spec"].update(maxReplicas=None)),
    ("PodDisruptionBudget", lambda one: one["spec"].update(maxUnavailable=[1])),
    ("ScaledObject", lambda one: one["spec"].pop("triggers")),
    ("ScaledObject", lambda one: one["spec"].update(minReplicasCount=2)),
    ("ScaledObject", lambda one: one["spec"]["triggers"][0]["metadata"].update(threshold=0.7)),
    ("PodMonitor", lambda one: one["spec"]["podMetricsEndpoints"][0].update(pth="/metrics")),
    ("RayService", lambda one: one["spec"].update(rayClusterSpec={})),
    ("RayService", lambda one: worker(one).update(maxReplicas=0)),
    ("RayService", lambda one: worker(one)["rayStartParams"].update({"num-cpus": 4})),
    ("RayService", lambda one: worker(one)["template"]["spec"]["containers"][0].update(img="x")),
    ("RayService", lambda one: one["spec"]["rayClusterConfig"]["autoscalerOptions"].update(env={"A": "b"})),
    ("RayService", lambda one: serve(one, lambda c: c.update(proxy_location="Nowhere"))),
    ("RayService", lambda one: serve(one, lambda c: c["applications"][0].update(import_path="replica"))),
    ("RayService", lambda one: serve(one, lambda c: c["applications"][0].update(name="face"))),
    ("RayService", lambda one: serve(one, lambda c: c["applications"][0]["args"].update(gpu=1))),
]


@pytest.mark.parametrize("place", range(len(BROKEN)), ids=[kind for kind, _ in BROKEN])
def test_what_is_broken_is_refused(place: int) -> None:
    kind, breaks = BROKEN[place]
    whole = of_kind(kind)[0]
    broken = copy.deepcopy(whole)
    breaks(broken)
    assert problems(whole) == [] and problems(broken) != []


# ---- this program ----


@pytest.mark.parametrize("name", ["gateway", "relay"])
def test_a_command_line_is_one_of_this_program(name: str) -> None:
    container = named(name)
    options = options_of(container)
    known = {f"DIFFSPEAKER_{field.upper()}" for field in vars(options)}
    given = {one["name"] for one in container["env"] if one["name"].startswith("DIFFSPEAKER_")}
    assert given <= known
    assert options.token == "secret" and options.host == "0.0.0.0" and not options.insecure
    (port,) = container["ports"]
    assert (port["name"], port["containerPort"]) == ("face", options.port)
    container["args"].append("--no-such-option")
    with pytest.raises(FaceError, match="no-such-option"):
        options_of(container)


def test_every_container_of_ours_has_been_looked_at() -> None:
    ours = {one["name"] for one in containers() if one["image"] in OURS}
    assert ours == {"gateway", "relay", "ray-head", "ray-worker"}
    assert all("args" not in one for one in containers() if one["name"].startswith("ray-"))


def test_secrets_are_named_and_nowhere_written() -> None:
    keys = set()
    for container in containers():
        for variable in container.get("env", []):
            if "TOKEN" in variable["name"]:
                secret = variable["valueFrom"]["secretKeyRef"]
                assert secret["name"] == "diffspeaker"
                keys.add(secret["key"])
    assert keys == set(re.findall(r"--from-literal=([\w-]+)=", PAGE)) == {"token", "watch-token"}
    assert of_kind("Secret") == [] and "create secret generic diffspeaker" in PAGE


def test_the_gateways_ask_the_pool_that_is_there() -> None:
    (service,) = of_kind("RayService")
    options = options_of(named("gateway"))
    assert isinstance(options, ServeOptions) and options.max_sessions
    assert options.engine == f"ray://{service['metadata']['name']}-head-svc:{CLIENT_PORT}"
    head = named("ray-head")
    assert CLIENT_PORT in [port["containerPort"] for port in head["ports"]]
    relay = options_of(named("relay"))
    front = the("Service", "diffspeaker-front")["spec"]["ports"][0]["port"]
    assert isinstance(relay, RelayOptions) and relay.upstream == f"ws://diffspeaker-front:{front}"


def test_the_pool_scales_itself_and_finds_room_for_all_replicas() -> None:
    (application,) = serve_configuration()["applications"]
    module, attribute = application["import_path"].split(":")
    pool = replica()
    assert module == pool.__name__ and callable(getattr(pool, attribute))
    options = pool.PoolOptions(**application["args"])
    scaling = pool.app(application["args"])._bound_deployment._deployment_config.autoscaling_config
    assert (scaling.min_replicas, scaling.max_replicas) == (options.replicas, options.max_replicas)
    assert scaling.target_ongoing_requests == options.calls and options.gpus < 1
    cluster = of_kind("RayService")[0]["spec"]["rayClusterConfig"]
    assert cluster["enableInTreeAutoscaling"] is True
    group = cluster["workerGroupSpecs"][0]
    limits = named("ray-worker")["resources"]["limits"]
    on_one = min(int(limits["cpu"]) // options.cpus, limits["nvidia.com/gpu"] // options.gpus)
    assert on_one * group["minReplicas"] >= options.replicas
    assert on_one * group["maxReplicas"] >= options.max_replicas
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_ray_is_the_version_that_is_locked_and_reports_nothing_to_its_makers() -> None:
    cluster = of_kind("RayService")[0]["spec"]["rayClusterConfig"]
    assert (
        f"ray[serve]=={cluster['rayVersion']}" in pyproject()["project"]["optional-dependencies"]["cluster"]
    )
    rays = [one for one in containers() if one["name"] in ("ray-head", "ray-worker", "gateway")]
    assert len(rays) == 3
    for one in (*rays, cluster["autoscalerOptions"]):
        assert {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"} in one["env"]


def test_the_metrics_that_scale_are_counted_here() -> None:
    text = Metrics().text().decode()
    counted = {line.split("{")[0].split(" ")[0] for line in text.splitlines() if line[:1] != "#"}
    (scaled,) = of_kind("ScaledObject")
    queries = " ".join(trigger["metadata"]["query"] for trigger in scaled["spec"]["triggers"])
    asked_for = set(re.findall(r"\bface_\w+", queries))
    assert (
        {"face_sessions_active", "face_sessions_capacity", "face_deadline_miss_total"} < asked_for <= counted
    )
    (monitor,) = of_kind("PodMonitor")
    gateway = the("StatefulSet", "diffspeaker-gateway")["spec"]["template"]["metadata"]["labels"]
    labels = {"job": gateway[monitor["spec"]["jobLabel"]]}
    labels |= {re.sub(r"\W", "_", key): gateway[key] for key in monitor["spec"]["podTargetLabels"]}
    asked = [dict(re.findall(r'(\w+)="([^"]*)"', part)) for part in re.findall(r"{(.*?)}", queries)]
    assert len(asked) == len(re.findall(r"\bface_", queries)) and all(one == labels for one in asked)
    assert f'up{{job="{labels["job"]}"}}' in (ROOT / "docs/observability/alerts.yaml").read_text("utf-8")


def test_what_is_probed_and_scraped_is_served(folder: Path) -> None:
    bundle = Bundle.load(folder)
    site = Site(folder, bundle.folder, bundle.manifest, Metrics(), lambda: True)
    paths = {"nginx": re.findall(r"location = (/\w+) {\s+return 200", NGINX)}
    replica()
    from ray._private.ray_constants import DEFAULT_DASHBOARD_AGENT_LISTEN_PORT
    from ray.dashboard.modules.reporter import healthz_agent

    agent = inspect.getsource(healthz_agent)
    for container in containers():
        for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
            if kind not in container:
                assert kind == "startupProbe"
                continue
            get = container[kind]["httpGet"]
            if container["name"].startswith("ray-"):
                assert f'@routes.get("{get["path"]}")' in agent
                assert get["port"] == DEFAULT_DASHBOARD_AGENT_LISTEN_PORT
                continue
            assert get["port"] in [port["name"] for port in container["ports"]]
            if container["image"] not in OURS:
                assert get["path"] in paths["nginx"]
                continue
            assert get["path"] == ("/readyz" if kind == "readinessProbe" else "/healthz")
            assert status(site, get["path"]) == 200
    (endpoint,) = of_kind("PodMonitor")[0]["spec"]["podMetricsEndpoints"]
    assert status(site, endpoint["path"]) == 200 and status(site, "/nothing") == 404


def status(site: Site, path: str) -> int:
    return asyncio.run(site.respond(Request(path, Headers()))).status_code


def test_who_is_stopped_has_the_time_to_drain() -> None:
    settings = Settings()
    for name in ("gateway", "relay"):
        (pod,) = [pod for pod in pods() if pod["spec"]["containers"][0]["name"] == name]
        options = options_of(named(name))
        needed = settings.drain_timeout_s + settings.close_timeout_s + getattr(options, "resume_s", 0.0)
        slept = named(name)["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert slept >= 5  # the DNS's time to live
        assert pod["spec"]["terminationGracePeriodSeconds"] > slept + needed
    (front,) = [pod for pod in pods() if pod["spec"]["containers"][0]["name"] == "nginx"]
    (minutes,) = re.findall(r"^worker_shutdown_timeout (\d+)m;$", NGINX, re.MULTILINE)
    assert front["spec"]["terminationGracePeriodSeconds"] > int(minutes) * 60 + 5
