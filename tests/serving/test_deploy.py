"""The files that deploy the real server: every one is what its reader takes, and they name the same things."""

import json
import re
from pathlib import Path

import kubernetes.client
import promql_parser
import pytest
import yaml

from schema import names
from serving.batching import read_options
from serving.flags import Flags
from serving.messages import ModelServerConfig, MonitoringConfig, read_message
from serving.metrics import PAGE, Metrics
from serving.model_config import only_model, policy_of
from serving.versions import Policy

DEPLOY = Path(__file__).parents[2] / "serving" / "deploy"
KUBERNETES, CONFIG, MONITORING = DEPLOY / "kubernetes", DEPLOY / "config", DEPLOY / "monitoring"
MANIFESTS = sorted(path for path in KUBERNETES.glob("*.yaml") if path.name != "kustomization.yaml")
COMPOSE = yaml.safe_load((DEPLOY / "docker-compose.yml").read_text())
DEPLOYMENT = yaml.safe_load((KUBERNETES / "deployment.yaml").read_text())
(CONTAINER,) = DEPLOYMENT["spec"]["template"]["spec"]["containers"]
SERVING = COMPOSE["services"]["serving"]


def test_configuration_files_are_real_messages():
    entry = only_model(read_message(str(CONFIG / "models.config"), ModelServerConfig))
    assert (entry.name, entry.model_platform, policy_of(entry)) == (names.MODEL_NAME, "tensorflow", Policy())
    assert read_options(str(CONFIG / "batching.config")).pad_variable_length_inputs
    prometheus = read_message(str(CONFIG / "monitoring.config"), MonitoringConfig).prometheus_config
    assert prometheus.enable and prometheus.path == PAGE


@pytest.mark.parametrize("command", [CONTAINER["args"], SERVING["command"]], ids=["kubernetes", "compose"])
def test_servers_get_flags_that_both_servers_know(command):
    known = {name: default for name, default, _ in Flags.described()}
    for flag in command:
        name, value = re.fullmatch(r"--(\w+)=(.+)", flag).groups()
        assert name in known
        if isinstance(known[name], bool):
            assert value in ("true", "false")
        elif isinstance(known[name], int | float):
            float(value)
    files = {Path(flag.split("=")[1].rstrip("}")).name for flag in command if "_file=" in flag}
    assert files == {path.name for path in CONFIG.glob("*.config")}


# --- Kubernetes: every key is one of the API's, every value of its type -----------------------------------------------

SIMPLE = {"str": str, "int": int, "bool": bool, "float": (int, float), "object": object, "datetime": str}


def faults(value, kind, where):
    """What of a value the API's schema does not have, by the models that Kubernetes' own client is made of."""
    if kind.startswith("list["):
        if not isinstance(value, list):
            return [f"{where}: is no list"]
        return [f for i, part in enumerate(value) for f in faults(part, kind[5:-1], f"{where}[{i}]")]
    if kind.startswith("dict("):
        inner = kind[5:-1].split(", ")[1]
        return [f for key, part in value.items() for f in faults(part, inner, f"{where}.{key}")]
    if kind in SIMPLE:
        if where.endswith(("targetPort", ".port", "cpu", "memory", "storage", "sizeLimit")) or "Unavailable" in where:
            return [] if isinstance(value, int | str) else [f"{where}: {value!r}"]
        return [] if isinstance(value, SIMPLE[kind]) else [f"{where}: {value!r} is no {kind}"]
    model = getattr(kubernetes.client, kind)
    if not isinstance(value, dict):
        return [f"{where}: {value!r} is no {kind}"]
    kinds = {json_name: model.openapi_types[name] for name, json_name in model.attribute_map.items()}
    found = [f"{where}: {kind} has no {key}" for key in value if key not in kinds]
    for key, part in value.items():
        found += faults(part, kinds[key], f"{where}.{key}") if key in kinds else []
    return found


def model_of(manifest):
    version = manifest["apiVersion"].split("/")[-1]
    return version[0].upper() + version[1:] + manifest["kind"]


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_manifests_fit_the_kubernetes_api(path):
    for manifest in yaml.safe_load_all(path.read_text()):
        assert faults(manifest, model_of(manifest), manifest["kind"]) == []
        # What is required is required by the models' own constructors.
        kubernetes.client.ApiClient()._ApiClient__deserialize(manifest, model_of(manifest))


