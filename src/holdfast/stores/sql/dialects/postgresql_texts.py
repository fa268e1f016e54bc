"""The statements of the hot path on PostgreSQL: one for each step that a plain job takes.

Each begins with what has to be known, read once: the time, the epoch of the tokens, and whether all is as plain as the
statement takes it to be. If it is not, it changes nothing and says so, and the ledger's rules do the work.
"""

from __future__ import annotations

from typing import Final

from holdfast.stores.sql.schema import CLAIMED, DONE_COLUMNS, TABLES
from holdfast.stores.sql.upkeep import YOUNG

#: Now, in microseconds. A test's clock goes in as an argument; the transaction's own now() would be its beginning.
NOW: Final = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"


def kind(queue: str, task: str, worker: str, state: str) -> str:
    """Return the number of a group of jobs as the tables have it: `kind` of ended jobs, the index of lists of others."""
    return f"hashtextextended({worker}, hashtextextended({task}, hashtextextended({queue}, {state})))"


# Engine-made ids come in the order of time: where the newest ended job is older, none of the batch can have ended. The
# greatest id is one step in the index; whether there is a greater one than $3 could become a walk through the table.
_UNKNOWN: Final = (
    "NOT (coalesce((SELECT id FROM {done} ORDER BY id DESC LIMIT 1) >= $3::text, false)"
    " AND EXISTS (SELECT FROM {done} WHERE id = ANY(@IDS@)))"
)

# Long lists go as texts, and payloads as one string with their places: the driver looks at each element of an array whether
# it is a list itself, which costs more than all the rest of sending it.

#: Jobs that differ in id and payload alone, and are ready now: the common batch, with the fewest values to send.
ENQUEUE_ALIKE: Final = f"""
WITH known AS MATERIALIZED (
    SELECT coalesce($8::bigint, {NOW}) AS now
     WHERE EXISTS (SELECT FROM {{queue}} WHERE name = $4::text)
       AND NOT EXISTS (SELECT FROM {{definition}} WHERE alias = $5::text AND stopped = 1)
       AND {_UNKNOWN.replace("@IDS@", "$1::text::text[]")}
)
INSERT INTO {{job}} (
    id, payload, queue, task, prio, policy, state, ready, run_at, created_at, queued_at, updated_at
)
SELECT new.id, substring($2::bytea FROM new.place FOR new.size), $4, $5, $6::smallint, $7::bytea, 2, 1, now, now, now, now
  FROM known, unnest($1::text::text[], $9::text::int[], $10::text::int[]) AS new(id, place, size)
RETURNING seq, created_at
"""

_NOT_ENDED: Final = "AND NOT EXISTS (SELECT FROM {done} WHERE id = $1::text)"
#: One job that is ready now: the same with little to plan and to start, and not more than sixteen locks.
ENQUEUE_ONE: Final = f"""
INSERT INTO {{job}} (
    id, payload, queue, task, prio, policy, state, ready, run_at, created_at, queued_at, updated_at
)
SELECT $1::text, $2::bytea, $3::text, $4::text, $5::smallint, $6::bytea, 2, 1, now, now, now, now
  FROM (SELECT coalesce($7::bigint, {NOW}) AS now) AS known
 WHERE EXISTS (SELECT FROM {{queue}} WHERE name = $3::text)
   AND NOT EXISTS (SELECT FROM {{definition}} WHERE alias = $4::text AND stopped = 1)
   {_NOT_ENDED}
RETURNING seq, created_at
"""
#: One whose id was made for this enqueue: it can not have ended.
ENQUEUE_FRESH: Final = ENQUEUE_ONE.replace(_NOT_ENDED, "")

# The statement is a transaction of its own, so this is the same time for all of it; and a float of it is true to less than
# a microsecond, at a tenth of what numbers of any length cost.
_BEGUN: Final = "coalesce($7::bigint, (date_part('epoch', statement_timestamp()) * 1000000)::bigint)"
#: The same into a queue that is known to be there, of a task that is known not to be stopped.
ENQUEUE_KNOWN: Final = f"""
INSERT INTO {{job}} (
    id, payload, queue, task, prio, policy, state, ready, run_at, created_at, queued_at, updated_at
)
VALUES ($1::text, $2::bytea, $3::text, $4::text, $5::smallint, $6::bytea, 2, 1, {_BEGUN}, {_BEGUN}, {_BEGUN}, {_BEGUN})
RETURNING seq, created_at
"""

