"""The manifests of deploy/kubernetes fit each other: what one names another has; nothing is left open."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import yaml

from export.lock import pyproject
from tests.manifests import (
    CLIENT_PORT,
    FOLDER,
    OURS,
    containers,
    documents,
    kustomization,
    named,
    of_kind,
    pods,
    problems,
    selected,
    templates,
    the,
)

ROOT = Path(__file__).resolve().parents[1]
NGINX = (FOLDER / "nginx.conf").read_text("utf-8")
PAGE = (ROOT / "docs" / "kubernetes.md").read_text("utf-8")


def test_selectors_find_pods() -> None:
    for one in of_kind("Deployment", "StatefulSet"):
        assert selected(one["spec"]["selector"]["matchLabels"]) == [one["spec"]["template"]]
        for spread in one["spec"]["template"]["spec"]["topologySpreadConstraints"]:
            assert spread["labelSelector"] == one["spec"]["selector"]
    for one in of_kind("Service"):
        (pod,) = selected(one["spec"]["selector"])
        names = [port["name"] for port in pod["spec"]["containers"][0]["ports"]]
        assert all(port["targetPort"] in names for port in one["spec"]["ports"])
    for one in of_kind("PodDisruptionBudget"):
        assert len(selected(one["spec"]["selector"]["matchLabels"])) == 1
    (monitor,) = of_kind("PodMonitor")
    (wanted,) = monitor["spec"]["selector"]["matchExpressions"]
    found = [one["metadata"]["labels"].get(wanted["key"]) for one in pods()]
    assert set(wanted["values"]) < set(found)


def test_rays_ports_are_open_to_the_pool_the_gateways_and_its_operator_only() -> None:
    policy = the("NetworkPolicy", "diffspeaker-pool")["spec"]
    assert len(selected(policy["podSelector"]["matchLabels"])) == 2
    among, gateways, operator = policy["ingress"]
    assert among == {"from": [{"podSelector": policy["podSelector"]}]}
    (peer,) = gateways["from"]
    (pod,) = selected(peer["podSelector"]["matchLabels"])
    assert pod["spec"]["containers"][0]["name"] == "gateway" and gateways["ports"] == [{"port": CLIENT_PORT}]
    assert operator["ports"] == [{"port": 8265}] and "podSelector" in operator["from"][0]
    front = the("NetworkPolicy", "diffspeaker-gateway")["spec"]["ingress"][0]["from"][0]
    assert [
        one["spec"]["containers"][0]["name"] for one in selected(front["podSelector"]["matchLabels"])
    ] == ["nginx"]


def test_what_is_scaled_exists_and_says_no_number_of_its_own() -> None:
    for one in of_kind("ScaledObject", "HorizontalPodAutoscaler"):
        target = one["spec"]["scaleTargetRef"]
        found = the(target["kind"], target["name"])
        assert found["apiVersion"] == target["apiVersion"] and "replicas" not in found["spec"]
    (scaled,) = of_kind("ScaledObject")
    behaviour = scaled["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert (
        behaviour["scaleDown"]["stabilizationWindowSeconds"]
        > 600
        > (behaviour["scaleUp"]["stabilizationWindowSeconds"])
    )
    assert behaviour["scaleDown"]["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 600}]


def test_what_is_mounted_and_resolved_is_there() -> None:
    generated = {one["name"]: one["files"] for one in kustomization()["configMapGenerator"]}
    for pod in pods():
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        for volume in volumes.values():
            assert "emptyDir" in volume or volume["configMap"]["name"] in generated
        for container in pod["spec"]["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes.keys()
    command, mounted = named("nginx")["command"], named("nginx")["volumeMounts"][0]
    assert f"{mounted['mountPath']}/{generated['diffspeaker-front'][0]}" in command
    gateways = the("StatefulSet", "diffspeaker-gateway")["spec"]["serviceName"]
    headless = the("Service", gateways)["spec"]
    assert headless["clusterIP"] == "None" and "publishNotReadyAddresses" not in headless
    host = f"{gateways}.{kustomization()['namespace']}.svc.cluster.local"
    assert f"server {host} service={headless['ports'][0]['name']} resolve" in NGINX


def test_the_kustomization_has_every_file_and_every_image_at_one_version() -> None:
    text = (FOLDER / "kustomization.yaml").read_text("utf-8")
    assert set(re.findall(r"- (?:# )?([\w.]+\.yaml)", text.replace("# - ", "- "))) == {
        name for name, _ in documents()
    }
    version = pyproject()["project"]["version"]
    tags = {one["name"]: one["newTag"] for one in kustomization()["images"]}
    assert tags == dict.fromkeys(OURS, version)
    for container in containers():
        image = container["image"]
        assert image in tags or re.fullmatch(r"[a-z/]+:\d+\.\d+\.\d+", image), image
    for lock in re.findall(r"LOCK=([\w.-]+)", text):
        assert (ROOT / "requirements" / lock).is_file()


def test_every_pod_is_locked_down_and_told_of_no_services() -> None:
    """A Service ``diffspeaker`` would be told of as DIFFSPEAKER_PORT, which is an option."""
    for pod in pods():
        spec = pod["spec"]
        assert spec["enableServiceLinks"] is False
        context = spec["securityContext"]
        assert context["runAsNonRoot"] and context["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            inner = container["securityContext"]
            assert inner["readOnlyRootFilesystem"] and inner["allowPrivilegeEscalation"] is False
            assert inner["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]
            user = str(context["runAsUser"])
            assert container["image"] not in OURS or f"USER {user}:" in (ROOT / "Dockerfile").read_text()
    assert len([pod for one in of_kind("RayService") for pod in templates(one)]) == 2


def test_the_alerts_are_loaded_as_the_page_says() -> None:
    (recipe,) = re.findall(r"^({ printf .*?) \| kubectl", PAGE, re.MULTILINE | re.DOTALL)
    made = subprocess.run(["bash", "-c", recipe], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    rule = yaml.safe_load(made)
    alerts = yaml.safe_load((ROOT / "docs/observability/alerts.yaml").read_text("utf-8"))
    assert rule["kind"] == "PrometheusRule" and rule["spec"] == alerts and problems(rule) == []
    rule["spec"]["groups"][0]["rules"][0]["exp"] = "up"
    assert problems(rule) != []
