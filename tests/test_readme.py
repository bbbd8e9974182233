"""What the README says of settings is what the settings are."""

from tools.config_reference import README, reference, updated


def test_the_configuration_reference_is_up_to_date() -> None:
    text = README.read_text(encoding="utf-8")

    assert updated(text) == text, "run: python tools/config_reference.py"


def test_every_setting_is_explained() -> None:
    silent = [line for line in reference().splitlines() if line.endswith("|  |")]

    assert silent == [], "a comment must stand on the line of its field in streamer/config"
