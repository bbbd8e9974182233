"""Copies what the Helm chart needs of the rest of the repository into it: Helm reads nothing outside of a chart.

    python tools/chart_files.py           writes deploy/helm/streamer/files
    python tools/chart_files.py --check   exits 1 if it is not up to date

Alert rules and dashboards are copies of the files themselves; the settings that hold secrets
come from the product, so that the chart can refuse them in a ConfigMap.
"""

from __future__ import annotations

import sys
from pathlib import Path

from streamer.config import SECRET_KEYS
from streamer.config.sinks import SINK_SECRETS

ROOT = Path(__file__).parent.parent
FILES = ROOT / "deploy" / "helm" / "streamer" / "files"


def wanted() -> dict[Path, str]:
    """Every file under `FILES` and what it should hold."""
    copies = {"rules": ROOT / "deploy" / "prometheus" / "rules", "dashboards": ROOT / "dashboards" / "json"}
    files = {
        FILES / folder / path.name: path.read_text(encoding="utf-8")
        for folder, source in copies.items()
        for path in sorted(source.iterdir())
        if path.suffix in (".yml", ".json")
    }
    secrets = sorted(f"{section}.{key}" for section, key in SECRET_KEYS)
    files[FILES / "secret-settings.yaml"] = "".join(f"- {setting}\n" for setting in secrets)
    of_sinks = sorted(f"{kind}.{key}" for kind, keys in SINK_SECRETS.items() for key in keys)
    files[FILES / "sink-secrets.yaml"] = "".join(f"- {one}\n" for one in of_sinks)
    return files


def outdated() -> list[Path]:
    """Files that differ, are missing, or should not be there."""
    files = wanted()
    present = {path for path in FILES.rglob("*") if path.is_file()}
    differing = [path for path in files if path not in present or path.read_text(encoding="utf-8") != files[path]]
    return sorted([*differing, *present.difference(files)])


def main() -> int:
    stale = outdated()
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is not up to date; run: make chart", file=sys.stderr)
        return 1 if stale else 0
    files = wanted()
    for path in stale:
        if path in files:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files[path], encoding="utf-8")
        else:
            path.unlink()
        print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
