-- One question about the tokens of one or more keys; ringway's control thread asks, once, and never repeats itself.
-- Model and proof: src/limit/model.rs and src/limit/sim. All numbers are whole and under 2^53, so that they are exact
-- in Lua's doubles.
--
-- KEYS      hashes: d µs and f/n µs until the bucket is full, l when that was, and per process its last stamp
-- ARGV[1]   this process' name       ARGV[2] the question's stamp       ARGV[3] µs after which returns are too old
-- ARGV[4..] ten per key: n p cap deepest most processes need want debt returned (see limit/sync.rs, Ask)
-- Returns   Redis' time in µs, then per key: granted, left (may be below zero), µs until `need` tokens are there
local CLOCK = redis.call('TIME')
local now = tonumber(CLOCK[1]) * 1000000 + tonumber(CLOCK[2])
local who, stamp, old = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local MOST = 2 ^ 52
local SEEN_MAX = 64
local SEEN_US = 60000000
local answer = { string.format('%.0f', now) }

for i, key in ipairs(KEYS) do
  local a = {}
  for j = 1, 10 do
    a[j] = tonumber(ARGV[3 + (i - 1) * 10 + j])
  end
  local n, p, cap, deepest, most, processes, need, want, debt, returned = unpack(a)
  local state = redis.call('HMGET', key, 'd', 'f', 'l', who)
  local d, f = tonumber(state[1] or 0), tonumber(state[2] or 0)
  local l, seen = tonumber(state[3] or now), tonumber(state[4] or -1)

  -- Refill. A clock that was set back gives nothing, and takes nothing.
  local missing = math.min(math.min(d, math.floor(MOST / n)) * n + math.min(f, n - 1), deepest)
  local passed = math.min(math.max(now - l, 0), math.floor(missing / n) + 1)
  missing = math.max(missing - passed * n, 0)

  -- A question that comes a second time, or after a later one, changes nothing. Debt may be charged late; what comes
  -- back late may not be used any more, since the promise counts it for the life of a lease.
  local granted = 0
  if stamp > seen then
    missing = math.min(missing + debt * p, deepest)
    if now - stamp <= old then
      missing = math.max(missing - returned * p, 0)
    end
    local there = math.floor(math.max(cap - missing, 0) / p)
    if want > 0 and there >= need then
      local share = math.max(need, math.floor(there / processes))
      granted = math.min(math.max(want, need), most, share, there)
      missing = missing + granted * p
    end
  end

  d = math.floor(missing / n)
  redis.call('HSET', key, 'd', string.format('%.0f', d), 'f', string.format('%.0f', missing - d * n),
    'l', string.format('%.0f', now), who, string.format('%.0f', math.max(stamp, seen)))
  -- A full bucket is no key at all. Stamps are kept for as long as they are needed to know a repeated question.
  redis.call('PEXPIRE', key, string.format('%.0f', math.ceil((d + 1 + old) / 1000)))

  -- Each restart of a process leaves a stamp in a key that never expires.
  if redis.call('HLEN', key) > SEEN_MAX + 2 * processes then
    local all = redis.call('HGETALL', key)
    for j = 1, #all, 2 do
      if #all[j] > 1 and tonumber(all[j + 1]) < now - SEEN_US then
        redis.call('HDEL', key, all[j])
      end
    end
  end

  local wait = math.ceil(math.max(need * p - (cap - missing), 0) / n)
  answer[#answer + 1] = string.format('%.0f', granted)
  answer[#answer + 1] = string.format('%.0f', math.floor((cap - missing) / p))
  answer[#answer + 1] = string.format('%.0f', wait)
end
return answer
