"""Settings of nodes that share PostgreSQL and Redis, under the names of djinn-scheduler too."""

import pytest

from everbell.config.addresses import RedisAddress, postgres_url, redis_address, split_host_port
from everbell.config.fields import shown_value
from everbell.config.loader import load_settings
from everbell.domain.errors import ConfigError

DJINN = """\
drivers = ["docker", "qemu-x86_64"]
batch_size = 500
interval = "1m"
pidfile = "/run/scheduler.pid"

[crypto]
salt = "sweet and salty"

[database]
addr = "db.example.com:5433"
name = "djinn"
username = "djinn-scheduler"
password = "s/e:c@ret"

[database.tls]
ca = "ca.pem"
cert = "node.pem"
key = "node.key"

[redis]
addr = "localhost:6379"
password = "hush"
"""
DJINN_YAML = """\
drivers: [docker, qemu-x86_64]
crypto: {salt: sweet and salty}
database:
  addr: db.example.com:5433
  name: djinn
  username: djinn-scheduler
  password: s/e:c@ret
  tls: {ca: ca.pem, cert: node.pem, key: node.key}
redis:
  addr: localhost:6379
  password: hush
"""
URL = "postgresql://djinn-scheduler:s%2Fe%3Ac%40ret@db.example.com:5433/djinn"


def load(tmp_path, text="", name="everbell.toml", env=None, **flags):
    (tmp_path / name).write_text(text)
    overrides = {key.replace("__", "."): value for key, value in flags.items()}
    return load_settings(tmp_path / name, env or {}, overrides, cwd=tmp_path)


def refused(tmp_path, text, **more):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, **more)
    return caught.value


@pytest.mark.parametrize(("text", "name"), [(DJINN, "e.toml"), (DJINN_YAML, "e.yaml")])
def test_the_names_of_djinn_scheduler_work_as_they_are(tmp_path, text, name):
    settings = load(tmp_path, text, name).settings
    assert settings.queues.drivers == ("docker", "qemu-x86_64")
    assert settings.crypto.salt == "sweet and salty"
    assert settings.database.url == URL
    assert settings.database.tls.key == "node.key"
    assert (settings.redis.addr, settings.redis.password) == ("localhost:6379", "hush")


def test_what_has_no_meaning_here_is_told(tmp_path):
    loaded = load(tmp_path, DJINN)
    assert loaded.settings.engine.batch_size == 500
    assert [note.split(": ")[0] for note in loaded.notes] == ["everbell.toml:3", "everbell.toml:4"]
    assert loaded.origins["database.url"] == "everbell.toml:10"


def test_the_same_names_by_environment_and_flags(tmp_path):
    env = {"EVERBELL_DATABASE_ADDR": "h", "EVERBELL_QUEUES_DRIVERS": "docker,lxc"}
    settings = load(tmp_path, env=env, database__name="d", redis__tls__ca="ca.pem",
                    redis__addr="h:1").settings  # fmt: skip
    assert settings.database.url == "postgresql://h:5432/d"
    assert settings.queues.drivers == ("docker", "lxc")
    assert settings.redis.tls.ca == "ca.pem"


def test_url_and_parts_that_differ_are_refused(tmp_path):
    env = {"EVERBELL_DATABASE_URL": "postgresql://other/d"}
    message = refused(tmp_path, '[database]\naddr = "h"\n', env=env).message
    assert "`database.addr`" in message
    assert "`database.url` (env EVERBELL_DATABASE_URL)" in message
    same = {"EVERBELL_DATABASE_URL": "postgresql://h:5432"}
    assert load(tmp_path, '[database]\naddr = "h"\n', env=same)


def test_drivers_are_given_once(tmp_path):
    error = refused(tmp_path, 'drivers = ["a"]\n[queues]\ndrivers = ["b"]\n')
    assert "`queues.drivers` and `drivers` both set" in error.message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[redis]\naddr = "h"\n[redis.tls]\ncert = "c"\n', "`redis.tls.key` missing"),
        ('[redis]\naddr = "h"\n[redis.tls]\nkey = "c"\n', "`redis.tls.cert` missing"),
        ('[redis.tls]\nca = "c"\n', "`redis.tls` is set, and `redis.addr` is not"),
        ('[redis]\naddr = "redis://h"\n[redis.tls]\nca = "c"\n', "must be rediss://"),
        ('[redis]\naddr = "/s"\n[redis.tls]\nca = "c"\n', "must not be a socket"),
        ('[redis]\naddr = "ftp://h"\n', "`redis.addr` must not begin with an unknown scheme"),
        ('[redis]\naddr = "h:99999"\n', "has the port 99999"),
        ('[redis]\naddr = "redis://u:hush@h:x"\n', "must be a host and a port"),
        ('[redis]\naddr = "redis://:a@h"\npassword = "b"\n', "`redis.password` both say it"),
        ('[redis]\nchannel = ""\n', "`redis.channel` must be"),
        ('[database]\naddr = "http://h"\n', "`database.addr` must be a host and a port"),
        ('[database]\nurl = "postgresql://h/d"\n[database.tls]\nca = "c"\n', "`database.tls.cert`"),
        ("[node]\nroles = []\n", "`node.roles` must be a list of scheduler, worker, api"),
        ('[node]\nroles = ["cook"]\n', "`node.roles` must be a list of scheduler, worker, api"),
        ("[node]\nmax_clock_offset = 0\n", "`node.max_clock_offset` must be"),
        ('[queues]\nkey = "builds"\n', "`queues.key` must contain {driver} once"),
        ('[queues]\nkey = "{driver}{x}"\n', "`queues.key` must contain {driver} once"),
        ('[queues]\nkind = "heap"\n', "`queues.kind` must be one of stream, list"),
        ('[queues]\ndrivers = ["a", "a"]\n', "`queues.drivers` has `a` twice"),
        ('[queues]\ndrivers = ["a b"]\n', "`queues.drivers` has 'a b', which is no name"),
    ],
)
def test_what_can_not_be_together_is_refused_under_its_name(tmp_path, text, words):
    assert words in refused(tmp_path, text).message


