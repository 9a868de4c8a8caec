-- Who changed what, when, from where. Written in the transaction of the change itself.

CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at_us INTEGER NOT NULL,
    who TEXT NOT NULL,
    credential_id INTEGER NOT NULL,
    address TEXT NOT NULL,
    request_id TEXT NOT NULL,
    what TEXT NOT NULL,
    kind TEXT NOT NULL,
    target TEXT NOT NULL,
    project_id INTEGER,
    before TEXT NOT NULL,
    after TEXT NOT NULL
) STRICT;

CREATE INDEX audit_of_project ON audit (project_id, id);
CREATE INDEX audit_at ON audit (at_us);
