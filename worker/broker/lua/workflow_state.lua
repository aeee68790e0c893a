-- Read the state of a workflow. Not a plain HGET: a server that was demoted refuses a script, and so is found out.
-- ARGV  1 id
-- returns  its state, or false if there is none
return redis.call('HGET', WORKFLOW .. ARGV[1], 'state')
