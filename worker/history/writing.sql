-- Ended jobs, as the scripts record them, into rows: $1 is a JSON list of {"r": result, "h": earlier tries}, with the keys of
-- docs/wire.md. What is there already stays as it is.
WITH records AS (
  SELECT e -> 'r' AS r, e -> 'h' AS h, (e -> 'r' ->> 's')::boolean AS success,
         to_timestamp((e -> 'r' ->> 'et')::float8 / 1000) AS enqueued_at
  FROM jsonb_array_elements($1::jsonb) AS e
), jobs AS (
  SELECT r ->> 'id' AS id, enqueued_at, r ->> 'f' AS job,
         CASE WHEN kept_in IN ('arq:queue', '') THEN 'default'
              WHEN kept_in ~ '^arq:queue:[A-Za-z0-9_.-]{1,100}$'
                   AND substr(kept_in, 11) NOT IN ('default', '.', '..', 'health-check') THEN substr(kept_in, 11)
              ELSE 'key=' || kept_in END AS queue, -- as `parse_queue_key` does it
         COALESCE(substring(r ->> 'q' FROM '!(high|low)$'), 'normal') AS priority,
         COALESCE(r ->> 'state', CASE WHEN success THEN 'succeeded' ELSE 'failed' END) AS state,
         (r ->> 't')::int AS tries, (r -> 'o' ->> 'mt')::int AS max_tries,
         COALESCE((SELECT jsonb_object_agg((place - 1)::text, value)
                   FROM jsonb_array_elements(r -> 'a') WITH ORDINALITY AS given(value, place)), '{}') || (r -> 'k') AS args,
         CASE WHEN success THEN NULLIF(r -> 'r', 'null') END AS result,
         NULLIF(CASE WHEN success THEN r -> 'notice' ELSE r -> 'r' END, 'null') AS error,
         ARRAY(SELECT jsonb_array_elements_text(r -> 'o' -> 'tg')) AS tags,
         r ->> 'w' AS worker, r -> 'o' ->> 'wf' AS workflow_id, NULLIF(r -> 'p', 'null') AS progress,
         to_timestamp(NULLIF((r ->> 'st')::float8, 0) / 1000) AS started_at,
         to_timestamp((r ->> 'ft')::float8 / 1000) AS finished_at, success, r, h
  FROM records, LATERAL (SELECT regexp_replace(COALESCE(r ->> 'q', 'arq:queue'), '!(high|low)$', '') AS kept_in) AS queues
), tries AS (
  SELECT id AS job_id, enqueued_at, (each ->> 'n')::int AS number, each ->> 'o' AS outcome, each ->> 'w' AS worker,
         to_timestamp((each ->> 'st')::float8 / 1000) AS started_at,
         to_timestamp((each ->> 'ft')::float8 / 1000) AS finished_at, NULLIF(each -> 'e', 'null') AS error
  FROM jobs, jsonb_array_elements(h) AS each
  UNION ALL
  SELECT id, enqueued_at, tries, state, worker, started_at, finished_at, CASE WHEN NOT success THEN error END
  FROM jobs WHERE started_at IS NOT NULL
), tried AS (
  INSERT INTO embarq_tries (job_id, enqueued_at, number, outcome, worker, started_at, finished_at, error)
  SELECT * FROM tries
  ON CONFLICT DO NOTHING
)
INSERT INTO embarq_jobs (id, enqueued_at, job, queue, priority, state, tries, max_tries, args, result, error, tags, worker,
                         workflow_id, progress, started_at, finished_at, words)
SELECT id, enqueued_at, job, queue, priority, state, tries, max_tries, args, result, error,
       tags, worker, workflow_id, progress, started_at, finished_at,
       left(concat_ws(' ', id, job, args::text, error ->> 'message'), 2000)
FROM jobs
ON CONFLICT DO NOTHING
