"""`deploy/` is what Kubernetes accepts, and agrees with the service it deploys."""

import math
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from serve.batching.overload import REFUSED_SHARE
from serve.config import read_service_config
from serve.metrics import Metrics
from serve.settings import CONFIG, WORKERS

with warnings.catch_warnings():
    # BentoML uses names that pathspec and pydantic deprecate, while it is imported.
    warnings.simplefilter("ignore", DeprecationWarning)
    from serve.service import PROBES, Understudy

DEPLOY = Path(__file__).parent.parent / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
RESOURCES = ("deployment.yaml", "service.yaml", "autoscaler.yaml", "disruption-budget.yaml")
VERSIONS = ("1.29", "1.33", kubernetes_validate.latest_version())


def read(name: str) -> Any:
    return yaml.safe_load((KUBERNETES / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", RESOURCES)
def test_resources_fit_the_published_schemas(name, version):
    """Oracle: the schemas that Kubernetes publishes, in their strict form: an unknown field is a fault."""
    assert fault_of(read(name), version) is None


def test_the_schemas_would_have_noticed():
    """Oracle: a misspelt field and a wrong type are refused, and named."""
    for change, named in (({"replcas": 2}, "replcas"), ({"minReadySeconds": "soon"}, "soon")):
        resource = read("deployment.yaml")
        resource["spec"] |= change
        assert named in (fault_of(resource, VERSIONS[-1]) or "")


def fault_of(resource: Any, version: str) -> str | None:
    """What the schemas have against it, None for nothing."""
    try:
        kubernetes_validate.validate(resource, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return str(error.message)
    return None


def test_kustomization_lists_what_there_is():
    """Oracle: the folder, less what is optional or meant for another program."""
    listed = read("kustomization.yaml")
    assert set(listed["resources"]) == set(RESOURCES)
    sources = {entry.partition("=")[2] for each in listed["configMapGenerator"] for entry in each["files"]}
    others = {"kustomization.yaml", "monitor.yaml", "adapter-rules.yaml"}
    assert {path.name for path in KUBERNETES.iterdir()} == set(RESOURCES) | sources | others


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kustomize_renders_what_the_schemas_accept():
    """Oracle: kubectl, and the schemas; the pods mount the map that was generated."""
    done = subprocess.run(["kubectl", "kustomize", str(KUBERNETES)], capture_output=True, text=True, check=True)
    rendered = {each["kind"]: each for each in yaml.safe_load_all(done.stdout)}
    for resource in rendered.values():
        assert fault_of(resource, VERSIONS[-1]) is None
    (volume,) = [each for each in pod_of(rendered["Deployment"])["volumes"] if "configMap" in each]
    assert volume["configMap"]["name"] == rendered["ConfigMap"]["metadata"]["name"]
    assert set(rendered["ConfigMap"]["data"]) == {"service.yaml"}


def pod_of(deployment: dict[str, Any]) -> dict[str, Any]:
    return deployment["spec"]["template"]["spec"]


def test_names_meet():
    """Oracle: each other: selectors the pods' labels, ports and the scale target their names."""
    deployment, service = read("deployment.yaml"), read("service.yaml")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    monitor, budget = read("monitor.yaml"), read("disruption-budget.yaml")
    for selector in (
        deployment["spec"]["selector"]["matchLabels"],
        service["spec"]["selector"],
        budget["spec"]["selector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    target = read("autoscaler.yaml")["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == (deployment["kind"], deployment["metadata"]["name"])
    (container,) = pod_of(deployment)["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert service["spec"]["ports"][0]["targetPort"] in ports
    assert {endpoint["port"] for endpoint in monitor["spec"]["endpoints"]} <= {
        port["name"] for port in service["spec"]["ports"]
    }
    annotations = deployment["spec"]["template"]["metadata"]["annotations"]
    assert int(annotations["prometheus.io/port"]) in ports.values()
    assert container["image"].partition(":")[0] == read("kustomization.yaml")["images"][0]["name"]


def test_pods_agree_with_the_service():
    """Oracle: the program: its probes, its variables, its configuration, its port, and that a pod may write to /tmp."""
    pod = pod_of(read("deployment.yaml"))
    (container,) = pod["containers"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["path"] in PROBES
    variables = {each["name"]: each["value"] for each in container["env"]}
    assert variables[WORKERS] == "1"
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert variables[CONFIG] == f"{mounts['config']['mountPath']}/service.yaml"
    read_service_config(KUBERNETES / "service-config.yaml")
    recipe = (DEPLOY / "docker/Dockerfile").read_text(encoding="utf-8")
    assert f"EXPOSE {container['ports'][0]['containerPort']}\n" in recipe
    assert f"USER {pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}\n" in recipe
    assert f"serve.service:{Understudy.inner.__name__}" in recipe
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert f"BENTOML_HOME={mounts['tmp']['mountPath']}/" in recipe
    assert not mounts["tmp"].get("readOnly")


def test_a_pod_drains_before_it_is_killed():
    """Oracle: the limits of the service: 5 s until no balancer sends, a body's time, and the queue's, twice over."""
    limits = read_service_config(KUBERNETES / "service-config.yaml").limits
    pod = pod_of(read("deployment.yaml"))
    (_, seconds) = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    longest = limits.body_seconds + limits.queue_seconds
    assert pod["terminationGracePeriodSeconds"] >= int(seconds) + 2 * longest
    assert pod["containers"][0]["resources"]["limits"]["cpu"] == "2"


def test_the_autoscaler_reads_what_the_adapter_writes():
    """Oracle: the adapter's rules: the same metrics, of series that the service has."""
    metrics = [each["pods"]["metric"]["name"] for each in read("autoscaler.yaml")["spec"]["metrics"]]
    rules = read("adapter-rules.yaml")["rules"]["custom"]
    assert metrics == [rule["name"]["as"] for rule in rules] == ["understudy_queued_tokens", "understudy_refused_ratio"]
    for rule, series in zip(rules, ("understudy_queued_tokens", "understudy_requests_total"), strict=True):
        assert rule["name"]["matches"] == f"^{series}$"
        assert rule["seriesQuery"].partition("{")[0] == series
        assert f"{series}{{".encode() in rendered_metrics()


def rendered_metrics() -> bytes:
    metrics = Metrics()
    metrics.requests.labels("/predict", "200").inc()
    metrics.queued_tokens.labels("student/int8").set(1)
    return metrics.render()


@pytest.mark.parametrize(("offered", "pods"), [(1.0, 0), (1.4, 4), (4.0, 24)])
def test_an_overload_asks_for_more_pods_than_there_are(offered, pods):
    """Oracle: Kubernetes' formula, pods x value / target, for two pods of which each answers one of `offered`."""
    (_, metric) = read("autoscaler.yaml")["spec"]["metrics"]
    target = int(metric["pods"]["target"]["averageValue"].removesuffix("m")) / 1000
    assert math.ceil(round(2 * (offered - 1) / target, 6)) == pods
    assert target / (1 + target) < REFUSED_SHARE  # whatever the service calls an overload is above the target


def test_the_image_takes_what_a_bento_has():
    """Oracle: `serve.package`: the lock's place and the folder of sources."""
    from serve.package import LOCK

    copied = list(copies((DEPLOY / "docker/Dockerfile").read_text(encoding="utf-8")))
    assert copied == [LOCK, "src"]
    ignored = (DEPLOY / "docker/Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in ignored
    assert {line[1:] for line in ignored if line.startswith("!")} == set(copied)


def copies(recipe: str) -> Iterator[str]:
    """What `COPY` takes from the build context."""
    for line in recipe.splitlines():
        words = line.split()
        if words[:1] == ["COPY"] and not words[1].startswith("--from"):
            yield words[1]
