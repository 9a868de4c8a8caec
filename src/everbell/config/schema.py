"""Every setting, its default, its meaning: the one schema of file, environment and flags."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from everbell.domain.job import Record

Port = Annotated[int, Meta(ge=0, le=65535)]
Positive = Annotated[int, Meta(ge=1, le=1_000_000_000)]
Count = Annotated[int, Meta(ge=0, le=1_000_000_000)]
NotNegative = Annotated[float, Meta(ge=0, le=1_000_000_000)]
Role = Literal["scheduler", "worker", "api"]
Seconds = Annotated[float, Meta(gt=0, le=1_000_000_000)]


def doc(text: str) -> Meta:
    """Attach the meaning of a setting, shown by ``config schema`` and in the reference."""
    return Meta(description=text)


class Server(Record, frozen=True):
    """The listener of API and dashboard."""

    protocol: Annotated[Literal["http"], doc("Protocol spoken; http only.")] = "http"
    host: Annotated[str, doc("Address to listen on.")] = "127.0.0.1"
    port: Annotated[Port, doc("Port to listen on; 0 picks a free one.")] = 9091
    max_connections: Annotated[
        Positive,
        doc("Connections at once, and at most half of the process's file descriptors."),
    ] = 2000
    header_timeout: Annotated[
        Seconds, doc("Seconds until the head of a connection's next request must be whole.")
    ] = 10.0


class DatabaseTls(Record, frozen=True):
    """Files, relative to the configuration file; all three or none."""

    ca: Annotated[str, doc("PostgreSQL: PEM file of whom to trust; verifies server and name.")] = ""
    cert: Annotated[str, doc("PostgreSQL: PEM file of the certificate that we show.")] = ""
    key: Annotated[str, doc("PostgreSQL: PEM file of the key of that certificate.")] = ""


class Database(Record, frozen=True):
    """Where the state lives."""

    url: Annotated[
        str,
        doc(
            "`sqlite:///FILE` (relative to the configuration file),"
            " `postgresql://USER:PASSWORD@HOST:PORT/DATABASE` or `memory:`."
        ),
    ] = "sqlite:///everbell.db"
    addr: Annotated[
        str, doc("PostgreSQL by parts: HOST:PORT or a socket's directory; they make `url`.")
    ] = ""
    name: Annotated[str, doc("PostgreSQL by parts: the database.")] = ""
    username: Annotated[str, doc("PostgreSQL by parts: the role.")] = ""
    password: Annotated[str, doc("PostgreSQL by parts: the password of the role.")] = ""
    connections: Annotated[Positive, doc("PostgreSQL: connections of this node.")] = 8
    tls: DatabaseTls = DatabaseTls()
    synchronous: Annotated[
        Literal["full", "normal"],
        doc("SQLite: `full` survives power loss; `normal` only a crash of the process."),
    ] = "full"
    busy_timeout: Annotated[Seconds, doc("Seconds to wait for a lock of another process.")] = 5.0


class NodeSettings(Record, frozen=True):
    """This process in the cluster."""

    name: Annotated[str, doc("Name shown for this node; empty = host name and port.")] = ""
    heartbeat: Annotated[Seconds, doc("Seconds between heartbeats.")] = 2.0
    lease: Annotated[Seconds, doc("Seconds without a heartbeat until a node counts as dead.")] = 6.0
    max_memory: Annotated[
        NotNegative, doc("MiB; at 70 % of it the node takes no new work. 0 = no limit.")
    ] = 0
    max_cpu: Annotated[
        NotNegative, doc("Percent of the machine; above it the node takes no new work. 0 = none.")
    ] = 0
    roles: Annotated[
        tuple[Role, ...],
        Meta(min_length=1),
        doc("What this node does: decides slots, does runs, answers the API."),
    ] = ("scheduler", "worker", "api")
    max_clock_offset: Annotated[
        Seconds, doc("Seconds between this node's clock and the database's that are told.")
    ] = 0.1


class RedisTls(Record, frozen=True):
    """Files, relative to the configuration file; ``ca`` alone, or with ``cert`` and ``key``."""

    ca: Annotated[str, doc("Redis: PEM file of whom to trust; verifies server and name.")] = ""
    cert: Annotated[str, doc("Redis: PEM file of the certificate that we show.")] = ""
    key: Annotated[str, doc("Redis: PEM file of the key of that certificate.")] = ""


RedisName = Annotated[str, Meta(min_length=1, max_length=512)]


class Redis(Record, frozen=True):
    """Queues, wake-ups and the registry of nodes; nothing that would be missed if it is lost."""

    addr: Annotated[
        str,
        doc("HOST:PORT, `redis://`, `rediss://` (TLS) or the path of a socket; empty = no Redis."),
    ] = ""
    username: Annotated[str, doc("User of Redis; empty = the default user.")] = ""
    password: Annotated[str, doc("Password of that user.")] = ""
    db: Annotated[int, Meta(ge=0, le=65535), doc("Number of the database in Redis.")] = 0
    tls: RedisTls = RedisTls()
    timeout: Annotated[Seconds, doc("Seconds for connecting and for one command.")] = 2.0
    process_store: Annotated[
        RedisName, doc("Key of the set of live nodes; one hash each under KEY:NAME.")
    ] = "everbell:processes"
    job_store: Annotated[RedisName, doc("Key of the stream of runs that wait for a worker.")] = (
        "everbell:jobs"
    )
    job_processed: Annotated[
        RedisName, doc("Consumer group on that stream: taken, not yet ended.")
    ] = "everbell:processed"
    channel: Annotated[RedisName, doc("Channel of wake-ups between nodes.")] = "everbell:channel"
    sweep: Annotated[
        Seconds, doc("Seconds between looks into the store for runs that were never offered.")
    ] = 2.0


class Queues(Record, frozen=True):
    """Queues that `queue` actions may write to."""

    drivers: Annotated[
        tuple[str, ...], doc("Drivers that jobs may name; each has a queue of its own.")
    ] = ()
    key: Annotated[RedisName, doc("Key of a driver's queue; `{driver}` stands for its name.")] = (
        "builds_{driver}"
    )
    kind: Annotated[
        Literal["stream", "list"], doc("Redis type of a queue; `list` is read from the right.")
    ] = "stream"
    max_length: Annotated[
        Count, doc("Messages in a queue above which runs fail instead of adding; 0 = no limit.")
    ] = 1_000_000


class Crypto(Record, frozen=True):
    """What names are made with."""

    salt: Annotated[
        str, doc("Makes the names of artifacts from runs; the same on all components.")
    ] = ""


class Engine(Record, frozen=True):
    """Claiming and starting."""

    batch_size: Annotated[Positive, doc("Due jobs decided in one pass.")] = 1000
    look_ahead: Annotated[Seconds, doc("Seconds ahead of its time that a slot is claimed.")] = 0.5
    poll: Annotated[Seconds, doc("Seconds between checks when nobody said that there is work.")] = (
        1.0
    )
    misfire_grace: Annotated[
        NotNegative, doc("Seconds that a slot may be late before misfire policy decides on it.")
    ] = 1.0
    max_workers: Annotated[Positive, doc("Runs at once on this node.")] = 100
    max_queue: Annotated[Positive, doc("Claimed runs that wait for a worker on this node.")] = 10000
    history_days: Annotated[Seconds, doc("Days that finished runs are kept.")] = 30.0
    max_crashes: Annotated[
        Positive, doc("Take-overs of one run before it is given up as lost.")
    ] = 3


class Execution(Record, frozen=True):
    """Defaults for runs whose job does not say otherwise."""

    http_timeout: Annotated[Seconds, doc("Seconds for one HTTP callback or message.")] = 30.0
    process_timeout: Annotated[Seconds, doc("Seconds for one command or script.")] = 3600.0
    retry_max: Annotated[
        int, Meta(ge=0, le=1_000_000), doc("Further attempts after a failure.")
    ] = 0
    retry_delay: Annotated[NotNegative, doc("Seconds before the next attempt.")] = 1.0
    kill_grace: Annotated[Seconds, doc("Seconds between TERM and KILL.")] = 5.0
    shutdown_grace: Annotated[
        Seconds, doc("Seconds that running runs have to end when the node stops.")
    ] = 30.0
    output_bytes: Annotated[
        Positive,
        doc("Bytes of output kept of one attempt: half from its head, half from its tail."),
    ] = 1_048_576
    interpreters: Annotated[
        dict[str, str], doc("Interpreters that scripts may name, and the program of each.")
    ] = msgspec.field(
        default_factory=lambda: {"sh": "sh", "bash": "bash", "python": "python3", "node": "node"}
    )
    pass_env: Annotated[
        tuple[str, ...], doc("Variables of the node's environment that processes inherit.")
    ] = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")


class Python(Record, frozen=True):
    """What `python` actions may call, and how."""

    allow: Annotated[
        tuple[str, ...],
        doc("Modules whose functions jobs may name, besides those that an application registers."),
    ] = ()
    threads: Annotated[Positive, doc("Synchronous functions at once, each in a thread.")] = 100
    result_bytes: Annotated[Positive, doc("Largest result kept of a run, as JSON.")] = 65_536


class Callbacks(Record, frozen=True):
    """What HTTP actions may reach, and how fast. A destination is a scheme, a host and a port."""

    private_addresses: Annotated[
        Literal["allow", "deny"], doc("Whether callbacks may go to private and loopback addresses.")
    ] = "allow"
    allow: Annotated[
        tuple[str, ...], doc("Networks (CIDR) always allowed, metadata and link-local included.")
    ] = ()
    payload_max_mb: Annotated[Seconds, doc("Largest request body sent, in MiB.")] = 2.0
    max_connections: Annotated[Positive, doc("Connections at once, all targets together.")] = 200
    batch_max: Annotated[Positive, doc("Most runs in one request of jobs with `batch`.")] = 100
    batch_window: Annotated[
        float,
        Meta(ge=0, le=10),
        doc("Longest time, in seconds, that a run of a job with `batch` waits for others."),
    ] = 0.01
    breaker_failures: Annotated[
        int,
        Meta(ge=0, le=1_000_000),
        doc("Failed requests in a row after which a destination is left alone; 0 = never."),
    ] = 0
    breaker_open: Annotated[
        Seconds, doc("Seconds that a destination is left alone before one request tries it.")
    ] = 30.0
    rate: Annotated[NotNegative, doc("Requests per second to one destination; 0 = no limit.")] = 0.0
    burst: Annotated[Positive, doc("Requests at once to a destination after a pause.")] = 10


class Api(Record, frozen=True):
    """Limits of the API."""

    max_body: Annotated[Positive, doc("Largest request body accepted, in bytes.")] = 8_388_608
    max_batch: Annotated[Positive, doc("Most jobs in one request.")] = 1000
    max_headers: Annotated[
        Positive, doc("Most bytes of all headers and the address of one request.")
    ] = 65_536
    body_timeout: Annotated[Seconds, doc("Seconds until a request's body must be whole.")] = 30.0
    max_page: Annotated[Positive, doc("Most items in one page.")] = 200
    max_jobs: Annotated[Positive, doc("Most jobs in one project.")] = 1_000_000
    rate_limit: Annotated[
        NotNegative, doc("Requests per second and key that a node grants for long; 0 = no limit.")
    ] = 1000.0
    rate_burst: Annotated[Positive, doc("Requests at once that a key may make after a pause.")] = (
        5000
    )
    audit_days: Annotated[Seconds, doc("Days that entries of the audit log are kept.")] = 365.0
    max_failures: Annotated[
        int,
        Meta(ge=0, le=1_000_000),
        doc("Failed logins of an address in a minute, after which it must wait; 0 = no limit."),
    ] = 60
    max_followers: Annotated[Positive, doc("Outputs followed at once on a node.")] = 1000


class Telemetry(Record, frozen=True):
    """Figures and traces for other programs."""

    metrics: Annotated[bool, doc("Whether `/metrics` answers, in Prometheus' format.")] = False
    metrics_login: Annotated[
        bool,
        doc("Whether `/metrics` needs a credential: scope `read`, bound to no project."),
    ] = True
    job_metrics: Annotated[
        bool, doc("Whether runs are counted by job too, of at most 1,000 jobs.")
    ] = False
    traces: Annotated[
        bool, doc("Whether each attempt is a span, sent by OpenTelemetry; needs `everbell[otel]`.")
    ] = False
    traces_endpoint: Annotated[
        str, doc("Where spans go, by OTLP over HTTP; empty = OTEL_EXPORTER_OTLP_ENDPOINT.")
    ] = ""
    traces_sample: Annotated[
        float, Meta(ge=0, le=1), doc("Share of attempts that are recorded.")
    ] = 1.0


class Log(Record, frozen=True):
    """Logging."""

    level: Annotated[Literal["ERROR", "WARN", "INFO", "DEBUG"], doc("Least level written.")] = (
        "INFO"
    )
    format: Annotated[Literal["auto", "text", "json"], doc("auto = text on a terminal.")] = "auto"
    file: Annotated[str, doc("File to append to, besides stderr; empty = none.")] = ""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings of one node."""

    server: Server = Server()
    database: Database = Database()
    redis: Redis = Redis()
    queues: Queues = Queues()
    crypto: Crypto = Crypto()
    node: NodeSettings = NodeSettings()
    engine: Engine = Engine()
    execution: Execution = Execution()
    python: Python = Python()
    callbacks: Callbacks = Callbacks()
    api: Api = Api()
    telemetry: Telemetry = Telemetry()
    log: Log = Log()