def test_the_validator_finds_what_is_wrong():
    spoiled = json.loads(json.dumps(DEPLOYMENT))
    spoiled["spec"]["replicas"] = "two"
    spoiled["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    found = faults(spoiled, "V1Deployment", "Deployment")
    assert len(found) == 2 and "replicas" in found[0] and "readynessProbe" in found[1]


def test_kustomize_finds_every_file():
    for folder in (KUBERNETES, CONFIG):
        kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
        assert kustomization["kind"] == "Kustomization"
        for resource in kustomization.get("resources", []):
            assert (folder / resource).exists()
        for generator in kustomization.get("configMapGenerator", []):
            assert all((folder / file).is_file() for file in generator["files"])
    listed = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["resources"]
    assert {path.name for path in MANIFESTS} == set(listed) - {"../config"}


def test_servers_are_safe_and_find_their_models():
    pod, security = DEPLOYMENT["spec"]["template"]["spec"], CONTAINER["securityContext"]
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] > 0
    assert security["readOnlyRootFilesystem"] and not security["allowPrivilegeEscalation"]
    mounts = {mount["name"]: mount for mount in CONTAINER["volumeMounts"]}
    assert mounts["models"]["readOnly"] and mounts["config"]["readOnly"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    claim = yaml.safe_load((KUBERNETES / "volume-claim.yaml").read_text())["metadata"]["name"]
    assert volumes["models"]["persistentVolumeClaim"] == {"claimName": claim, "readOnly": True}
    (generated,) = yaml.safe_load((CONFIG / "kustomization.yaml").read_text())["configMapGenerator"]
    assert volumes["config"]["configMap"]["name"] == generated["name"]
    base = only_model(read_message(str(CONFIG / "models.config"), ModelServerConfig)).base_path
    assert base.startswith(mounts["models"]["mountPath"])
    assert {"name": "TF_ENABLE_ONEDNN_OPTS", "value": "0"} in CONTAINER["env"]
    ports = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}
    assert f"--port={ports['grpc']}" in CONTAINER["args"] and f"--rest_api_port={ports['http']}" in CONTAINER["args"]
    for probe in ("startupProbe", "readinessProbe"):
        assert CONTAINER[probe]["httpGet"]["path"] == f"/v1/models/{names.MODEL_NAME}/metadata"
    labels = DEPLOYMENT["spec"]["template"]["metadata"]["labels"]
    for file in ("service.yaml", "disruption-budget.yaml", "network-policy.yaml"):
        spec = yaml.safe_load((KUBERNETES / file).read_text())["spec"]
        selector = spec.get("selector") or spec["podSelector"]
        assert selector.get("matchLabels", selector) == labels
    scaler = yaml.safe_load((KUBERNETES / "autoscaler.yaml").read_text())["spec"]
    assert scaler["scaleTargetRef"]["name"] == DEPLOYMENT["metadata"]["name"]
    assert scaler["minReplicas"] == DEPLOYMENT["spec"]["replicas"] > 1


def test_compose_mounts_what_is_there_and_writes_nothing():
    for name, service in COMPOSE["services"].items():
        image, tag = service["image"].rsplit(":", 1)
        assert image and re.fullmatch(r"v?\d+\.\d+\.\d+", tag), f"{name}: the image's version is to be written down"
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            if source.startswith("./"):
                assert (DEPLOY / source).is_file() and volume.endswith(":ro")
    assert all(volume.endswith(":ro") for volume in SERVING["volumes"]) and SERVING["read_only"]
    assert SERVING["image"] == CONTAINER["image"]
    assert SERVING["environment"]["TF_ENABLE_ONEDNN_OPTS"] == "0"


# --- monitoring -------------------------------------------------------------------------------------------------------


def expressions():
    rules = yaml.safe_load((MONITORING / "rules.yml").read_text())
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            yield rule["expr"]
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield target["expr"].replace("$model", "homefeed")


@pytest.mark.parametrize("expression", list(expressions()))
def test_expressions_are_promql_over_metrics_that_the_server_has(expression):
    promql_parser.parse(expression)
    rules = yaml.safe_load((MONITORING / "rules.yml").read_text())
    recorded = {rule["record"] for group in rules["groups"] for rule in group["rules"] if "record" in rule}
    told = {metric.name for metric in vars(Metrics()).values()}
    for name in re.findall(r"(?<![\w:])[a-z:][\w:]*:[\w:]+", expression):
        assert re.sub(r"_(bucket|sum|count)$", "", name) in told or name in told | recorded, name


def test_prometheus_and_grafana_read_what_is_written():
    prometheus = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    (job,) = prometheus["scrape_configs"]
    assert job["metrics_path"] == PAGE and job["static_configs"] == [{"targets": ["serving:8501"]}]
    assert all((MONITORING / file).is_file() for file in prometheus["rule_files"])
    rules = (MONITORING / "rules.yml").read_text()
    assert f'job="{job["job_name"]}"' in rules
    for group in yaml.safe_load(rules)["groups"]:
        for rule in group["rules"]:
            assert "record" in rule or {"summary", "action"} <= rule["annotations"].keys()
    (source,) = yaml.safe_load((MONITORING / "grafana-datasource.yml").read_text())["datasources"]
    panels = json.loads((MONITORING / "dashboard.json").read_text())["panels"]
    assert {panel["datasource"]["uid"] for panel in panels} == {source["uid"]}
    places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in panels]
    assert len(set(places)) == len(panels) == len({panel["id"] for panel in panels})
