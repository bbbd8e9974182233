"""The scripts of `streamer completion`, asked as the shells ask them."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from streamer import cli
from streamer.cli.commands import COMMANDS

BASH = """\
source {script}
COMP_WORDS=({words}) COMP_CWORD={last}
read -r _ _ function _ <<< "$(complete -p streamer | sed 's/.*-F/- - /; s/-F //')"
"$function" streamer "${{COMP_WORDS[COMP_CWORD]}}" "${{COMP_WORDS[COMP_CWORD-1]}}"
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def script(tmp_path: Path, capsys: pytest.CaptureFixture[str], shell: str) -> Path:
    assert cli.main(["completion", shell]) == 0
    file = tmp_path / f"streamer.{shell}"
    file.write_text(capsys.readouterr().out)
    return file


def need(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not on PATH")


def ask(*command: str, folder: Path) -> set[str]:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return {line.split("\t")[0].strip() for line in done.stdout.splitlines() if line.strip()}


LINES = [
    (["streamer", "re"], {"retrain", "replay"}),
    (["streamer", "dlq", ""], {"list", "show", "replay"}),
    (["streamer", "dlq", "replay", "--rea"], {"--reason"}),
    (["streamer", "dlq", "list", "--reason", "unk"], {"unknown_schema"}),
    (["streamer", "incidents", "f"], {"false-alarm"}),
    (["streamer", "incidents", "list", "--kind", "sil"], {"silence"}),
    (["streamer", "models", "pro"], {"promote"}),
    (["streamer", "completion", "b"], {"bash"}),
    (["streamer", "run", "--config", "str"], {"streamer.yaml"}),
    (["streamer", "backtest", "--out", "res"], {"results"}),
]


@pytest.mark.parametrize(("words", "wanted"), LINES)
def test_bash_completes(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], wanted: set[str]) -> None:
    need("bash")
    file = script(tmp_path, capsys, "bash")
    (tmp_path / "here" / "results").mkdir(parents=True)
    (tmp_path / "here" / "streamer.yaml").touch()

    asked = BASH.format(script=file, words=shlex.join(words), last=len(words) - 1)

    assert ask("bash", "--norc", "-c", asked, folder=tmp_path / "here") == wanted


@pytest.mark.parametrize(("words", "wanted"), LINES)
def test_fish_completes(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    wanted: set[str],
) -> None:
    need("fish")
    file = script(tmp_path, capsys, "fish")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "here" / "results").mkdir(parents=True)
    (tmp_path / "here" / "streamer.yaml").touch()

    asked = f'source {file}; complete -C "{" ".join(words)}"'
    found = {name.rstrip("/") for name in ask("fish", "-c", asked, folder=tmp_path / "here")}

    assert wanted <= found
    assert not {"demo", "inspect", "run"} & found


def test_zsh_reads_its_script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    need("zsh")

    assert ask("zsh", "-n", str(script(tmp_path, capsys, "zsh")), folder=tmp_path) == set()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_command_is_in_the_script(tmp_path: Path, capsys: pytest.CaptureFixture[str], shell: str) -> None:
    text = script(tmp_path, capsys, shell).read_text()

    assert [command for command in COMMANDS if command not in text] == []


def test_a_shell_that_is_not_known_exits_64(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["completion", "zhs"])

    assert left.value.code == 64
    assert "invalid choice: 'zhs'; did you mean 'zsh'?" in capsys.readouterr().err
