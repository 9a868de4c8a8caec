import json
import stat

import pytest

from everbell.config.secrets import (
    CliKey,
    Secrets,
    create_secrets,
    load_secrets,
    new_secret_key,
    permission_note,
    require_secrets,
    save_cli_key,
)
from everbell.domain.errors import ConfigError, ConflictError
from everbell.domain.secrets import (
    derive_webhook_secret,
    hash_secret,
    same_secret,
    webhook_secret_text,
)

KEY = "a-key-of-enough-characters"


def test_written_private_whole_and_once(tmp_path):
    path = create_secrets(tmp_path, Secrets(secret_key=KEY, auth_username="u", auth_password="p"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [item.name for item in tmp_path.iterdir()] == [".everbell"]
    before = path.read_bytes()
    with pytest.raises(ConflictError, match="already there"):
        create_secrets(tmp_path, Secrets(secret_key=KEY + "2"))
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == [".everbell"]
    create_secrets(tmp_path, Secrets(secret_key=KEY + "2"), force=True)
    assert require_secrets(tmp_path).key == (KEY + "2").encode()


def test_cli_key_is_kept_beside(tmp_path):
    create_secrets(tmp_path, Secrets(secret_key=KEY))
    save_cli_key(tmp_path, CliKey(api_key="k", api_secret="s"))
    found = require_secrets(tmp_path)
    assert found.cli == CliKey(api_key="k", api_secret="s")
    assert found.secret_key == KEY
    assert permission_note(tmp_path) == ""


def test_others_may_not_read(tmp_path):
    path = create_secrets(tmp_path, Secrets(secret_key=KEY))
    path.chmod(0o644)
    assert "chmod 600" in permission_note(tmp_path)
    assert permission_note(tmp_path / "nowhere") == ""


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"secret_key": 5}', '{"secret_key": "' + KEY + '", "x": 1}', "\udcff"]
)
def test_torn_files_are_refused(tmp_path, text):
    (tmp_path / ".everbell").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError, match="torn") as caught:
        load_secrets(tmp_path)
    assert caught.value.hint


def test_short_keys_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="at least 16"):
        create_secrets(tmp_path, Secrets(secret_key="short"))
    (tmp_path / ".everbell").write_text(json.dumps({"secret_key": "short"}))
    with pytest.raises(ConfigError, match="at least 16"):
        load_secrets(tmp_path)


def test_none_and_environment(tmp_path):
    assert load_secrets(tmp_path) is None
    with pytest.raises(ConfigError, match="no secrets"):
        require_secrets(tmp_path)
    env = {"EVERBELL_SECRET_KEY": KEY, "EVERBELL_AUTH_USERNAME": "n"}
    assert load_secrets(tmp_path, env) == Secrets(secret_key=KEY, auth_username="n")
    with pytest.raises(ConfigError, match="EVERBELL_SECRET_KEY"):
        load_secrets(tmp_path, {"EVERBELL_AUTH_USERNAME": "n"})


def test_no_directory(tmp_path):
    with pytest.raises(ConfigError, match="can't write"):
        create_secrets(tmp_path / "no", Secrets(secret_key=KEY))


def test_keyed_hash_and_derived_secret():
    key = KEY.encode()
    assert hash_secret(key, "s") == hash_secret(key, "s") != hash_secret(key + b"x", "s")
    assert len(hash_secret(key, "s")) == 64
    assert same_secret(key, "s", hash_secret(key, "s"))
    assert not same_secret(key, "t", hash_secret(key, "s"))
    assert not same_secret(key, "s", "")
    one, two = derive_webhook_secret(key, "p1"), derive_webhook_secret(key, "p2")
    assert one != two
    assert len(one) == 32
    assert webhook_secret_text(one).startswith("whsec_")
    assert new_secret_key(b"\0" * 32).endswith("=")
