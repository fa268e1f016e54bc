-- The tables of Holdfast. Times are microseconds since the epoch, UTC. Names, ids and keys are VARBINARY: compared byte by
-- byte, in every character set, and trailing spaces count. A statement that makes a table can not be rolled back here, so
-- each one may be done again.

-- Made first and with a row: whoever finds some of the tables knows by it that they are ours, and goes on.
CREATE TABLE IF NOT EXISTS {meta} (
    name VARBINARY(100) NOT NULL PRIMARY KEY,
    value VARBINARY(1000) NOT NULL
) ENGINE = InnoDB CHARACTER SET = utf8mb4 AS SELECT 'schema' AS name, '0' AS value;
INSERT IGNORE INTO {meta} (name, value) VALUES ('epoch', '1'), ('export', '0'), ('database', UUID());

-- Jobs that have not ended. Without partial indexes, what only some rows have is a column that follows from the others and is
-- NULL in the rest: a scan of what is due, or of what runs, meets no other row.
-- owner: of a sticky job that is next in the line of its key (ready = 3, as a suspect 4), the process that has the key; @service: nobody.
CREATE TABLE IF NOT EXISTS {job} (
    seq BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    id VARBINARY(512) NOT NULL,
    queue VARBINARY(400) NOT NULL,
    task VARBINARY(400) NOT NULL,
    state SMALLINT NOT NULL,
    ready SMALLINT NOT NULL,
    prio SMALLINT NOT NULL,
    run_at BIGINT NOT NULL,
    payload LONGBLOB NOT NULL,
    policy LONGBLOB,
    lane_key VARBINARY(2048),
    lane SMALLINT NOT NULL,
    uniq VARBINARY(2048),
    sticky VARBINARY(400),
    pod BIGINT,
    pod_epoch BIGINT NOT NULL,
    suspect SMALLINT NOT NULL,
    created_at BIGINT NOT NULL,
    queued_at BIGINT,
    updated_at BIGINT NOT NULL,
    attempt INT NOT NULL,
    token BIGINT NOT NULL,
    instance VARBINARY(2048),
    worker VARBINARY(2048) NOT NULL,
    version VARBINARY(2048) NOT NULL,
    started_at BIGINT,
    lease_until BIGINT NOT NULL,
    cancel_asked SMALLINT NOT NULL,
    rest LONGBLOB,
    owner VARBINARY(2048) NOT NULL DEFAULT '',
    due_at BIGINT GENERATED ALWAYS AS (CASE WHEN state IN (1, 4) THEN run_at END) VIRTUAL,
    runs_at VARBINARY(2048) GENERATED ALWAYS AS (CASE WHEN state = 3 THEN instance END) VIRTUAL,
    place SMALLINT GENERATED ALWAYS AS (CASE WHEN state = 3 THEN 2 ELSE state END) VIRTUAL,
    tried VARBINARY(2048) GENERATED ALWAYS AS (CASE WHEN state <> 3 AND attempt > 0 THEN worker END) VIRTUAL,
    UNIQUE KEY job_id (id),
    -- Not UNIQUE, see done_id below: a unique key that was free again and is taken in a transaction that stays open would lock
    -- its neighbours. The slots see to it that an unfinished job holds its key alone.
    KEY job_uniq (uniq),
    KEY job_ready (queue, ready, owner, prio, run_at, seq, state),
    KEY job_due (due_at, seq),
    KEY job_runs_at (runs_at, queue),
    KEY job_lane (lane_key, lane, seq),
    -- For lists: see lists.py. A claim of a job that was never tried changes none of these.
    KEY job_list (place, queue, task, seq),
    KEY job_tried (tried, seq)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET = utf8mb4;

-- Jobs that have ended.
CREATE TABLE IF NOT EXISTS {done} (
    seq BIGINT NOT NULL PRIMARY KEY,
    id VARBINARY(512) NOT NULL,
    queue VARBINARY(400) NOT NULL,
    task VARBINARY(400) NOT NULL,
    state SMALLINT NOT NULL,
    ready SMALLINT NOT NULL,
    prio SMALLINT NOT NULL,
    run_at BIGINT NOT NULL,
    payload LONGBLOB NOT NULL,
    policy LONGBLOB,
    lane_key VARBINARY(2048),
    lane SMALLINT NOT NULL,
    uniq VARBINARY(2048),
    sticky VARBINARY(400),
    pod BIGINT,
    pod_epoch BIGINT NOT NULL,
    suspect SMALLINT NOT NULL,
    created_at BIGINT NOT NULL,
    queued_at BIGINT,
    updated_at BIGINT NOT NULL,
    attempt INT NOT NULL,
    token BIGINT NOT NULL,
    instance VARBINARY(2048),
    worker VARBINARY(2048) NOT NULL,
    version VARBINARY(2048) NOT NULL,
    started_at BIGINT,
    lease_until BIGINT NOT NULL,
    cancel_asked SMALLINT NOT NULL,
    rest LONGBLOB,
    finished_at BIGINT NOT NULL,
    duration DOUBLE,
    result LONGBLOB,
    tail LONGBLOB,
    deleted_at BIGINT,
    -- Not UNIQUE, as an id is that of the job row that was moved here: a check for duplicates would lock the gap beside an id
    -- that stood here before (a job that was retried), and others could not end their jobs until this transaction ends.
    KEY done_id (id),
    -- One for each order of lists: by group, and then as they ended or as they were accepted.
    KEY done_ended (queue, task, worker, state, finished_at, seq),
    KEY done_list (queue, task, worker, state, seq),
    KEY done_uniq (uniq, seq),
    KEY done_key (lane_key, seq)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET = utf8mb4;

-- Attempts that ended without ending their job.
CREATE TABLE IF NOT EXISTS {attempt} (
    seq BIGINT NOT NULL,
    number INT NOT NULL,
    body LONGBLOB NOT NULL,
    PRIMARY KEY (seq, number)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET = utf8mb4;

CREATE TABLE IF NOT EXISTS {queue} (
    name VARBINARY(400) NOT NULL PRIMARY KEY,
    paused SMALLINT NOT NULL,
    fleet_limit BIGINT,
    rescue_after BIGINT,
    body LONGBLOB NOT NULL
) ENGINE = InnoDB CHARACTER SET = utf8mb4;
CREATE TABLE IF NOT EXISTS {definition} (
    id VARBINARY(512) NOT NULL PRIMARY KEY,
    alias VARBINARY(400) NOT NULL,
    stopped SMALLINT NOT NULL,
    body LONGBLOB NOT NULL,
    UNIQUE KEY definition_alias (alias)
) ENGINE = InnoDB CHARACTER SET = utf8mb4;
CREATE TABLE IF NOT EXISTS {schedule} (
    name VARBINARY(1024) NOT NULL PRIMARY KEY,
    next_run_at BIGINT,
    body LONGBLOB NOT NULL
) ENGINE = InnoDB CHARACTER SET = utf8mb4;
CREATE TABLE IF NOT EXISTS {worker} (
    name VARBINARY(2048) NOT NULL PRIMARY KEY,
    body LONGBLOB NOT NULL
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET = utf8mb4;
CREATE TABLE IF NOT EXISTS {instance} (
    id VARBINARY(2048) NOT NULL PRIMARY KEY,
    worker VARBINARY(2048) NOT NULL,
    live SMALLINT NOT NULL,
    owns SMALLINT NOT NULL,
    heartbeat_at BIGINT NOT NULL,
    lease BIGINT NOT NULL,
    body LONGBLOB NOT NULL,
    beat LONGBLOB
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET = utf8mb4;
CREATE TABLE IF NOT EXISTS {operation} (
    id VARBINARY(512) NOT NULL PRIMARY KEY,
    created_at BIGINT NOT NULL,
    state VARBINARY(100) NOT NULL,
    body LONGBLOB NOT NULL
) ENGINE = InnoDB CHARACTER SET = utf8mb4;
CREATE TABLE IF NOT EXISTS {audit} (
    seq BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    at BIGINT NOT NULL,
    body LONGBLOB NOT NULL
) ENGINE = InnoDB CHARACTER SET = utf8mb4;
CREATE TABLE IF NOT EXISTS {link} (
    service VARBINARY(400) NOT NULL,
    lane_key VARBINARY(2048) NOT NULL,
    pod BIGINT,
    instance VARBINARY(2048) NOT NULL,
    epoch BIGINT NOT NULL,
    PRIMARY KEY (service, lane_key),
    KEY link_instance (instance),
    KEY link_held (instance, pod)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET = utf8mb4;

-- How many jobs have ended or ran elsewhere, and how long successes took: of timed attempts, in whole microseconds (a float
-- holds them exactly up to 285 years, and never runs over).
CREATE TABLE IF NOT EXISTS {tally} (
    queue VARBINARY(400) NOT NULL,
    task VARBINARY(400) NOT NULL,
    worker VARBINARY(2048) NOT NULL,
    state SMALLINT NOT NULL,
    shard INT NOT NULL,
    n BIGINT NOT NULL,
    timed BIGINT NOT NULL,
    took DOUBLE NOT NULL,
    PRIMARY KEY (queue, task, worker, state, shard)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET = utf8mb4;
-- Attempts that ended elsewhere, by the hour and the worker that they were reported for.
CREATE TABLE IF NOT EXISTS {report} (
    hour BIGINT NOT NULL,
    worker VARBINARY(2048) NOT NULL,
    outcome SMALLINT NOT NULL,
    n BIGINT NOT NULL,
    timed BIGINT NOT NULL,
    took DOUBLE NOT NULL,
    PRIMARY KEY (hour, worker, outcome)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET = utf8mb4;
CREATE TABLE IF NOT EXISTS {counter} (
    name VARBINARY(100) NOT NULL,
    shard INT NOT NULL,
    n BIGINT NOT NULL,
    PRIMARY KEY (name, shard)
) ENGINE = InnoDB CHARACTER SET = utf8mb4;
-- What happened, minute by minute: counts, sums in microseconds, and histograms of waiting and of running. waited, ran: by the
-- database's clock; timed, took: how many durations the workers told, and their sum.
CREATE TABLE IF NOT EXISTS {stat} (
    minute BIGINT NOT NULL,
    queue VARBINARY(400) NOT NULL,
    task VARBINARY(400) NOT NULL,
    outcome SMALLINT NOT NULL,
    instance VARBINARY(2048) NOT NULL,
    worker VARBINARY(2048) NOT NULL,
    n BIGINT NOT NULL,
    waited BIGINT NOT NULL,
    ran BIGINT NOT NULL,
    waits LONGBLOB NOT NULL,
    runs LONGBLOB NOT NULL,
    timed BIGINT NOT NULL,
    took DOUBLE NOT NULL,
    PRIMARY KEY (minute, queue, task, outcome, instance)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET = utf8mb4;
-- The same of minutes that are over, and of hours: span seconds long, the number-th since the epoch.
CREATE TABLE IF NOT EXISTS {stat_sum} (
    span INT NOT NULL,
    number BIGINT NOT NULL,
    queue VARBINARY(400) NOT NULL,
    task VARBINARY(400) NOT NULL,
    outcome SMALLINT NOT NULL,
    worker VARBINARY(2048) NOT NULL,
    n BIGINT NOT NULL,
    waited BIGINT NOT NULL,
    ran BIGINT NOT NULL,
    waits LONGBLOB NOT NULL,
    runs LONGBLOB NOT NULL,
    timed BIGINT NOT NULL,
    took DOUBLE NOT NULL,
    PRIMARY KEY (span, number, queue, task, outcome, worker)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET = utf8mb4;

-- What an exporter has not had; gone: a person purged the job. Numbers are given before they become visible, so none is taken
-- to be the last: a row is read when it is there, and deleted when it was exported.
CREATE TABLE IF NOT EXISTS {feed} (
    pos BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    seq BIGINT NOT NULL,
    gone SMALLINT NOT NULL,
    KEY feed_seq (seq)
) ENGINE = InnoDB CHARACTER SET = utf8mb4;
-- Rows that stand for names while somebody locks these: a name's hash says which. There is a fixed number of them, so that a
-- lock never makes a row.
CREATE TABLE IF NOT EXISTS {prefix}slot (slot INT NOT NULL PRIMARY KEY) ENGINE = InnoDB;
INSERT IGNORE INTO {prefix}slot (slot)
    WITH digit (n) AS (
        SELECT 0 UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3
        UNION ALL SELECT 4 UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7
    ), pair (n) AS (SELECT a.n + 8 * b.n FROM digit AS a CROSS JOIN digit AS b)
    SELECT a.n + 64 * b.n + 4096 * c.n
    FROM pair AS a CROSS JOIN pair AS b CROSS JOIN (SELECT n FROM digit WHERE n < 4) AS c;
