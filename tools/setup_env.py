"""Set up what this project runs in: `make setup`, or `python tools/setup_env.py` inside an image.

Inside: the choice of torch's build for this machine, the plan of pip commands (a pure function of the machine), and
running it once per content of the lock files. Standard library only, because it runs before anything is installed.
Not inside: writing the lock files; that is tools/lock.py.

The rule that shapes the plan: pip never resolves a dependency here. Every step is `--no-deps` and takes exactly what
a lock file names, so gigabytes of CUDA libraries cannot arrive by resolution. On Linux without an NVIDIA GPU only the
build `+cpu` of torch will do; where none can be had, set-up stops and says what to do.
docs/decisions/0001-torch-build-and-lock.md has the reasons.

The syntax stays readable to Python 3.7, so that an old interpreter prints `check_python`'s sentence, not a traceback.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON_WANTED = (3, 11)
STAMP = ".streamer-setup.json"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
BUILDS = ("cpu", "cuda", "any")

TELL_EVERY_S = 10.0  # how long set-up is silent at most

EXIT_USAGE = 64
EXIT_FAILED = 69

# An index that does not answer must cost seconds, not minutes: three tries of 15 s each.
PATIENCE = ("--timeout", "15", "--retries", "2")
TORCH = "requirements-torch.lock"
CUDA = "requirements-cuda.lock"

CHECK_TORCH = """
import importlib.metadata as m, json, torch
names = {str(d.metadata["Name"]) for d in m.distributions()}
cuda_packages = sorted(name for name in names if name == "triton" or name.startswith(("nvidia-", "cuda-")))
print(json.dumps({"version": torch.__version__, "cuda": torch.version.cuda, "cuda_packages": cuda_packages}))
"""


class SetupError(Exception):
    """Set-up cannot go on; the text says what was wanted, what came and what to do."""

    def __init__(self, text: str, code: int = EXIT_FAILED) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True)
class Machine:
    """What the plan depends on."""

    system: str  # "linux", "darwin", ...
    arch: str  # "x86_64", "aarch64", "arm64"
    python: str  # "3.11"
    nvidia: bool  # nvidia-smi answers with a GPU

    def __str__(self) -> str:
        gpu = "an NVIDIA GPU" if self.nvidia else "no NVIDIA GPU"
        return f"{self.system} {self.arch}, Python {self.python}, {gpu}"


@dataclass(frozen=True)
class Step:
    """One thing to install: the ways to get it, tried in order until one works."""

    title: str
    ways: tuple[tuple[str, tuple[str, ...]], ...]  # (where from, arguments of `pip install`)


def choose_torch(machine: Machine, asked: str | None) -> str:
    """The build of torch for this machine: "cpu", "cuda", "any" or "plain" (the only build of its platform)."""
    if asked and asked not in BUILDS:
        raise SetupError(f"STREAMER_TORCH must be one of {', '.join(BUILDS)}; got {asked!r}", EXIT_USAGE)
    if machine.system != "linux":
        return "any" if asked == "any" else "plain"
    return asked or ("cuda" if machine.nvidia else "cpu")


def torch_steps(build: str, version: str) -> list[Step]:
    """How to get torch in `build`; the steps never let pip bring in a CUDA library that no lock names."""
    configured = "pip's configured indexes and find-links"
    only = ("--no-deps", *PATIENCE)
    if build == "cpu":
        pin = f"torch=={version}+cpu"
        ways = (
            (configured, (*only, pin)),
            # --index-url replaces the configured index, so a mirror that is down is not waited for again.
            (CPU_INDEX, (*only, "--index-url", CPU_INDEX, pin)),
        )
        return [Step(pin, ways)]
    if build == "cuda":
        # `===` compares the text: `==` would also take a `+cpu` file from a find-links folder.
        return [
            Step(f"torch=={version} (CUDA build)", ((configured, (*only, f"torch==={version}")),)),
            Step("CUDA libraries (several GB)", ((configured, ("--no-deps", "--require-hashes", "-r", CUDA)),)),
        ]
    if build == "plain":
        return [Step(f"torch=={version}", ((configured, (*only, f"torch=={version}")),))]
    # "any" is the one build whose dependencies pip resolves: the user asked for whatever comes.
    return [Step(f"torch=={version} (any build, with what it asks for)", ((configured, (f"torch=={version}",)),))]


def plan(build: str, version: str, *, runtime: bool = False, project: bool = True) -> list[Step]:
    """Every step in order: torch first, because it is what can fail for want of a source."""
    lock = "requirements-run.lock" if runtime else "requirements.lock"
    locked = Step(f"packages of {lock}", (("hash-checked", ("--no-deps", "--require-hashes", "-r", lock)),))
    steps = [*torch_steps(build, version), locked]
    if build == "any":
        steps.reverse()  # what torch asks for is then there already, in the locked versions
    if project:
        # setuptools is in the lock: no second, unpinned one is fetched to build with.
        target = (".",) if runtime else ("--editable", ".")
        steps.append(Step("the project", (("this folder", ("--no-deps", "--no-build-isolation", *target)),)))
    return steps


def refusal(machine: Machine, version: str, tried: list[tuple[str, str]]) -> str:
    """The words for a machine that needs the CPU build and cannot get it."""
    sources = "\n".join(f"            {where}\n              {why}" for where, why in tried)
    pin = f"torch=={version}+cpu"
    return f"""no CPU build of torch could be had, and set-up does not take the CUDA build unasked
  wanted    {pin} for {machine}
  tried
{sources}
  do one of
    1. let this machine reach {CPU_INDEX} (behind a proxy: set HTTPS_PROXY), and run this again
    2. fetch the file on a machine of the same kind that can, and bring it here:
         pip download --no-deps --index-url {CPU_INDEX} {pin} --dest wheels
         PIP_FIND_LINKS=$PWD/wheels make setup
    3. take the build that pip finds by default, several GB of CUDA libraries: STREAMER_TORCH=any make setup"""


# ------------------------------------------------------------------------------------------- the machine it runs on


def check_python(found: tuple[int, ...]) -> None:
    if found[:2] >= PYTHON_WANTED:
        return
    newer = [name for name in ("python3.13", "python3.12", "python3.11") if shutil.which(name)]
    hint = f"make setup PYTHON={newer[0]}" if newer else "install one, then: make setup PYTHON=python3.11"
    wanted, got = (".".join(map(str, v)) for v in (PYTHON_WANTED, found[:3]))
    raise SetupError(f"Python {wanted} or newer is needed; {sys.executable} is {got}\n  do    {hint}", EXIT_USAGE)


def this_machine() -> Machine:
    return Machine(
        system=platform.system().lower(),
        arch=platform.machine().lower(),
        python="{}.{}".format(*sys.version_info[:2]),
        nvidia=has_nvidia_gpu(),
    )


def has_nvidia_gpu() -> bool:
    """Ask the driver: the program may be installed on a machine whose GPU is absent or not passed through."""
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and "GPU" in done.stdout


def torch_version() -> str:
    found = re.search(r"^torch==(\S+)", (ROOT / TORCH).read_text(), re.MULTILINE)
    if not found:
        raise SetupError(f"{TORCH} must hold a line torch==VERSION; it has none")
    return found.group(1)


def fingerprint(*names: str) -> str:
    """Changes with the content of these files of the project."""
    digest = hashlib.sha256()
    for name in names:
        path = ROOT / name
        digest.update(path.read_bytes() if path.is_file() else b"absent")
    return digest.hexdigest()


def wanted_stamp(*, runtime: bool, project: bool) -> dict[str, str]:
    """What a finished environment remembers; set-up has something to do where this differs."""
    lock = "requirements-run.lock" if runtime else "requirements.lock"
    return {
        # An environment cannot be moved, nor serve another interpreter.
        "place": f"{ROOT} {platform.python_implementation()} {platform.python_version()} {platform.machine()}",
        "locks": f"{lock} {fingerprint(lock, TORCH, CUDA)}",
        "project": fingerprint("pyproject.toml", "tools/setup_env.py") if project else "",
    }


def read_stamp(venv: Path) -> dict[str, str]:
    try:
        stamp = json.loads((venv / STAMP).read_text())
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


# --------------------------------------------------------------------------------------------------- running it


def say(text: str, at: str = "") -> None:
    print(f"setup: {at} {text}" if at else f"setup: {text}", flush=True)


def run_pip(
    pip: list[str],
    arguments: tuple[str, ...],
    tell: Callable[[str], None] = lambda text: None,
    every_s: float = TELL_EVERY_S,
) -> str:
    """Run one `pip install`; empty when it worked, else what pip said last.

    `tell` hears every `every_s` what pip is doing: it may be silent for minutes while it downloads.
    """
    env = dict(os.environ, PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_NO_INPUT="1", PIP_ROOT_USER_ACTION="ignore")
    command = [*pip, "install", "--progress-bar", "off", *arguments]
    started = time.monotonic()
    running = subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    said: list[str] = []
    reader = threading.Thread(target=said.extend, args=(running.stdout,), daemon=True)
    reader.start()
    try:
        while reader.is_alive():
            reader.join(every_s)
            if reader.is_alive():
                tell(f"{activity(said)}, {time.monotonic() - started:.0f} s so far")
    except BaseException:
        running.terminate()
        raise
    if running.wait() == 0:
        return ""
    return "\n              ".join(reasons("".join(said)))


def activity(said: list[str]) -> str:
    """What pip is doing, from what it said; names and sizes, no addresses.

    >>> activity(["Collecting numpy==2.0\n", "  Downloading https://u:p@host/numpy-2.0-cp311.whl (16.3 MB)\n"])
    'downloading numpy-2.0-cp311.whl (16.3 MB)'
    """
    for line in reversed(said[-200:]):
        word, _, rest = line.strip().partition(" ")
        if word == "Downloading":
            address, _, size = rest.partition(" ")
            return f"downloading {address.rsplit('/', 1)[-1]} {size}".strip()
        if word in ("Collecting", "Processing"):
            return f"fetching {rest.split('/')[-1].split(' ')[0]}"
        if line.startswith("Installing collected packages"):
            return f"unpacking {line.count(',') + 1} package(s)"
        if word in ("Building", "Preparing", "Obtaining"):
            return "building"
    return "asking the package index"


def reasons(output: str) -> list[str]:
    """What of pip's output says why: the failed connection and the errors, each once, without the noise around.

    >>> reasons("Looking\\nERROR: Could not find a version (from versions: 1, 2)\\nERROR: No matching distribution")
    ['No matching distribution']
    """
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    found = [line.split("ERROR: ", 1)[1] for line in lines if line.startswith("ERROR: ")]
    found = [line for line in found if not line.startswith("Could not find a version")]
    # "WARNING: Retrying (...) after connection broken by 'SomeError(...: what happened')': /path"
    broken = [line for line in lines if "connection broken by" in line]
    broken = [re.sub(r"['\")]+(: \S+)?$", "", line).rsplit(": ", 1)[-1] for line in broken]
    said = dict.fromkeys([*broken, *found])
    return [line[:300] for line in said][:6] or lines[-5:]


def make_venv(venv: Path) -> list[str]:
    """Create the virtual environment; returns the command that runs pip for it."""
    import venv as venv_module

    try:
        import ensurepip  # noqa: F401  Debian parts it from Python; without it a venv has no pip of its own

        own_pip = True
    except ImportError:
        own_pip = False
    if venv.exists() and not (venv / "pyvenv.cfg").is_file() and any(venv.iterdir()):
        raise SetupError(f"{venv} is to become a virtual environment and is a folder with other things", EXIT_USAGE)
    say(f"{venv.name}/ with Python {platform.python_version()}")
    venv_module.EnvBuilder(with_pip=own_pip, clear=True, symlinks=True).create(venv)
    return pip_of(venv / "bin" / "python")


def pip_of(python: Path) -> list[str]:
    """The interpreter's own pip, or this one's pip acting on it."""
    for command in ([str(python), "-m", "pip"], [sys.executable, "-m", "pip", "--python", str(python)]):
        done = subprocess.run([*command, "--version"], capture_output=True, check=False)
        if done.returncode == 0:
            return command
    raise SetupError("no pip was found for the virtual environment\n  do    Debian, Ubuntu: apt install python3-venv")


def check_torch(python: Path, build: str) -> str:
    """Load torch once: proof that it works, and that the build is the one that was chosen."""
    done = subprocess.run([str(python), "-c", CHECK_TORCH], capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise SetupError(f"torch was installed and does not load: {last}")
    found = json.loads(done.stdout.strip().splitlines()[-1])
    if build == "cpu" and (found["cuda"] or found["cuda_packages"]):
        brought = ", ".join(found["cuda_packages"]) or f"CUDA {found['cuda']}"
        raise SetupError(f"the CPU build of torch was wanted; torch {found['version']} came with {brought}")
    return f"torch {found['version']}" + (f" with CUDA {found['cuda']}" if found["cuda"] else ", CPU only")


def install(pip: list[str], steps: list[Step], machine: Machine, build: str, version: str) -> None:
    for number, step in enumerate(steps, start=1):
        started, tried = time.monotonic(), []
        at = f"{number}/{len(steps)}"
        say(step.title, at)
        for where, arguments in step.ways:
            problem = run_pip(pip, arguments, functools.partial(say, at=at))
            if not problem:
                say(f"done in {time.monotonic() - started:.0f} s ({where})", at)
                break
            tried.append((where, problem))
        else:
            if build == "cpu" and step.title.startswith("torch"):
                raise SetupError(refusal(machine, version, tried))
            raise SetupError(f"{step.title} could not be installed\n              {tried[-1][1]}")


def set_up_venv(venv: Path, asked: str | None, *, runtime: bool, project: bool) -> None:
    """Bring the virtual environment up to date: nothing, the project alone, or everything from an empty one."""
    started = time.monotonic()
    stamp, wanted = read_stamp(venv), wanted_stamp(runtime=runtime, project=project)
    # Without STREAMER_TORCH the build that is there is the right one: it was chosen on this machine.
    same_torch = asked is None or asked in (stamp.get("asked"), stamp.get("torch"))
    if same_torch and all(stamp.get(name) == value for name, value in wanted.items()):
        say(f"{venv.name}/ is up to date")
        return

    python, version = venv / "bin" / "python", torch_version()
    machine = this_machine()
    if same_torch and all(stamp.get(name) == wanted[name] for name in ("place", "locks")):
        build = stamp["torch"]
        steps, pip = plan(build, version, runtime=runtime, project=project)[-1:], pip_of(python)
    else:
        build = choose_torch(machine, asked)
        say(f"{machine}: torch {version}, build {build}")
        # From empty: packages of another lock or another build of torch would otherwise stay behind.
        steps, pip = plan(build, version, runtime=runtime, project=project), make_venv(venv)
    if stamp:
        (venv / STAMP).unlink(missing_ok=True)
    install(pip, steps, machine, build, version)
    say(check_torch(python, build))
    if project:  # the project's own metadata closes the circle: all it asks for is there
        checked = subprocess.run([*pip, "check"], capture_output=True, text=True, check=False)
        if checked.returncode:
            raise SetupError(f"the installed packages do not fit together\n{checked.stdout.strip()}")
    (venv / STAMP).write_text(json.dumps({**wanted, "torch": build, "asked": asked or ""}))
    say(f"ready in {time.monotonic() - started:.0f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description="Create the virtual environment and install everything pinned.")
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv", help="where (default: .venv beside the Makefile)")
    parser.add_argument("--no-venv", action="store_true", help="install into the interpreter that runs this (images)")
    parser.add_argument("--runtime", action="store_true", help="only what the daemon needs; the project is copied in")
    parser.add_argument("--no-project", action="store_true", help="leave the project out (an image layer to be cached)")
    parser.add_argument("--plan", action="store_true", help="print the pip commands for this machine and stop")
    options = parser.parse_args()
    check_python(sys.version_info[:3])

    asked, runtime, project = os.environ.get("STREAMER_TORCH") or None, options.runtime, not options.no_project
    if not (options.plan or options.no_venv):
        set_up_venv(options.venv.absolute(), asked, runtime=runtime, project=project)
        return
    machine, version = this_machine(), torch_version()
    build = choose_torch(machine, asked)
    steps = plan(build, version, runtime=runtime, project=project)
    if options.plan:
        for step in steps:
            print("\n  or ".join("pip install " + " ".join(arguments) for _, arguments in step.ways))
        return
    python = Path(sys.executable)
    say(f"{machine}: torch {version}, build {build}")
    install(pip_of(python), steps, machine, build, version)
    say(check_torch(python, build))


if __name__ == "__main__":
    try:
        main()
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        raise SystemExit(error.code) from None