#: Any jobs without key, unique key and id of the caller's. A delay counts from now; a time in the past is now.
ENQUEUE: Final = f"""
WITH known AS MATERIALIZED (
    SELECT coalesce($10::bigint, {NOW}) AS now
     WHERE (SELECT count(*) FROM {{queue}} WHERE name = ANY($11::text[])) = cardinality($11::text[])
       AND NOT EXISTS (SELECT FROM {{definition}} WHERE alias = ANY($5::text[]) AND stopped = 1)
       AND {_UNKNOWN.replace("@IDS@", "$1::text[]")}
)
INSERT INTO {{job}} (
    id, payload, queue, task, prio, policy, state, ready, run_at, created_at, queued_at, updated_at
)
SELECT id, payload, queue, task, prio, policy,
       CASE WHEN starts > now THEN 1 ELSE 2 END, CASE WHEN starts > now THEN 0 ELSE 1 END, starts, now,
       CASE WHEN starts > now THEN NULL ELSE now END, now
  FROM (
    SELECT new.*, now, greatest(now, coalesce(now + new.delay, new.run_at, now)) AS starts
      FROM known, unnest(
               $1::text[], $2::bytea[], $4::text[], $5::text[], $6::smallint[], $7::bytea[], $8::bigint[], $9::bigint[]
           ) AS new(id, payload, queue, task, prio, policy, run_at, delay)
  ) AS given
RETURNING seq, created_at, run_at
"""

#: What has to be known before jobs are copied into the table: a number before theirs, and whether jobs with ids from $4 on
#: may have ended; nothing when the first of them (task $2, queue $3) is not as plain as that.
BEFORE_COPY: Final = f"""
SELECT coalesce($1::bigint, {NOW}), nextval(pg_get_serial_sequence('{{job}}', 'seq')::regclass),
       coalesce((SELECT id FROM {{done}} ORDER BY id DESC LIMIT 1) >= $4::text, false)
 WHERE EXISTS (SELECT FROM {{queue}} WHERE name = $3::text)
   AND NOT EXISTS (SELECT FROM {{definition}} WHERE alias = $2::text AND stopped = 1)
"""
#: The last number that this session took, and all that it gave to rows since $1 unless these were $2 without a gap.
AFTER_COPY: Final = """
WITH known AS MATERIALIZED (SELECT currval(pg_get_serial_sequence('{job}', 'seq')::regclass) AS last)
SELECT last, CASE WHEN last - $1::bigint <> $2::bigint THEN ARRAY(
           SELECT seq FROM {job} WHERE seq > $1::bigint AND seq <= last AND xmin = pg_current_xact_id()::xid ORDER BY seq) END
  FROM known
"""
#: Whether what was copied is as plain as that: its queues ($1) are there, its tasks ($2) not stopped, its ids ($3) not ended.
WAS_PLAIN: Final = """
SELECT (SELECT count(*) FROM {queue} WHERE name = ANY($1::text[])) = cardinality($1::text[])
   AND NOT EXISTS (SELECT FROM {definition} WHERE alias = ANY($2::text[]) AND stopped = 1)
   AND NOT EXISTS (SELECT FROM {done} WHERE id = ANY($3::text[]))
"""
#: Whether we may take numbers: whoever may insert need not have that right.
MAY_TAKE: Final = "SELECT has_sequence_privilege(pg_get_serial_sequence('{job}', 'seq'), 'USAGE')"

# A claim's first row is no job. It says, in the columns of one so that jobs need no others: as seq the time, as run_at when
# the next job becomes due, as attempt 1 when only the rules can tell who is next, as token how long it looked for jobs.
_FIRST: Final = {
    "seq": "now", "run_at": "due", "attempt": "(suspects OR limited OR (SELECT back FROM held))::integer",
    "token": "(SELECT walk FROM held)",
}  # fmt: skip

