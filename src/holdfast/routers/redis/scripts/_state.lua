-- Put before every script that touches the states of a service's pods.
--
-- A state's value is "until|since|instance|routable|available|load|record": times in milliseconds by the server's clock,
-- the parts that scripts decide by, and the record as JSON.

local function now_ms()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local function read_state(key, pod, value)
  local ends, since, instance, routable, available, load =
    string.match(value, '^(%d+)|(%d+)|([^|]*)|([01])|([01])|([%d.e+-]+)|')
  if not ends then
    error('HOLDFASTDATA ' .. key)
  end
  return {
    pod = pod, ends = tonumber(ends), since = tonumber(since), instance = instance,
    routable = routable == '1', available = available == '1', load = tonumber(load), value = value,
  }
end

-- All states that are not over; those that are, are deleted. Fields that are no numbers are not ours and left alone.
local function live_states(key, now)
  local found = {}
  local all = redis.call('HGETALL', key)
  for at = 1, #all, 2 do
    local state = string.match(all[at], '^%d+$') and read_state(key, all[at], all[at + 1])
    if state and state.ends > now then
      found[#found + 1] = state
    elseif state then
      redis.call('HDEL', key, state.pod)
    end
  end
  return found
end

-- The hash outlives its newest state by a day, and so does not stay for ever when a service is gone.
local function write_state(key, pod, now, lease, rest)
  redis.call('HSET', key, pod, string.format('%.0f|%.0f|', now + lease, now) .. rest)
  local keep = lease + 86400000
  if redis.call('PTTL', key) < keep then
    redis.call('PEXPIRE', key, keep)
  end
end
