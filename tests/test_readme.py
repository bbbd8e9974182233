"""What the README says of settings is what the settings are."""

from tools.config_reference import README, updated


def test_the_configuration_reference_is_up_to_date() -> None:
    text = README.read_text(encoding="utf-8")

    assert updated(text) == text, "run: python tools/config_reference.py"
