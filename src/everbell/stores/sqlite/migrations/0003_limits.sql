-- Concurrency limits that jobs of a project share by name. A name without a row allows one run.
CREATE TABLE limits (
    project_id INTEGER NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    most INTEGER NOT NULL,
    PRIMARY KEY (project_id, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE job_limits (
    project_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    job_id INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    PRIMARY KEY (project_id, name, job_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX job_limits_of_job ON job_limits (job_id);

ALTER TABLE jobs ADD COLUMN limited INTEGER NOT NULL DEFAULT 0;
