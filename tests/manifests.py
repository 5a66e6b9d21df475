"""The manifests of deploy/kubernetes: read, and checked against the formats of what will read them.

Kubernetes' own kinds are held to its schemas, strictly; KEDA's and the Prometheus operator's to models made
from theirs; what Ray Serve reads of a RayService to Ray's. No package has KubeRay's schema: the names of a
RayService's fields are listed here, after ray.io/v1, and the pods inside are held to Kubernetes' schema.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import kubernetes_validate
import yaml
from pydantic import BaseModel, ValidationError

from streamer.engine.pool import gateway

FOLDER = Path(__file__).resolve().parents[1] / "deploy" / "kubernetes"
VERSIONS = ("1.30", "1.37")  # since a `preStop` may sleep, and the newest that is known here
CLIENT_PORT = gateway._CLIENT_PORT
OURS = {"diffspeaker", "diffspeaker-gpu"}
Document = dict[str, Any]

MODELLED = ("ScaledObject", "PodMonitor", "PrometheusRule")
SERVICE = {"serveConfigV2", "rayClusterConfig"}
CLUSTER = {"rayVersion", "enableInTreeAutoscaling", "autoscalerOptions", "headGroupSpec", "workerGroupSpecs"}
SCALER = {"idleTimeoutSeconds", "env", "resources", "securityContext"}
HEAD = {"rayStartParams", "template"}
WORKERS = {*HEAD, "groupName", "replicas", "minReplicas", "maxReplicas"}


@cache
def _texts() -> dict[str, str]:
    return {path.name: path.read_text("utf-8") for path in sorted(FOLDER.glob("*.yaml"))}


def kustomization() -> Document:
    """What is applied together, and with which images."""
    found: Document = yaml.safe_load(_texts()["kustomization.yaml"])
    return found


def documents() -> list[tuple[str, Document]]:
    """Every object, with its file; new ones at each call."""
    texts = {name: text for name, text in _texts().items() if name != "kustomization.yaml"}
    return [(name, one) for name, text in texts.items() for one in yaml.safe_load_all(text)]


def of_kind(*kinds: str) -> list[Document]:
    """The objects of these kinds."""
    return [one for _, one in documents() if one["kind"] in kinds]


def the(kind: str, name: str) -> Document:
    """One object."""
    (found,) = [one for one in of_kind(kind) if one["metadata"]["name"] == name]
    return found


def templates(document: Document) -> Iterator[Document]:
    """The pods that an object makes."""
    if document["kind"] == "RayService":
        cluster = document["spec"]["rayClusterConfig"]
        yield from (group["template"] for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]])
    elif document["kind"] in ("Deployment", "StatefulSet"):
        yield document["spec"]["template"]


def pods() -> list[Document]:
    """All pods that are made, as templates."""
    return [template for _, one in documents() for template in templates(one)]


def containers() -> list[Document]:
    """Their containers."""
    return [container for pod in pods() for container in pod["spec"]["containers"]]


def serve_configuration() -> Document:
    """What the RayService hands to Ray Serve."""
    found: Document = yaml.safe_load(of_kind("RayService")[0]["spec"]["serveConfigV2"])
    return found


def selected(selector: dict[str, str]) -> list[Document]:
    """The pods that a selector finds."""
    assert selector
    return [pod for pod in pods() if selector.items() <= pod["metadata"]["labels"].items()]


def named(name: str) -> Document:
    """The container of a name."""
    (found,) = [one for one in containers() if one["name"] == name]
    return found


def problems(document: Document) -> list[str]:
    """What those who read an object would refuse of it."""
    kind = document["kind"]
    if kind == "RayService":
        return _ray_problems(document)
    if kind in MODELLED:
        return _model_problems(_models()[kind], document)
    return _kubernetes_problems(document)


def _kubernetes_problems(document: Document) -> list[str]:
    found = []
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            found.append(f"{version}: {'.'.join(map(str, error.path))}: {error.message}")
    return found


@cache
def _models() -> dict[str, type[BaseModel]]:
    """Imported late: there are very many of them."""
    from cloudcoil.models.keda.v1alpha1 import ScaledObject
    from cloudcoil.models.prometheus_operator.v1 import PodMonitor, PrometheusRule

    return {one.__name__: one for one in (ScaledObject, PodMonitor, PrometheusRule)}


def _model_problems(model: type[BaseModel], document: Document) -> list[str]:
    """The models ignore fields that they do not know, so what they have kept is compared."""
    try:
        kept = model.model_validate(document).model_dump(by_alias=True, exclude_unset=True, mode="json")
    except ValidationError as error:
        return [str(error)]
    return [] if kept == document else [f"unknown fields: {kept} is all that is kept of {document}"]


def _ray_problems(document: Document) -> list[str]:
    found: list[str] = []

    def only(what: str, part: Document, known: set[str]) -> None:
        found.extend(f"{what} has no {name}" for name in part.keys() - known)

    spec = document["spec"]
    only("spec", spec, SERVICE)
    cluster = spec["rayClusterConfig"]
    only("rayClusterConfig", cluster, CLUSTER)
    only("headGroupSpec", cluster["headGroupSpec"], HEAD)
    for group in cluster["workerGroupSpecs"]:
        only("workerGroupSpecs", group, WORKERS)
        if not group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]:
            found.append("the workers' bounds are in no order")
    scaler = cluster["autoscalerOptions"]
    only("autoscalerOptions", scaler, SCALER)
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        if not all(isinstance(value, str) for value in group["rayStartParams"].values()):
            found.append("rayStartParams are texts")
    # What the autoscaler's container is given is checked inside of one.
    merged = {"name": "autoscaler", **{key: scaler[key] for key in scaler.keys() - {"idleTimeoutSeconds"}}}
    pods = [*templates(document), {"spec": {"containers": [merged]}}]
    for pod in pods:
        whole = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "pod"}, "template": pod}
        found += _kubernetes_problems(whole)
    return found + _checked(lambda: _pool(yaml.safe_load(spec["serveConfigV2"])))


@cache
def replica() -> ModuleType:
    """The pool's module. Ray is imported late, for it takes seconds and warns of itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from streamer.engine.pool import replica
    return replica


def _pool(configuration: Document) -> None:
    pool = replica()
    from ray.serve.schema import ServeDeploySchema

    deployed = ServeDeploySchema.model_validate(configuration)
    (application,) = deployed.applications
    known = {field.name for field in fields(pool.PoolOptions)}
    if unknown := application.args.keys() - known:
        raise ValueError(f"the pool has no options {unknown}")
    if application.name != pool.APP:
        raise ValueError(f"gateways ask for {pool.APP}, not {application.name}")


def _checked(check: Callable[[], None]) -> list[str]:
    try:
        check()
    except ValueError as error:  # pydantic's are too
        return [str(error)]
    return []