# `picked` is materialised and locks what it returns and nothing more: it runs once, so no more is taken than was asked for,
# and walks past rows that others are claiming. Its order is that of the index of ready jobs.
_CLAIM: Final = f"""
WITH known AS MATERIALIZED (
    SELECT coalesce($7::bigint, {NOW}) AS now,
           (SELECT floor(value::numeric * 4294967296)::bigint FROM {{meta}} WHERE name = 'epoch') AS epoch,
           (SELECT run_at FROM {{job}} WHERE state IN (1, 4) ORDER BY run_at, seq LIMIT 1) AS due,
           EXISTS (SELECT FROM {{job}} WHERE ready = 2 AND owner = '' AND queue = ANY($1::text[])) AS suspects,
           EXISTS (SELECT FROM {{queue}} WHERE name = ANY($1::text[]) AND fleet_limit IS NOT NULL) AS limited,
           EXISTS (SELECT FROM {{queue}} WHERE name = ANY($1::text[]) AND rescue_after IS NOT NULL) AS own_leases,
           clock_timestamp() AS began
),
picked AS MATERIALIZED (
@PICKED@
),
held AS MATERIALIZED (
    SELECT EXISTS (SELECT FROM {{definition}} WHERE stopped = 1 AND alias IN (SELECT task FROM picked)) AS back,
           CASE WHEN (SELECT count(*) FROM picked) > 0
                THEN (extract(epoch FROM clock_timestamp() - (SELECT began FROM known)) * 1000000)::bigint ELSE 0 END AS walk
),
taken AS (
    UPDATE {{job}} AS job
       SET state = 3, ready = 0, lane = lane * 2, attempt = attempt + 1, token = greatest(token + 1, epoch),
           instance = $4::text, worker = $5::text, version = $6::text, started_at = now, updated_at = now,
           lease_until = now + CASE WHEN own_leases
               THEN coalesce((SELECT rescue_after FROM {{queue}} AS its WHERE its.name = job.queue), $3::bigint)
               ELSE $3::bigint END
      FROM known
     WHERE job.ctid = ANY (ARRAY(SELECT place FROM picked WHERE NOT (SELECT back FROM held)))
    RETURNING {", ".join(f"job.{column}" for column in CLAIMED)}
)
SELECT {", ".join(_FIRST.get(column, "NULL") for column in CLAIMED)} FROM known
 UNION ALL
SELECT * FROM taken
"""
_PLAIN: Final = "(SELECT NOT suspects AND NOT limited AND (due IS NULL OR due > now) FROM known)"

#: From one queue.
CLAIM_ONE: Final = _CLAIM.replace(
    "@PICKED@",
    f"""    SELECT ctid AS place, task FROM {{job}}
     WHERE ready = 1 AND queue = ($1::text[])[1] AND {_PLAIN}
       AND NOT EXISTS (SELECT FROM {{queue}} WHERE name = ($1::text[])[1] AND paused = 1)
     ORDER BY prio, run_at, seq
     LIMIT $2::bigint
       FOR UPDATE SKIP LOCKED""",
)
#: From several, in their order: each is asked for what the ones before it have left.
CLAIM_MANY: Final = _CLAIM.replace(
    "@PICKED@",
    f"""    SELECT found.place, found.task
      FROM (
        SELECT wanted.name, wanted.most
          FROM unnest($1::text[], $8::bigint[]) WITH ORDINALITY AS wanted(name, most, nr)
         WHERE {_PLAIN} AND NOT EXISTS (SELECT FROM {{queue}} AS its WHERE its.name = wanted.name AND its.paused = 1)
         ORDER BY nr
        OFFSET 0
      ) AS asked
      CROSS JOIN LATERAL (
        SELECT ctid AS place, task FROM {{job}}
         WHERE ready = 1 AND queue = asked.name
         ORDER BY queue, prio, run_at, seq
         LIMIT asked.most
           FOR UPDATE SKIP LOCKED
      ) AS found
     LIMIT $2::bigint""",
)

