import pytest

from everbell.config.fields import all_fields, json_schema
from everbell.config.loader import load_settings, without_password
from everbell.config.template import config_text, toml_value, write_config
from everbell.domain.errors import ConfigError

SCHEDULER0 = """\
LogLevel: DEBUG
Protocol: http
Host: 127.0.0.1
Port: 9191
MaxMemory: 5000
MaxCPU: 50
Bootstrap: true
NodeId: 1
RaftAddress: 127.0.0.1:7071
PeerConnectRetryMax: 2
JobExecutionTimeout: 30
JobExecutionRetryDelay: 1
JobExecutionRetryMax: 10
MaxWorkers: 1
MaxQueue: 1
ExecutionLogFetchFanIn: 2
HTTPExecutorPayloadMaxSizeMb: 2
Replicas:
  - Address: http://127.0.0.1:9091
    RaftAddress: 127.0.0.1:7071
    NodeId: 1
"""


def write(tmp_path, text, name="config.yml"):
    data = text if isinstance(text, bytes) else text.encode()
    (tmp_path / name).write_bytes(data)
    return tmp_path


def load(tmp_path, env=None, **overrides):
    return load_settings(
        None, env or {}, {k.replace("__", "."): v for k, v in overrides.items()}, cwd=tmp_path
    )


def refused(tmp_path, text, name="config.yml", env=None):
    write(tmp_path, text, name)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, env)
    return caught.value


def test_defaults_without_any_file(tmp_path):
    loaded = load(tmp_path)
    assert (loaded.settings.server.host, loaded.settings.server.port) == ("127.0.0.1", 9091)
    assert set(loaded.origins.values()) == {"default"}
    assert (loaded.path, loaded.directory, loaded.notes) == (None, str(tmp_path), [])


@pytest.mark.parametrize("name", ["config.yml", "everbell.toml", "everbell.yaml"])
@pytest.mark.parametrize("text", ["", "\n# nothing\n"])
def test_an_empty_file_means_defaults(tmp_path, name, text):
    assert (
        load(write(tmp_path, text, name)).settings
        == load_settings(None, {}, {}, cwd=tmp_path / "x").settings
    )


def test_flag_over_environment_over_file_over_default(tmp_path):
    write(tmp_path, "[server]\nport = 1\nhost = 'f'\n[log]\nlevel = 'WARN'\n", "everbell.toml")
    env = {"EVERBELL_SERVER_PORT": "2", "EVERBELL_SERVER_HOST": "e"}
    loaded = load(tmp_path, env, server__port=3)
    assert loaded.settings.server.port == 3
    assert loaded.settings.server.host == "e"
    assert loaded.settings.log.level == "WARN"
    assert loaded.origins["server.port"] == "flag"
    assert loaded.origins["server.host"] == "env EVERBELL_SERVER_HOST"
    assert loaded.origins["log.level"] == "everbell.toml:5"
    assert loaded.origins["log.format"] == "default"


def test_own_environment_comes_before_scheduler0s(tmp_path):
    env = {"EVERBELL_SERVER_PORT": "2", "SCHEDULER0_Port": "3", "SCHEDULER0_LOGLEVEL": "error"}
    loaded = load(tmp_path, env)
    assert loaded.settings.server.port == 2
    assert loaded.settings.log.level == "ERROR"


def test_file_named_by_environment_is_the_home_of_relative_paths(tmp_path):
    (tmp_path / "etc").mkdir()
    write(tmp_path / "etc", "[server]\nport = 7\n", "my.toml")
    loaded = load(tmp_path, {"EVERBELL_CONFIG": "etc/my.toml"})
    assert loaded.settings.server.port == 7
    assert loaded.directory == str(tmp_path / "etc")


def test_the_first_default_name_wins_and_the_others_are_named(tmp_path):
    write(tmp_path, "Port: 1\n")
    write(tmp_path, "[server]\nport = 2\n", "everbell.toml")
    loaded = load(tmp_path)
    assert loaded.settings.server.port == 2
    assert loaded.notes == ["config.yml is not read: everbell.toml comes first"]


