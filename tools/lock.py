"""Write the lock files again from pyproject.toml: `make lock`.

Inside: one resolution for every platform and every supported Python (uv's universal mode, with the hashes of all
wheels), split by who needs what. Not inside: installing; that is tools/setup_env.py.

    requirements.lock         everything but torch, all extras included
    requirements-run.lock     what the daemon needs to run, all extras but `dev` included, same versions
    requirements-cuda.lock    the CUDA libraries of torch's default Linux build, for GPU machines
    requirements-torch.lock   torch itself; written by hand, read here

Versions already locked stay unless pyproject.toml rules them out; `make lock UPGRADE=1` takes the newest.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UV_VERSION = "0.13.8"
HEADER = "# Written by `make lock`; do not edit. {purpose}\n"
# A block is a requirement and the lines that belong to it: hashes and the comment on who asked for it.
BLOCK = re.compile(r"^(?=[a-zA-Z0-9])", re.MULTILINE)


def is_cuda(name: str) -> bool:
    """True for packages that only the CUDA builds of torch ask for.

    >>> [is_cuda(name) for name in ("nvidia-cublas", "cuda-toolkit", "triton", "numpy")]
    [True, True, True, False]
    """
    return name == "triton" or name.startswith(("nvidia-", "cuda-"))


def split_lock(text: str) -> tuple[str, str]:
    """Part a compiled lock into (everything but torch and CUDA, CUDA only); torch itself is dropped."""
    rest: list[str] = []
    cuda: list[str] = []
    for block in BLOCK.split(text):
        name = re.split(r"[=\s\[]", block, maxsplit=1)[0]
        if not name or name == "torch":
            continue
        (cuda if is_cuda(name) else rest).append(block)
    return "".join(rest), "".join(cuda)


def compile_lock(uv: Path, extras: Sequence[str], seed: Path, output: Path, *, upgrade: bool) -> str:
    """Resolve pyproject.toml with `extras`, keeping the versions of `seed` where they still fit."""
    if seed.is_file() and not upgrade:
        shutil.copy(seed, output)
    command = [str(uv), "pip", "compile", "pyproject.toml", "--universal", "--fork-strategy", "fewest"]
    command += ["--generate-hashes", "--no-header", "--no-config", "--quiet"]
    command += ["--constraints", "requirements-torch.lock", "--output-file", str(output)]
    for extra in extras:
        command += ["--extra", extra]
    subprocess.run(command, cwd=ROOT, check=True)
    return output.read_text()


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the lock files again from pyproject.toml.")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that pyproject.toml allows")
    upgrade = parser.parse_args().upgrade

    with tempfile.TemporaryDirectory() as folder:
        temp = Path(folder)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(temp / "uv"), f"uv=={UV_VERSION}"]
        subprocess.run(pip, check=True)
        uv = temp / "uv" / "bin" / "uv"
        extras = ["confluent", "object-store", "postgresql", "schema-registry", "sessions"]
        full = compile_lock(uv, [*extras, "dev"], ROOT / "requirements.lock", temp / "full", upgrade=upgrade)
        # The full resolution seeds this one, so that what is tested is what ships.
        run = compile_lock(uv, extras, temp / "full", temp / "run", upgrade=False)

    everything, cuda = split_lock(full)
    runtime, _ = split_lock(run)
    for name, purpose, body in (
        ("requirements.lock", "Everything but torch, for work on the project.", everything),
        ("requirements-run.lock", "What the daemon needs to run, but for torch.", runtime),
        ("requirements-cuda.lock", "CUDA libraries of torch's default Linux build; GPU machines only.", cuda),
    ):
        (ROOT / name).write_text(HEADER.format(purpose=purpose) + body)
        print(f"{name}: {len(BLOCK.findall(body))} packages")


if __name__ == "__main__":
    main()