#: The same from parts of each queue's line: priorities $10 to $12, of the first of them what is ready since $11.
CLAIM_FROM: Final = _CLAIM.replace(
    "@PICKED@",
    f"""    SELECT found.place, found.task
      FROM (
        SELECT wanted.name, wanted.most
          FROM unnest($1::text[], $8::bigint[]) WITH ORDINALITY AS wanted(name, most, nr)
         WHERE {_PLAIN} AND NOT EXISTS (SELECT FROM {{queue}} AS its WHERE its.name = wanted.name AND its.paused = 1)
         ORDER BY nr
        OFFSET 0
      ) AS asked
      CROSS JOIN LATERAL (
        SELECT met.place, met.task
          FROM (
            SELECT given.first, given.since, given.last
              FROM unnest($9::text[], $10::smallint[], $11::bigint[], $12::smallint[])
                   WITH ORDINALITY AS given(name, first, since, last, nr)
             WHERE given.name = asked.name
             ORDER BY nr
            OFFSET 0
          ) AS part
          CROSS JOIN LATERAL (
            SELECT ctid AS place, task FROM {{job}}
             WHERE ready = 1 AND queue = asked.name AND (prio, run_at) >= (part.first, part.since) AND prio <= part.last
             ORDER BY queue, prio, run_at, seq
             LIMIT asked.most
               FOR UPDATE SKIP LOCKED
          ) AS met
         LIMIT asked.most
      ) AS found
     LIMIT $2::bigint""",
)

#: What a success makes of the columns of the row that it moves; all others stay as they are.
_ENDED: Final = {
    "state": "6", "ready": "0", "lane": "0", "suspect": "0", "updated_at": "now", "lease_until": "0",
    "finished_at": "now", "duration": "told.duration", "result": "coalesce(told.result, $21::bytea)", "tail": "told.tail",
    "deleted_at": "NULL::bigint",
}  # fmt: skip
_STAT: Final = TABLES["stat"].columns
#: What durations are in all, in the microseconds that `took_of` makes of each.
TOOK: Final = (
    "coalesce(sum(CASE WHEN duration BETWEEN 0 AND 1000000000000::float8 THEN round(duration * 1000000::float8)"
    " ELSE 0 END), 0)"
)
COUNTED: Final = """ON CONFLICT (queue, task, worker, state, shard) DO UPDATE
       SET n = tally.n + excluded.n, timed = tally.timed + excluded.timed, took = tally.took + excluded.took"""
# Lists of nothing but NULL, and of one and the same result, are sent empty: unnest fills up with NULL.
#: Plain successes: the rows move and are counted, and the minute's figures are written whole. Says how many moved, and which
#: when it was not all of them.
SETTLE: Final = f"""
WITH known AS MATERIALIZED (
    SELECT coalesce($6::bigint, {NOW}) AS now, pg_current_xact_id()::text::bigint AS xid -- once, not by each row's default
),
gone AS (
    DELETE FROM {{job}} AS job
     USING known, unnest($1::text::bigint[], $2::text::bigint[], $3::bytea[], $4::text::float8[], $5::bytea[])
           AS told(seq, token, result, duration, tail)
     WHERE job.seq = told.seq AND job.token = told.token AND job.state + 0 = 3 AND job.lane_key IS NULL
    RETURNING {", ".join(_ENDED.get(column, f"job.{column}") for column in DONE_COLUMNS)}
),
kept AS (
    INSERT INTO {{done}} ({", ".join(DONE_COLUMNS)}, xid, kind)
    SELECT *, (SELECT xid FROM known), {kind("queue", "task", "worker", "6::smallint")} FROM gone
    RETURNING seq
),
counted AS (
    INSERT INTO {{tally}} AS tally (queue, task, worker, state, shard, n, timed, took)
    SELECT queue, task, worker, 6, $7::smallint, count(*), count(duration), {TOOK}
      FROM gone GROUP BY queue, task, worker ORDER BY queue, task, worker
    {COUNTED}
),
figured AS (
    INSERT INTO {{stat}} ({", ".join(_STAT)})
    SELECT * FROM unnest($8::bigint[], $9::text[], $10::text[], $11::smallint[], $12::text[], $13::text[], $14::bigint[],
                         $15::bigint[], $16::bigint[], $17::bytea[], $18::bytea[], $19::bigint[], $20::float8[])
    ON CONFLICT ({", ".join(_STAT[:5])}) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in _STAT[5:])}
)
SELECT count(*), CASE WHEN count(*) < cardinality($1::text::bigint[]) THEN array_agg(seq) END,
       EXISTS (SELECT FROM {{queue}} WHERE fleet_limit IS NOT NULL)
  FROM kept
"""