def test_scheduler0_page(tmp_path):
    loaded = load(write(tmp_path, SCHEDULER0))
    s = loaded.settings
    assert (s.log.level, s.server.port, s.node.name) == ("DEBUG", 9191, "node-1")
    assert (s.node.max_memory, s.node.max_cpu) == (5000, 50)
    assert (s.execution.http_timeout, s.execution.process_timeout) == (30, 30)
    assert (s.execution.retry_delay, s.execution.retry_max) == (1, 10)
    assert (s.engine.max_workers, s.engine.max_queue, s.callbacks.payload_max_mb) == (1, 1, 2)
    assert "config.yml:7: `Bootstrap` needs a cluster; ignored on one node" in loaded.notes
    assert any("`Replicas` needs a cluster" in note for note in loaded.notes)
    assert loaded.origins["server.port"] == "config.yml:4"


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("sever: {port: 1}", "config.yml:1: unknown key `sever`", "did you mean `server`?"),
        ("server:\n  prt: 1", "config.yml:2: unknown key `server.prt`", "`server.port`"),
        ("port: 1", "", ""),
        ("host: x\nLogLevl: DEBUG", "config.yml:2: unknown key `LogLevl`", "`LogLevel`"),
        ("engine: {port: 1}", "unknown key `engine.port`", "did you mean `server.port`?"),
        ("server: 5", "`server` is a section", "protocol, host, port"),
        ("server: {port: '9'}", "must be a whole number", "without quotes: 9"),
        ("server: {port: 70000}", "at most 65535, not 70000", ""),
        ("server: {port: yes}", "a whole number", ""),
        ("server: {host: 12}", "must be a text, not 12", 'in quotes: "12"'),
        ("engine: {poll: .nan}", "`engine.poll` must be a number above 0", ""),
        ("engine: {poll: 0}", "`engine.poll` must be a number above 0", ""),
        ("log: {level: LOUD}", "one of ERROR, WARN, INFO, DEBUG", ""),
        ("callbacks: {allow: 5}", "a list of texts", ""),
        ("Port: 1\nserver: {port: 2}", "`server.port` and `Port` both set", "keep one"),
        ("a: b: c", "line 1: not valid YAML", "indentation"),
        ("server:\n  port: 1\n  port: 2", "line 3: `server.port` is given twice", "line 2"),
        ("- 1", "settings expected", ""),
        ("server: {port: 1", "not valid YAML", ""),
        ("x: !!python/object/apply:os.system [id]", "not valid YAML", ""),
        ("node: {lease: 1}", "must be longer than `node.heartbeat`", "6"),
        ("database: {url: mysql://x}", "`database.url` can't be", "sqlite:///FILE"),
        (b"\xff\xfe\x00server", "not UTF-8 text", "right file"),
        (b"server:\n\0\0\0\0", "line 2: a NUL byte", "restore it"),
        (b"# " + b"x" * 1_100_000, "larger than", ""),
    ],
)
def test_bad_yaml_says_what_where_and_what_next(tmp_path, text, message, hint):
    if text == "port: 1":  # the older spelling differs only in case: it is understood
        assert load(write(tmp_path, text)).settings.server.port == 1
        return
    error = refused(tmp_path, text)
    shown = [(error.message, error.hint), *((p.message, p.hint) for p in error.problems)]
    assert any(message in m and hint in h for m, h in shown), shown


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[server\nport = 1", "not valid TOML"),
        ("[server]\nport = ", "not valid TOML"),
        ("[server]\nport = 1\nport = 2", "not valid TOML"),
        ("[server]\n\nprt = 1", "everbell.toml:3: unknown key `server.prt`"),
        ("server.port = 'x'", "everbell.toml:1: `server.port` must be a whole number"),
    ],
)
def test_bad_toml(tmp_path, text, message):
    assert message in refused(tmp_path, text, "everbell.toml").message


def test_all_problems_are_told_at_once(tmp_path):
    error = refused(tmp_path, "sever: 1\nserver: {port: x}\nlog: {level: 1}\n")
    assert [p.pointer for p in error.problems] == ["/sever", "/server/port", "/log/level"]


@pytest.mark.parametrize(
    ("env", "message", "hint"),
    [
        (
            {"EVERBELL_SERVER_PRT": "1"},
            "`EVERBELL_SERVER_PRT` is no setting",
            "EVERBELL_SERVER_PORT",
        ),
        ({"EVERBELL_SERVER_PORT": "x"}, "env EVERBELL_SERVER_PORT: `server.port` must be", "Port"),
        ({"EVERBELL_LOG_LEVEL": "x"}, "one of ERROR", ""),
        ({"EVERBELL_EXECUTION_INTERPRETERS": "sh"}, "a table of texts", ""),
    ],
)
def test_bad_environment(tmp_path, env, message, hint):
    error = refused(tmp_path, "", env=env)
    assert message in error.message
    assert hint in error.hint


def test_kubernetes_service_links_are_not_ours(tmp_path):
    env = {
        "EVERBELL_PORT": "tcp://10.0.0.1:9091",
        "EVERBELL_SERVICE_HOST": "10.0.0.1",
        "EVERBELL_PORT_9091_TCP_ADDR": "10.0.0.1",
    }
    assert load(tmp_path, env).settings.server.port == 9091


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("shop,bank", ("shop", "bank")),
        ('["shop", "bank"]', ("shop", "bank")),
        ("['shop']", ("shop",)),
        ("[]", ()),
        ("[::1]", ("[::1]",)),
    ],
)
def test_a_list_may_be_written_as_in_a_file(tmp_path, text, read):
    assert load(tmp_path, python__allow=text).settings.python.allow == read
    assert load(tmp_path, {"EVERBELL_PYTHON_ALLOW": text}).settings.python.allow == read


def test_lists_and_tables_in_the_environment(tmp_path):
    env = {
        "EVERBELL_CALLBACKS_ALLOW": "10.0.0.0/8, 192.168.0.0/16",
        "EVERBELL_EXECUTION_INTERPRETERS": "sh=/bin/sh,perl=perl",
    }
    settings = load(tmp_path, env).settings
    assert settings.callbacks.allow == ("10.0.0.0/8", "192.168.0.0/16")
    assert settings.execution.interpreters == {"sh": "/bin/sh", "perl": "perl"}


