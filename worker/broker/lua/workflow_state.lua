-- Read the state of a workflow. Not a plain HGET, which a replica answers as well: a server that was demoted refuses a
-- script that may write, and so is noticed.
-- ARGV  1 id
-- returns  its state, or false if there is none
return redis.call('HGET', WORKFLOW .. ARGV[1], 'state')
