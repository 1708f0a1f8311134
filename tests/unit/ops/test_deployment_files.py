"""The files for containers, Kubernetes and systemd: what they name exists, and their parts are locked down alike."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from hub.config import declarations
from ops.cli import known_commands

ROOT = Path(__file__).parents[3]
SETTINGS = {setting.env for setting in declarations().values()}
OTHERS = {"PYTHONSAFEPATH", "AWS_SHARED_CREDENTIALS_FILE"}
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = {name: one for name, one in SERVICES.items() if one["image"] == "realtime-hub"}
MANIFESTS = [
    document
    for file in sorted((ROOT / "ops" / "kubernetes").glob("*.yaml"))
    for document in yaml.safe_load_all(file.read_text())
]
DEPLOYMENTS = {
    one["metadata"]["name"]: one["spec"]["template"]["spec"] for one in MANIFESTS if one["kind"] == "Deployment"
}
UNITS = sorted((ROOT / "ops" / "systemd").glob("*.service"))


def unknown(names: set[str]) -> set[str]:
    """The names that are neither a setting nor the file of one."""
    return {name for name in names - OTHERS if name.removesuffix("_FILE") not in SETTINGS}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_locked_down(name: str) -> None:
    """Read-only, without capabilities, of a profile and a version; and it is on no port but those of this machine."""
    service = SERVICES[name]

    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert set(service["profiles"]) <= {"minimal", "demo"}
    assert service["image"] == "realtime-hub" or ":" in service["image"]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


@pytest.mark.parametrize("profile", ["minimal", "demo"])
def test_a_profile_is_whole(profile: str) -> None:
    """Redis, nodes and a worker, with the networks, secrets and volumes that they name."""
    there = {name: one for name, one in SERVICES.items() if profile in one["profiles"]}
    commands = {one["command"][0] for one in there.values() if one["image"] == "realtime-hub"}

    assert {"serve", "worker"} <= commands
    assert "redis" in there
    for service in there.values():
        assert set(service.get("networks", [])) <= set(COMPOSE["networks"])
        assert set(service.get("depends_on", [])) <= set(there)
        for secret in service.get("secrets", []):
            assert (secret if isinstance(secret, str) else secret["source"]) in COMPOSE["secrets"]


def test_what_the_services_are_told_are_settings(tmp_path: Path) -> None:
    """Settings exist, commands exist, each secret is made by ops/secrets.sh, and only nodes have the one that signs tokens."""
    subprocess.run([ROOT / "ops" / "secrets.sh", tmp_path / "secrets"], check=True)

    for one in OURS.values():
        assert unknown(set(one["environment"])) == set()
        assert "entrypoint" in one or one["command"][0] in known_commands()
        assert ("jwt_secret" in one["secrets"]) == (one["command"] == ["serve"])
    for secret in COMPOSE["secrets"].values():
        assert (tmp_path / "secrets" / Path(secret["file"]).name).stat().st_size > 0
    with pytest.raises(AssertionError):
        assert unknown({"HUB_JWT_SECRETS"}) == set()


def test_secrets_that_are_there_stay(tmp_path: Path) -> None:
    """Making them again changes no password, so that running servers keep working."""
    made = []
    for _ in range(2):
        subprocess.run([ROOT / "ops" / "secrets.sh", tmp_path], check=True)
        made.append({file.name: file.read_bytes() for file in tmp_path.iterdir()})

    assert made[0] == made[1]


@pytest.mark.parametrize("name", ["node", "worker"])
def test_a_pod_drains_before_it_is_killed_and_runs_as_the_image_s_user(name: str) -> None:
    """The grace period is longer than the hook and the drain; settings exist; a worker has no secret for tokens."""
    pod = DEPLOYMENTS[name]
    (container,) = pod["containers"]
    env = {one["name"]: one["value"] for one in container["env"]}
    hook_s = float(container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["", "0"])[1])
    files = {item["key"] for item in pod["volumes"][0]["secret"]["items"]}
    user = re.search(r"^USER (\d+):", (ROOT / "ops" / "Dockerfile").read_text(), re.MULTILINE)

    assert unknown(set(env)) == set()
    assert container["args"][0] in known_commands()
    assert pod["terminationGracePeriodSeconds"] >= hook_s + float(env["HUB_DRAIN_SECONDS"]) + 5
    assert user is not None
    assert pod["securityContext"]["runAsUser"] == int(user[1]) > 0
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert ("jwt_secret" in files) == (name == "node")
    assert all(Path(path).name in files for setting, path in env.items() if setting.endswith("_FILE"))


def test_the_manifests_refer_to_each_other() -> None:
    """Budgets, services and the autoscaler find what they are for."""
    listed = yaml.safe_load((ROOT / "ops" / "kubernetes" / "kustomization.yaml").read_text())["resources"]
    parts = {
        one["spec"]["selector"]["matchLabels"]["part"] for one in MANIFESTS if one["kind"] == "PodDisruptionBudget"
    }
    (scaler,) = [one for one in MANIFESTS if one["kind"] == "HorizontalPodAutoscaler"]
    (ingress,) = [one for one in MANIFESTS if one["kind"] == "Ingress"]
    backend = ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["name"]

    assert {*listed, "kustomization.yaml"} == {file.name for file in (ROOT / "ops" / "kubernetes").glob("*.yaml")}
    assert parts == set(DEPLOYMENTS)
    assert scaler["spec"]["scaleTargetRef"]["name"] == "node"
    assert backend in {one["metadata"]["name"] for one in MANIFESTS if one["kind"] == "Service"}


@pytest.mark.parametrize("unit", UNITS, ids=lambda file: file.name)
def test_a_unit_names_settings_and_commands(unit: Path) -> None:
    """A worker's has no secret for tokens; systemd waits longer than a drain takes."""
    text = unit.read_text()
    (command,) = re.findall(r"^ExecStart=\S+/hub (\w+)", text, re.MULTILINE)

    assert (
        unknown(set(re.findall(r"\b([A-Z0-9_]+)=[%/\w]", text.partition("\nEnvironment=")[2].partition("\n")[0])))
        == set()
    )
    assert command in known_commands()
    assert ("jwt_secret" in text) == (command == "serve")
    assert int(re.findall(r"^TimeoutStopSec=(\d+)", text, re.MULTILINE)[0]) >= 15


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_understands_the_units(tmp_path: Path) -> None:
    """With a program that exists in the place of the installed one."""
    for unit in UNITS:
        (tmp_path / unit.name).write_text(unit.read_text().replace("/opt/hub/bin/hub", "/bin/true"))
    command = ["systemd-analyze", "verify", *tmp_path.iterdir()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


def test_the_locks_have_everything_that_is_required() -> None:
    """`make lock` was run after the last change of a requirement."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for lock, parts in (
        ("requirements.txt", ("server", "otel", "audit")),
        ("requirements-dev.txt", ("server", "embedded", "dev")),
    ):
        locked = dict(re.findall(r"^([\w.-]+)(?:\[\w+\])?==([^\s;]+)", (ROOT / "ops" / lock).read_text(), re.MULTILINE))
        for text in (*project["dependencies"], *(one for part in parts for one in extras[part])):
            wanted = Requirement(text)
            version = locked.get(wanted.name.lower().replace("_", "-"))
            assert version is not None, f"{lock}: {wanted.name} is missing: make lock"
            assert wanted.specifier.contains(version), f"{lock}: {wanted.name} {version}: make lock"