def test_missing_file_directory_and_strange_names(tmp_path):
    for path, message in [
        (tmp_path / "no.toml", "no configuration file"),
        (tmp_path / "config.ini", "can't tell the format"),
    ]:
        with pytest.raises(ConfigError, match=message):
            load_settings(path, {}, {})
    (tmp_path / "d.toml").mkdir()
    with pytest.raises(ConfigError, match="is a directory"):
        load_settings(tmp_path / "d.toml", {}, {})


def test_unknown_flag(tmp_path):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, server__prt=1)
    assert caught.value.hint == "did you mean `server.port`?"


@pytest.mark.parametrize("form", ["toml", "yaml"])
def test_the_template_sets_nothing_and_is_complete(tmp_path, form):
    path, new = write_config(tmp_path, form, force=False)
    assert new
    assert set(load(tmp_path).origins.values()) == {"default"}
    text = config_text(form)
    assert all(f"# {field.key}" in text for field in all_fields().values())
    assert write_config(tmp_path, form, force=False) == (path, False)


def test_the_templates_defaults_load_when_uncommented(tmp_path):
    lines = []
    for section in dict.fromkeys(field.section for field in all_fields().values()):
        lines.append(f"[{section}]")
        lines += [
            f"{f.key} = {toml_value(f.default)}"
            for f in all_fields().values()
            if f.section == section
        ]
    write(tmp_path, "\n".join(lines), "everbell.toml")
    loaded = load(tmp_path)
    assert loaded.settings == load_settings(None, {}, {}, cwd=tmp_path / "none").settings
    assert "default" not in loaded.origins.values()


def test_force_keeps_every_older_file(tmp_path):
    write(tmp_path, "[server]\nport = 1\n", "everbell.toml")
    write_config(tmp_path, "toml", force=True)
    write_config(tmp_path, "toml", force=True)
    assert (tmp_path / "everbell.toml.bak").read_text() == "[server]\nport = 1\n"
    assert (tmp_path / "everbell.toml.bak2").exists()


def test_every_setting_has_a_meaning_and_the_schema_knows_it():
    assert all(field.doc for field in all_fields().values())
    schema = json_schema()
    assert schema["$defs"]["Server"]["properties"]["port"]["default"] == 9091


def test_what_a_run_is_told_is_no_setting(tmp_path):
    told = ("RUN_ID", "JOB", "JOB_UUID", "PROJECT", "SLOT", "ATTEMPT", "TOKEN")
    loaded = load_settings(None, {f"EVERBELL_{name}": "x" for name in told}, cwd=tmp_path)
    assert loaded.notes == []


@pytest.mark.parametrize("given", [("ca",), ("cert", "key"), ("ca", "cert")])
def test_half_configured_tls_is_refused(tmp_path, given):
    lines = "\n".join(f'{name} = "{name}.pem"' for name in given)
    text = f'[database]\nurl = "postgresql://u@h/d"\n[database.tls]\n{lines}\n'
    error = refused(tmp_path, text, "everbell.toml")
    missing = {"ca", "cert", "key"} - set(given)
    assert all(f"database.tls.{name}" in error.message for name in missing)


def test_tls_files_are_read_from_table_variable_and_dotted_key(tmp_path):
    text = '[database]\nurl = "postgresql://u@h/d"\ntls.key = "k"\n[database.tls]\n'
    write(tmp_path, text.replace("[database.tls]\n", 'tls.cert = "c"\n'), "everbell.toml")
    env = {"EVERBELL_DATABASE_TLS_CA": "a"}
    loaded = load_settings(None, env, cwd=tmp_path)
    tls = loaded.settings.database.tls
    assert (tls.ca, tls.cert, tls.key) == ("a", "c", "k")
    assert loaded.origins["database.tls.ca"] == "env EVERBELL_DATABASE_TLS_CA"
    assert loaded.origins["database.tls.key"].endswith(":3")


def test_tls_needs_postgresql_and_unknown_keys_inside_are_named(tmp_path):
    all_three = '[database.tls]\nca = "a"\ncert = "c"\nkey = "k"\n'
    assert "postgresql" in refused(tmp_path, all_three, "everbell.toml").message
    error = refused(tmp_path, '[database.tls]\ncrt = "c"\n', "everbell.toml")
    assert "`database.tls.crt`" in error.message
    assert "cert" in error.hint


def test_a_password_in_an_address_is_not_shown(tmp_path):
    assert without_password("postgresql://u:p@ss@h/d") == "postgresql://u:***@h/d"
    assert without_password("postgresql://u@h:5/d") == "postgresql://u@h:5/d"
    assert without_password("sqlite:///a.db") == "sqlite:///a.db"
    error = refused(tmp_path, '[database]\nurl = "mysql://u:word@h/d"\n', "everbell.toml")
    assert "word@" not in error.message
