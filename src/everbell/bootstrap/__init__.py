"""The composition root: the only place that names concrete adapters."""

from everbell.bootstrap.alone import open_local, open_still
from everbell.bootstrap.assembly import Program
from everbell.bootstrap.running import (
    SWITCH_S,
    Embedded,
    calm_collector,
    embedded,
    run_embedded,
    run_node,
)
from everbell.bootstrap.storage import (
    check_server_up,
    database_checkup,
    database_copies,
    database_file,
    look_at_source,
    open_giver,
    open_receiver,
    open_store,
    ready_secrets,
    redis_parts,
)

__all__ = [
    "SWITCH_S",
    "Embedded",
    "Program",
    "calm_collector",
    "check_server_up",
    "database_checkup",
    "database_copies",
    "database_file",
    "embedded",
    "look_at_source",
    "open_giver",
    "open_local",
    "open_receiver",
    "open_still",
    "open_store",
    "ready_secrets",
    "redis_parts",
    "run_embedded",
    "run_node",
]
