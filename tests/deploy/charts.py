"""Renders the Helm chart as an operator would, and reads what comes out.

Values are YAML text on top of one of the chart's own examples (deploy/helm/streamer/ci). Not
inside: what a cluster does with the manifests.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
CHART = ROOT / "deploy" / "helm" / "streamer"
EXAMPLES = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*-values.yaml"))
KUBERNETES = "1.30.0"

Manifest = dict[str, Any]


def helm() -> str:
    """The command; skips the test where there is none."""
    found = os.environ.get("HELM") or shutil.which("helm")
    if found:
        return found
    reason = "helm is neither in HELM nor on PATH: https://helm.sh"
    if os.environ.get("CI") == "true" and (ROOT.parent / "shared" / "helm").is_dir():
        pytest.fail(reason)  # it is at hand, so what runs the tests forgot it
    pytest.skip(reason)


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice, of which YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        assert len(set(keys)) == len(keys), f"a key stands twice in {keys}, {node.start_mark}"
        return super().construct_mapping(node, deep)


@dataclass(frozen=True)
class Rendered:
    """All manifests of one release."""

    manifests: tuple[Manifest, ...]

    def kind(self, kind: str) -> list[Manifest]:
        return [one for one in self.manifests if one["kind"] == kind]

    def one(self, kind: str) -> Manifest:
        (found,) = self.kind(kind)
        return found

    @property
    def workload(self) -> Manifest:
        """The replicas, whatever they are."""
        (found,) = self.kind("Deployment") + self.kind("StatefulSet")
        return found

    @property
    def pod(self) -> Manifest:
        """The pod template of the replicas."""
        template: Manifest = self.workload["spec"]["template"]
        return template

    @property
    def container(self) -> Manifest:
        (container,) = self.pod["spec"]["containers"]
        assert isinstance(container, dict)
        return container

    @property
    def config_text(self) -> str:
        """streamer.yaml."""
        (text,) = [one["data"]["streamer.yaml"] for one in self.kind("ConfigMap") if "streamer.yaml" in one["data"]]
        assert isinstance(text, str)
        return text

    def pods(self) -> Iterator[tuple[str, Manifest]]:
        """Every pod or pod template of the release, and what it belongs to."""
        for one in self.manifests:
            if one["kind"] == "Pod":
                yield "Pod", one
            elif one["kind"] == "CronJob":
                yield "CronJob", one["spec"]["jobTemplate"]["spec"]["template"]
            elif one["kind"] in ("Deployment", "StatefulSet"):
                yield one["kind"], one["spec"]["template"]


def values_file(example: str) -> Path:
    return CHART / "ci" / f"{example}-values.yaml"


@functools.cache
def render(
    example: str = "minimal", values: str = "", *, release: str = "streamer", set_file: str | None = None
) -> Rendered:
    """The manifests of an example with `values`, YAML text, on top."""
    done = _template(example, values, release, set_file, CHART)
    assert done.returncode == 0, done.stderr
    return Rendered(tuple(one for one in yaml.load_all(done.stdout, _Loader) if one))


def render_chart(chart: Path, example: str = "minimal") -> Rendered:
    """The same of another copy of the chart."""
    done = _template(example, "", "streamer", None, chart)
    assert done.returncode == 0, done.stderr
    return Rendered(tuple(one for one in yaml.load_all(done.stdout, _Loader) if one))


def refusal(example: str, values: str) -> str:
    """What Helm says to values that are refused, on one line."""
    done = _template(example, values, "streamer", None, CHART)
    assert done.returncode != 0, "nothing was refused"
    return re.sub(r"\s+", " ", done.stderr)


def run(*command: str, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=60)


def _template(
    example: str, values: str, release: str, set_file: str | None, chart: Path
) -> subprocess.CompletedProcess[str]:
    command = [helm(), "template", release, str(chart), "--namespace", "telemetry", "--kube-version", KUBERNETES]
    command += ["--values", str(values_file(example)), "--values", "-"]
    if set_file is not None:
        command += ["--set-file", set_file]
    return run(*command, text=values or "{}")


def environment(container: Manifest) -> dict[str, Manifest]:
    """Entries of the environment by name; each name once."""
    entries = container.get("env", [])
    assert len({entry["name"] for entry in entries}) == len(entries), entries
    return {entry["name"]: entry for entry in entries}


def selects(selector: dict[str, str], labels: dict[str, str]) -> bool:
    """Whether `matchLabels` finds something with these labels."""
    return selector.items() <= labels.items()
