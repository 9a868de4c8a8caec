"""djinn's configuration language: what is read, what is refused, and where."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everbell.config.blocks import plain
from everbell.config.files import find_file, read_document
from everbell.config.loader import load_settings
from everbell.domain.errors import ConfigError

WHOLE = """\
# The scheduler of djinn.
pidfile "/var/run/djinn/scheduler.pid"

log debug "/dev/stdout"

drivers [
    "docker",
    "qemu-x86_64",   # both
]

interval 1m
batch_size 250

crypto {
    salt "${SALT}"
}

database {
    addr     "localhost:5432"
    name     "djinn"
    username "djinn-scheduler"
    password "se\\"cret"
    tls { ca "ca.pem"; cert "node.pem"; key "node.key" }
}

redis {
    addr "localhost:6379"
}
"""


def conf(tmp_path, text, env=None, name="djinn-scheduler.conf"):
    (tmp_path / name).write_text(text)
    return load_settings(tmp_path / name, env or {}, cwd=tmp_path)


def refused(tmp_path, text, env=None):
    with pytest.raises(ConfigError) as caught:
        conf(tmp_path, text, env)
    return caught.value


def test_a_configuration_of_djinn_scheduler_is_read_as_it_is(tmp_path):
    loaded = conf(tmp_path, WHOLE, {"SALT": "sea"})
    settings = loaded.settings
    assert settings.queues.drivers == ("docker", "qemu-x86_64")
    assert settings.crypto.salt == "sea"
    url = "postgresql://djinn-scheduler:se%22cret@localhost:5432/djinn"
    assert settings.database.url == url
    assert settings.database.tls.cert == "node.pem"
    assert settings.redis.addr == "localhost:6379"
    assert settings.engine.batch_size == 250
    assert (settings.log.level, settings.log.file) == ("DEBUG", "")
    assert [note.partition(": ")[0] for note in loaded.notes] == [
        "djinn-scheduler.conf:2",
        "djinn-scheduler.conf:11",
    ]
    assert loaded.origins["database.url"] == "djinn-scheduler.conf:19"
    assert loaded.origins["log.level"] == "djinn-scheduler.conf:4"


def test_a_file_for_the_log_and_our_own_sections(tmp_path):
    settings = conf(
        tmp_path, 'log warn "x.log"\nengine { poll 1m30s }\napi { max_body 2MB }'
    ).settings
    assert (settings.log.level, settings.log.file) == ("WARN", "x.log")
    assert settings.engine.poll == 90
    assert settings.api.max_body == 2 * 1024 * 1024
    assert conf(tmp_path, "log error").settings.log.level == "ERROR"
    assert conf(tmp_path, 'log { format "json" }').settings.log.format == "json"


def test_included_files_stand_in_place_of_the_line(tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "redis.conf").write_text('redis { addr "r:1" }\n')
    (tmp_path / "salt.conf").write_text('\ncrypto { salt "s" }\n')
    loaded = conf(tmp_path, 'include ["own/redis.conf", "salt.conf"]\nbatch_size 7\n')
    assert loaded.settings.redis.addr == "r:1"
    assert loaded.origins["crypto.salt"] == "salt.conf:2"
    error = refused(tmp_path, 'batch_size 7\ninclude "salt.conf"\ncrypto { salt "t" }\n')
    assert "djinn-scheduler.conf:3: `crypto` is given twice" in error.message
    assert "salt.conf:2" in error.hint


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('crypto {\n salt "a\n}', ":2: a text in quotes does not end"),
        ("crypto {\n", ":1: the block `crypto` does not end"),
        ("\n}\n", ":2: a name is needed here, not `}`"),
        ("batch_size\n", ":1: `batch_size` has no value"),
        ("batch_size 1 2\n", ":1: `batch_size` takes one value, not 2"),
        ("batch_size 1\nbatch_size 2\n", ":2: `batch_size` is given twice"),
        ("batch_size 1x\n", ":1: no value can be `1x`"),
        ('drivers ["a" "b"]', ':1: a comma is missing before `"b"`'),
        ('drivers [, "a"]', ":1: a value is missing before the comma"),
        ('drivers ["a"\n', ":1: a list does not end"),
        ('\ndatabase { adr "h" }', ":2: unknown key `database.adr`"),
        ('\nprovider github { x "y" }', ":2: `provider` takes one value, not 2"),
        ("= 1", ":1: a name is needed here, not `=`"),
        ('crypto { salt "${NOT_THERE}" }', ":1: the environment has no `NOT_THERE`"),
        ("include 1", ":1: `include` takes the name of a file"),
        ('include "djinn-scheduler.conf"', "too deep, or a circle"),
        ('include "gone.conf"', "no configuration file"),
        ("a " * 3 + "{ b " * 12, "nested too deeply"),
        ("drivers " + "[" * 12, "nested too deeply"),
        ("log loud", ":1: `log.level` must be one of"),
        ('database { addr "h" }\nredis 1', ":2: `redis` is a section"),
    ],
)
def test_what_is_wrong_is_told_with_file_and_line(tmp_path, text, words):
    assert words in refused(tmp_path, text).message


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("true", True),
        ("false", False),
        ("12", 12),
        ("1.5", 1.5),
        ("3KB", 3072),
        ("1h", 3600),
        ("250ms", 0.25),
        ("warn", "warn"),
        ("/run/x", "/run/x"),
        ("localhost:6379", "localhost:6379"),
        ("1x", None),
        ("=", None),
    ],
)
def test_values_without_quotes(word, value):
    assert plain(word) == value


@given(st.text(alphabet='ab1 "{}[],;#\\\n$', max_size=60))
def test_any_text_is_read_or_refused(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("conf") / "x.conf"
    path.write_text(text)
    try:
        assert isinstance(read_document(path).tree, dict)
    except ConfigError as error:
        assert "x.conf" in error.message


def test_its_default_name_is_found_last(tmp_path):
    (tmp_path / "djinn-scheduler.conf").write_text("")
    assert find_file(tmp_path).name == "djinn-scheduler.conf"
    (tmp_path / "config.yml").write_text("")
    assert find_file(tmp_path).name == "config.yml"