def test_no_message_shows_a_secret(tmp_path):
    for text in ('[redis]\naddr = "redis://u:hush@h:x"\n', "[redis]\npassword = 4711\n"):
        error = refused(tmp_path, text)
        assert "hush" not in error.message + error.hint
        assert "4711" not in error.message + error.hint
    assert shown_value("redis.password", "hush") == "***"
    assert shown_value("redis.password", "") == ""
    assert shown_value("redis.addr", "redis://u:hush@h:1") == "redis://u:***@h:1"
    assert shown_value("server.port", 1) == 1


def test_roles_are_read_in_any_case(tmp_path):
    env = {"EVERBELL_NODE_ROLES": "Worker, API"}
    assert load(tmp_path, env=env).settings.node.roles == ("worker", "api")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("localhost:6379", RedisAddress(host="localhost")),
        ("h", RedisAddress(host="h")),
        ("[::1]:7000", RedisAddress(host="::1", port=7000)),
        ("redis://h:1/2", RedisAddress(host="h", port=1, db=2)),
        ("rediss://u:p%40@h", RedisAddress(host="h", tls=True, username="u", password="p@")),
        ("/run/redis.sock", RedisAddress(path="/run/redis.sock")),
        ("unix:///run/redis.sock", RedisAddress(path="/run/redis.sock")),
    ],
)
def test_addresses_of_redis(text, address):
    assert redis_address(text) == address


@pytest.mark.parametrize("text", ["", "a b", "h:", "h:0", "unix://x", "redis://h/x", "::1"])
def test_what_is_no_address_of_redis(text):
    with pytest.raises(ValueError, match=r"must|has the port"):
        redis_address(text)


def test_files_for_tls_turn_it_on():
    assert redis_address("h:1", tls=True).tls


@pytest.mark.parametrize(
    ("parts", "url"),
    [
        ({"addr": "h"}, "postgresql://h:5432"),
        ({"name": "d"}, "postgresql://127.0.0.1:5432/d"),
        ({"addr": "a:1,b", "username": "u"}, "postgresql://u@a:1,b:5432"),
        ({"addr": "::1"}, None),
        ({"addr": "[::1]:1", "name": "a/b"}, "postgresql://[::1]:1/a%2Fb"),
        ({"addr": "/run/pg", "name": "d"}, "postgresql:///d?host=/run/pg"),
    ],
)
def test_urls_of_postgresql_by_parts(parts, url):
    if url is None:
        with pytest.raises(ValueError, match="host and a port"):
            postgres_url(**parts)
    else:
        assert postgres_url(**parts) == url


def test_a_host_alone_gets_the_default_port():
    assert split_host_port("h", 1) == ("h", 1)


@pytest.mark.parametrize(
    "rest", ["u:hush@x@h/d", "u:hush/x@h/d", "u:hush?x@h/d", "u:hush#x@h/d", "u:hush@h:port/d"]
)
def test_a_url_that_would_be_read_otherwise_is_refused_without_its_password(tmp_path, rest):
    text = str(refused(tmp_path, f'[database]\nurl = "postgresql://{rest}"\n'))
    assert "`database.url` has a" in text
    assert "hush" not in text


@pytest.mark.parametrize(
    "rest", ["u:p%40%2F@a:1,[::1]:2,c/d?sslmode=require", "/d?host=/run/x&port=5", "[::1]/d"]
)
def test_a_url_of_any_lawful_form_is_taken(tmp_path, rest):
    url = f"postgresql://{rest}"
    assert load(tmp_path, f'[database]\nurl = "{url}"\n').settings.database.url == url


@pytest.mark.parametrize("name", ["redis.addr", "database.addr"])
def test_a_login_in_an_address_without_a_scheme_is_refused_and_not_repeated(tmp_path, name):
    section, _, key = name.partition(".")
    text = str(refused(tmp_path, f'[{section}]\n{key} = "u:hush@h:1"\n'))
    assert f"`{name}` must be a host and a port, without a login" in text
    assert "hush" not in text


def test_a_number_that_is_too_small_is_not_told_to_lose_its_quotes(tmp_path):
    env = {"EVERBELL_DATABASE_CONNECTIONS": "0"}
    error = refused(tmp_path, "", env=env)
    assert "at least 1" in str(error)
    assert "quotes" not in str(error) + (error.hint or "")
