"""Print the public images that building and starting the compose stack pulls, one a line.

Reads `docker compose config --format json` from standard input: the image of each service that is not built here,
and the base image of each Dockerfile that is. Not inside: pulling or standing in for them.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any


def base_images(dockerfile: str, arguments: dict[str, str]) -> set[str]:
    """Images after FROM, build arguments put in, stages of the same file left out."""
    values = dict(re.findall(r"^ARG\s+(\w+)=(\S+)", dockerfile, re.MULTILINE)) | arguments
    stages: set[str] = {"scratch"}
    images: set[str] = set()
    for image, stage in re.findall(
        r"^FROM\s+(?:--\S+\s+)*(\S+)(?:\s+AS\s+(\S+))?", dockerfile, re.MULTILINE | re.IGNORECASE
    ):
        named = re.sub(r"\$\{?(\w+)\}?", lambda m: values.get(m.group(1), m.group(0)), image)
        if named not in stages:
            images.add(named)
        stages.add(stage)
    return images


def images_needed(compose: dict[str, Any]) -> set[str]:
    images: set[str] = set()
    for service in compose["services"].values():
        build = service.get("build")
        if build:
            dockerfile = Path(build["context"]) / build.get("dockerfile", "Dockerfile")
            images |= base_images(dockerfile.read_text(), build.get("args") or {})
        else:
            images.add(service["image"])
    return images


if __name__ == "__main__":
    print("\n".join(sorted(images_needed(json.load(sys.stdin)))))
