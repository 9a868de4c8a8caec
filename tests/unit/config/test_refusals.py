"""What a person reads when a configuration is refused: their own names, once, and a way on."""

import pytest

from everbell.config.loader import load_settings
from everbell.config.secrets import require_secrets
from everbell.domain.errors import ConfigError


def refused(tmp_path, text, env=None, name="config.yml"):
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_settings(tmp_path / name, env or {}, cwd=tmp_path)
    return caught.value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Protocol: https", "config.yml:1: `Protocol` must be one of http, not `https`"),
        ("Port: http", "config.yml:1: `Port` must be a whole number"),
        ("MaxCPU: all", "config.yml:1: `MaxCPU` must be a number"),
    ],
)
def test_a_scheduler0_key_is_refused_under_its_own_name(tmp_path, text, message):
    assert message in refused(tmp_path, text).message


def test_a_scheduler0_variable_is_refused_under_its_own_name(tmp_path):
    error = refused(tmp_path, "", env={"SCHEDULER0_MAX_WORKERS": "many"})
    assert "env SCHEDULER0_MAX_WORKERS: `MaxWorkers` must be" in error.message


def test_a_key_that_sets_two_settings_is_refused_once(tmp_path):
    assert len(refused(tmp_path, "JobExecutionTimeout: 0").problems) == 1


@pytest.mark.parametrize("network", ["10.0.0.0/99", "example.com", "", "10.0.0"])
def test_a_callback_network_is_checked_with_the_rest(tmp_path, network):
    text = f'[callbacks]\nallow = ["10.0.0.0/8", "{network}"]\n'
    error = refused(tmp_path, text, name="everbell.toml")
    assert f"everbell.toml:2: `callbacks.allow` has `{network}`" in error.message
    assert "10.0.0.0/8" in error.hint


def test_a_misspelled_port_variable_is_no_service_link(tmp_path):
    error = refused(tmp_path, "", env={"EVERBELL_SERVR_PORT": "9000"})
    assert "`EVERBELL_SERVR_PORT` is no setting" in error.message
    assert "EVERBELL_SERVER_PORT" in error.hint


def test_a_yaml_list_is_called_a_list(tmp_path):
    assert "found a list" in refused(tmp_path, "- 1").message
    assert "found a single value" in refused(tmp_path, "hello").message


def test_lost_secrets_are_to_be_restored_where_a_database_needs_them(tmp_path):
    database = tmp_path / "everbell.db"
    with pytest.raises(ConfigError) as caught:
        require_secrets(tmp_path, {}, database)
    assert "credential init" in caught.value.hint
    database.write_bytes(b"x")
    with pytest.raises(ConfigError) as caught:
        require_secrets(tmp_path, {}, database)
    assert "restore it" in caught.value.hint
    assert "credential init" not in caught.value.hint