_ITS_LEASE: Final = "coalesce((SELECT rescue_after FROM {queue} AS its WHERE its.name = job.queue), $2::bigint)"
#: A beat of a process whose record is as it was: its leases are extended, and it is told what it holds and its settings.
#: Claims that are younger than a tenth of their lease are left as they are, see sql/upkeep.py: the beat of a process that
#: drains a backlog locks nothing that it is about to settle. Others are locked in the order in which settles lock them.
BEAT: Final = f"""
WITH known AS MATERIALIZED (SELECT coalesce($5::bigint, {NOW}) AS now),
me AS (
    UPDATE {{instance}} SET heartbeat_at = now, lease = $2::bigint, beat = $3::bytea FROM known
     WHERE id = $1::text AND body = $4::bytea
    RETURNING id
),
seen AS MATERIALIZED (
    SELECT seq, id, token, cancel_asked, lease_until >= now + {YOUNG} * {_ITS_LEASE} / 10 AS young
      FROM {{job}} AS job, known
     WHERE instance = $1::text AND state = 3
),
mine AS MATERIALIZED (
    SELECT seq FROM {{job}}
     WHERE seq = ANY (ARRAY(SELECT seq FROM seen WHERE NOT young)) AND instance = $1::text AND state + 0 = 3
     ORDER BY seq FOR UPDATE
),
held AS (
    UPDATE {{job}} AS job SET lease_until = greatest(lease_until, now + {_ITS_LEASE}) FROM known
     WHERE seq = ANY (ARRAY(SELECT seq FROM mine))
    RETURNING seq, id, token, cancel_asked
)
SELECT EXISTS (SELECT FROM me), (SELECT body FROM {{worker}} WHERE name = $6::text), held.*
  FROM known LEFT JOIN (
        SELECT seq, id, token, cancel_asked FROM seen WHERE young UNION ALL SELECT * FROM held
       ) AS held ON true
"""

# "Is there any" is asked as the first in the order of an index: for EXISTS the planner likes to walk through the table, sure
# that it meets one soon, and there is none; for min() it may walk along the whole index.
#: What there is to do for upkeep, told by one look: lost or dead processes and jobs, or an operation that is not done; jobs
#: that are due; ready jobs of the queues in $3; and of each queue and kind of ended jobs how many there are, and when the
#: first of them ended; how many processes live, and how many of them stand before $4. Unless $5 it leaves out whatever walks
#: past what is over: leases of processes that are alive or not known, ready jobs, and when the first ended.
LOOK: Final = f"""
WITH known AS MATERIALIZED (SELECT coalesce($1::bigint, {NOW}) AS now)
SELECT now,
       coalesce(CASE WHEN $5::boolean THEN (SELECT min(lease_until) FROM {{job}} WHERE state = 3) <= now END, false)
           OR EXISTS (SELECT FROM {{instance}}
                       WHERE (live = 1 AND heartbeat_at + lease <= now) OR (live = 0 AND heartbeat_at <= now - $2::bigint))
           OR EXISTS (SELECT FROM {{operation}} WHERE state = 'running'),
       coalesce((SELECT run_at FROM {{job}} WHERE state IN (1, 4) ORDER BY run_at, seq LIMIT 1) <= now, false),
       $5::boolean AND EXISTS (SELECT FROM unnest($3::text[]) AS asked(name)
                WHERE (SELECT seq FROM {{job}} WHERE ready = 1 AND queue = asked.name
                        ORDER BY queue, prio, run_at, seq LIMIT 1) IS NOT NULL
                   OR (SELECT seq FROM {{job}} WHERE ready = 2 AND owner = '' AND queue = asked.name
                        ORDER BY queue, prio, run_at, seq LIMIT 1) IS NOT NULL),
       ended.state, ended.n, (SELECT body FROM {{queue}} WHERE name = ended.queue), ended.first,
       (SELECT count(*) FROM {{instance}} WHERE live = 1),
       (SELECT count(*) FROM {{instance}} WHERE live = 1 AND id < $4::text)
  FROM known
  LEFT JOIN (
        SELECT queue, state, sum(n)::bigint AS n,
               min(CASE WHEN $5::boolean THEN (
                    SELECT finished_at FROM {{done}} AS done
                     WHERE done.kind = {kind("its.queue", "its.task", "its.worker", "its.state")}
                     ORDER BY kind, finished_at, seq LIMIT 1) END) AS first
          FROM (
            SELECT queue, task, worker, (state % 100)::smallint AS state, sum(n) AS n
              FROM {{tally}} WHERE state % 10 > 5 GROUP BY 1, 2, 3, 4 HAVING sum(n) > 0
               ) AS its
         GROUP BY queue, state
       ) AS ended ON true
"""

