"""The plan of set-up for several machines: a pure function, so no pip runs here."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tools.setup_env import (
    CPU_INDEX,
    Machine,
    SetupError,
    Step,
    activity,
    check_python,
    choose_torch,
    make_venv,
    plan,
    reasons,
    refusal,
    run_pip,
    torch_version,
)

ROOT = Path(__file__).resolve().parents[2]
LAPTOP = Machine("linux", "x86_64", "3.11", nvidia=False)
ARM_SERVER = Machine("linux", "aarch64", "3.12", nvidia=False)
GPU_SERVER = Machine("linux", "x86_64", "3.11", nvidia=True)
MAC = Machine("darwin", "arm64", "3.13", nvidia=False)


def arguments(steps: list[Step]) -> list[tuple[str, ...]]:
    return [args for step in steps for _, args in step.ways]


@pytest.mark.parametrize(
    ("machine", "asked", "build"),
    [
        (LAPTOP, None, "cpu"),
        (ARM_SERVER, None, "cpu"),
        (GPU_SERVER, None, "cuda"),
        (GPU_SERVER, "cpu", "cpu"),
        (LAPTOP, "cuda", "cuda"),
        (LAPTOP, "any", "any"),
        (MAC, None, "plain"),
        (MAC, "cpu", "plain"),
    ],
)
def test_build_of_torch_follows_the_machine_unless_asked_otherwise(
    machine: Machine, asked: str | None, build: str
) -> None:
    assert choose_torch(machine, asked) == build


def test_an_unknown_build_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SetupError, match=r"STREAMER_TORCH must be one of cpu, cuda, any; got 'rocm'"):
        choose_torch(LAPTOP, "rocm")


@pytest.mark.parametrize("runtime", [False, True])
@pytest.mark.parametrize("build", ["cpu", "cuda", "plain"])
def test_pip_never_resolves_a_dependency_and_every_lock_is_hash_checked(build: str, runtime: bool) -> None:
    for args in arguments(plan(build, "2.13.0", runtime=runtime)):
        assert "--no-deps" in args
        assert ("-r" in args) == ("--require-hashes" in args)


def test_without_a_gpu_only_the_cpu_build_is_asked_for_first_where_pip_is_configured_to_look() -> None:
    torch, *others = plan("cpu", "2.13.0")

    pins = [args[-1] for _, args in torch.ways]
    assert pins == ["torch==2.13.0+cpu", "torch==2.13.0+cpu"]
    assert ["--index-url" in args for _, args in torch.ways] == [False, True]
    assert not any("torch" in word for args in arguments(others) for word in args)


def test_the_cuda_build_cannot_be_satisfied_by_a_cpu_file_and_its_libraries_come_from_a_lock() -> None:
    torch, libraries, *_ = plan("cuda", "2.13.0")

    assert torch.ways[0][1][-1] == "torch===2.13.0"
    assert libraries.ways[0][1] == ("--no-deps", "--require-hashes", "-r", "requirements-cuda.lock")


def test_an_image_gets_the_run_time_lock_and_a_copy_of_the_project() -> None:
    torch, packages, project = plan("cpu", "2.13.0", runtime=True)

    assert torch.ways[0][1][-1] == "torch==2.13.0+cpu"
    assert packages.ways[0][1][-1] == "requirements-run.lock"
    assert project.ways[0][1] == ("--no-deps", "--no-build-isolation", ".")
    assert plan("cpu", "2.13.0", runtime=True, project=False) == [torch, packages]


def test_of_pips_output_the_cause_is_told_and_each_cause_once() -> None:
    retry = (
        "WARNING: Retrying (Retry(total={})) after connection broken by 'NewConnectionError('<HTTPSConnection at "
        "0x7f>: Failed to establish a new connection: [Errno -2] Name or service not known')': /whl/cpu/torch/"
    )
    output = "\n".join(
        [
            "Looking in indexes: a, b",
            retry.format(1),
            retry.format(0),
            "ERROR: Could not find a version that satisfies the requirement torch (from versions: none)",
            "ERROR: No matching distribution found for torch",
        ]
    )

    assert reasons(output) == ["[Errno -2] Name or service not known", "No matching distribution found for torch"]


def test_the_refusal_says_what_was_wanted_what_was_tried_and_what_to_do() -> None:
    words = refusal(LAPTOP, "2.13.0", [("configured", "No matching distribution"), (CPU_INDEX, "no route")])

    for part in ("torch==2.13.0+cpu", "no NVIDIA GPU", "No matching distribution", "no route", "STREAMER_TORCH=any"):
        assert part in words


def test_an_old_python_is_told_what_is_needed() -> None:
    with pytest.raises(SetupError, match=r"Python 3\.11 or newer is needed; .* is 3\.9\.2"):
        check_python((3, 9, 2))


def test_a_folder_with_other_things_is_not_cleared(tmp_path: Path) -> None:
    kept = tmp_path / "work.txt"
    kept.write_text("weeks of it")

    with pytest.raises(SetupError, match="folder with other things"):
        make_venv(tmp_path)

    assert kept.read_text() == "weeks of it"


# ------------------------------------------------------------------------------------------------- the lock files


def locked(name: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / name).read_text(), re.MULTILINE))


def test_the_locks_name_no_cuda_library_no_torch_and_no_place_to_fetch_from() -> None:
    for name in ("requirements.lock", "requirements-run.lock"):
        assert not [p for p in locked(name) if p == "torch" or p.startswith(("nvidia-", "cuda-", "triton"))]
    for path in ROOT.glob("requirements*.lock"):
        assert not re.search(r"://|--find-links|--index-url|--extra-index-url", path.read_text()), path.name


def test_what_ships_is_what_is_tested() -> None:
    assert locked("requirements-run.lock").items() <= locked("requirements.lock").items()


def test_every_locked_package_carries_a_hash() -> None:
    for name in ("requirements.lock", "requirements-run.lock", "requirements-cuda.lock"):
        blocks = re.split(r"^(?=[a-z0-9])", (ROOT / name).read_text(), flags=re.MULTILINE)[1:]
        assert blocks
        assert not [block.split()[0] for block in blocks if "--hash=sha256:" not in block]


def test_torch_is_pinned_to_a_version_without_a_build() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", torch_version())


# ---------------------------------------------------------------------------------------------------- while pip works


def a_pip(script: str) -> list[str]:
    return [sys.executable, "-c", script]


def test_set_up_says_what_pip_is_doing_while_pip_is_silent(tmp_path: Path) -> None:
    heard = tmp_path / "heard"
    pip = a_pip(
        "import pathlib, time\n"
        "print('Collecting torch==2.13.0+cpu', flush=True)\n"
        "print('  Downloading https://u:secret@host/torch-2.13.0.whl (183 MB)', flush=True)\n"
        f"while not pathlib.Path({str(heard)!r}).exists(): time.sleep(0.01)\n"
    )
    told = []

    def tell(text: str) -> None:
        told.append(text)
        if "downloading" in text:
            heard.touch()

    assert run_pip(pip, (), tell, every_s=0.02) == ""

    assert re.fullmatch(r"downloading torch-2\.13\.0\.whl \(183 MB\), \d+ s so far", told[-1])
    assert not any("secret" in text for text in told)


def test_what_pip_said_last_is_the_reason_why_it_failed() -> None:
    script = "import sys; print('Collecting x'); print('ERROR: No matching distribution', file=sys.stderr); sys.exit(1)"

    assert run_pip(a_pip(script), ()) == "No matching distribution"


@pytest.mark.parametrize(
    ("said", "doing"),
    [
        ([], "asking the package index"),
        (["Looking in indexes: https://u:p@host/simple"], "asking the package index"),
        (["Collecting numpy==2.0 (from -r requirements.lock (line 3))"], "fetching numpy==2.0"),
        (["Processing ./wheels/torch-2.13.whl"], "fetching torch-2.13.whl"),
        (["Collecting a", "Installing collected packages: a, b, c"], "unpacking 3 package(s)"),
    ],
)
def test_what_pip_is_doing_is_told_without_addresses(said: list[str], doing: str) -> None:
    assert activity(said) == doing
