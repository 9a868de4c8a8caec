"""The Distributed Scheduler's names: flags and environment become our settings."""

import pytest

from everbell.config.distributed import PARTS, from_environment, settings_of
from everbell.config.loader import load_settings
from everbell.domain.errors import ConfigError

DOCUMENTED = {
    "PORT": "9191",
    "PGHOST": "db.example.com",
    "PGPORT": "5433",
    "PGUSER": "me",
    "PGPASSWORD": "p@ss/word",
    "PGDATABASE": "jobs",
    "REDISPORT": "6380",
    "REDISHOST": "redis.example.com",
    "CHANNEL": "c",
    "PROCESS_STORE": "ps",
    "JOB_STORE": "js",
    "JOB_PROCESSED": "jp",
}
URL = "postgresql://me:p%40ss%2Fword@db.example.com:5433/jobs"


def flag(name):
    return f"--{name}"


def load(tmp_path, env=None, flags=None):
    return load_settings(None, env or {}, flags or {}, cwd=tmp_path)


def settings_by(tmp_path, way):
    if way == "flags":
        return load(tmp_path, flags=settings_of(DOCUMENTED, flag)).settings
    return load(tmp_path, env=DOCUMENTED).settings


@pytest.mark.parametrize("way", ["flags", "environment"])
def test_all_documented_names_work_together(tmp_path, way):
    settings = settings_by(tmp_path, way)
    assert settings.database.url == URL
    assert settings.server.port == 9191
    redis = settings.redis
    assert redis.addr == "redis.example.com:6380"
    assert (redis.channel, redis.process_store) == ("c", "ps")
    assert (redis.job_store, redis.job_processed) == ("js", "jp")


def test_no_documented_name_is_forgotten():
    assert set(PARTS) == set(DOCUMENTED)


@pytest.mark.parametrize(
    ("given", "setting", "value"),
    [
        ({"PGPORT": "1"}, "database.addr", "127.0.0.1:1"),
        ({"PGHOST": "::1"}, "database.addr", "[::1]:5432"),
        ({"PGHOST": "/run/pg", "PGPORT": "5433"}, "database.addr", "/run/pg:5433"),
        ({"REDISHOST": "r"}, "redis.addr", "r:6379"),
        ({"PORT": "0"}, "server.port", "0"),
    ],
)
def test_any_of_them_may_stand_alone_as_flags(given, setting, value):
    assert settings_of(given, flag) == {setting: value}


def test_a_socket_with_a_port_becomes_a_url(tmp_path):
    flags = settings_of({"PGHOST": "/run/pg", "PGPORT": "5433", "PGDATABASE": "d"}, flag)
    url = "postgresql:///d?host=/run/pg&port=5433"
    assert load(tmp_path, flags=flags).settings.database.url == url


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"PGPORT": "many"}, "`--PGPORT` must be a whole number from 1 to 65535, not `many`"),
        ({"REDISPORT": "0"}, "`--REDISPORT` must be a whole number"),
        ({"PORT": "99999"}, "`--PORT` must be a whole number from 0 to 65535"),
        ({"PGHOST": "http://h"}, "`--PGHOST` must be a host"),
        ({"REDISHOST": "h:1"}, "`--REDISHOST` must be a host"),
        ({"CHANNEL": ""}, "`--CHANNEL` is empty"),
        ({"PGUSER": ""}, "`--PGUSER` is empty"),
    ],
)
def test_what_is_wrong_is_told_under_the_name_of_the_flag(given, words):
    with pytest.raises(ConfigError) as caught:
        settings_of(given, flag)
    assert words in caught.value.message


def test_a_stray_port_or_server_in_the_environment_moves_nothing(tmp_path):
    for env in ({"PORT": "80"}, {"PORT": "80", "PGHOST": "h"}, {"REDISHOST": "h", "CHANNEL": "x"}):
        assert from_environment(env) == {}
        assert load(tmp_path, env).settings == load(tmp_path / "x").settings


def test_the_environment_tells_which_variable_is_meant(tmp_path):
    env = {"PGHOST": "h", "REDISHOST": "r", "PORT": "1"}
    assert load(tmp_path, env).origins["server.port"] == "env PORT"
    assert load(tmp_path, env).origins["redis.addr"] == "env REDISHOST"
    with pytest.raises(ConfigError, match="`PGPORT` must be"):
        load(tmp_path, {**env, "PGPORT": "x"})


def test_our_own_variables_and_flags_come_before_them(tmp_path):
    env = {"PGHOST": "h", "REDISHOST": "r", "PORT": "1", "EVERBELL_SERVER_PORT": "2"}
    assert load(tmp_path, env).settings.server.port == 2
    assert load(tmp_path, env, {"redis.addr": "s"}).settings.redis.addr == "s"