#: Succeeded jobs of a queue ($1) that retention lets go: those that ended before $2, or that are more than $3, at most $4.
#: Nobody else may do the same meanwhile. Those that had a unique key are left to the rules: its window may be open.
#: What was not exported yet is spared unless it ended before $6; where there is no exporter, all is taken to be exported.
#: The first of each group are looked at, twice as many in all as may go. Behind the last of a group that has more of them
#: nothing is taken: what comes next there might be older.
PRUNE: Final = f"""
WITH exported AS MATERIALIZED (
    SELECT coalesce((SELECT value::bigint FROM {{meta}} WHERE name = 'export_xid'), 9223372036854775807) AS mine
),
its AS MATERIALIZED (
    SELECT {kind("queue", "task", "worker", "6::smallint")} AS kind, sum(n)::bigint AS n
      FROM {{tally}} WHERE queue = $1::text AND state IN (6, 106) GROUP BY queue, task, worker HAVING sum(n) > 0
),
room AS MATERIALIZED (
    SELECT greatest(0, least($4::bigint, sum(n)::bigint - $3::bigint)) AS most,
           greatest(100, 2 * $4::bigint / greatest(1, count(*))) AS each
      FROM its
),
met AS MATERIALIZED (
    SELECT found.*, count(*) OVER (PARTITION BY its.kind) AS many, max(finished_at) OVER (PARTITION BY its.kind) AS last
      FROM its CROSS JOIN LATERAL (
        SELECT ctid AS place, finished_at, seq FROM {{done}} AS done
         WHERE kind <= its.kind AND (kind, finished_at, seq) > (its.kind, 0, 0) AND finished_at <= $2::bigint
           AND coalesce(uniq, '') = ''
         ORDER BY kind, finished_at, seq
         LIMIT (SELECT least(most, each) FROM room)
      ) AS found
),
gone AS (
    DELETE FROM {{done}} AS done
     WHERE done.ctid = ANY (ARRAY(
        SELECT ctid FROM {{done}} AS old
         WHERE old.ctid = ANY (ARRAY(
            SELECT place FROM met
             WHERE finished_at <= coalesce((SELECT min(last) FROM met, room WHERE many = each), finished_at)
             ORDER BY finished_at, seq
             LIMIT (SELECT most FROM room)))
           AND queue = $1::text AND state = 6 AND uniq IS NULL
           FOR UPDATE SKIP LOCKED))
       AND (finished_at <= $6::bigint OR xid < (SELECT mine FROM exported))
    RETURNING seq, task, worker, duration, attempt, CASE WHEN deleted_at IS NULL THEN 6 ELSE 106 END AS code,
              xid >= (SELECT mine FROM exported) AS dropped
),
evidence AS (
    DELETE FROM {{attempt}} WHERE seq = ANY (ARRAY(SELECT seq FROM gone WHERE attempt > 1))
),
counted AS (
    INSERT INTO {{tally}} AS tally (queue, task, worker, state, shard, n, timed, took)
    SELECT $1::text, task, worker, code, $5::smallint, -count(*), -count(duration), -{TOOK}
      FROM gone GROUP BY task, worker, code ORDER BY task, worker, code
    {COUNTED}
)
SELECT count(*), count(*) FILTER (WHERE dropped) FROM gone
"""
