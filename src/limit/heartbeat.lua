-- This process lives, and how many do.
-- KEYS[1] a sorted set of processes by when they were last heard of, ARGV[1] this process' name, ARGV[2] µs after which
-- one does not count any more. Returns Redis' time in µs and the count.
local CLOCK = redis.call('TIME')
local now = tonumber(CLOCK[1]) * 1000000 + tonumber(CLOCK[2])
local alive = tonumber(ARGV[2])
redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', now - alive))
-- One from the future was heard of before Redis' clock was set back, and would count for as long again.
redis.call('ZREMRANGEBYSCORE', KEYS[1], string.format('(%.0f', now + alive), '+inf')
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.ceil(alive / 1000)))
return { string.format('%.0f', now), string.format('%.0f', redis.call('ZCARD', KEYS[1])) }
