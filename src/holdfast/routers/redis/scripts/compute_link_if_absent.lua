-- Give a field of a service to its freest available pod; a field that has a live pod keeps it.
--
-- KEYS[1]  the service's hash of assignments
-- KEYS[2]  the service's hash of states
-- ARGV[1]  field
-- ARGV[2]  milliseconds: older states do not count
--
-- Returns {1, pod, previous pod, epoch, instance, changed}, or {0, "", previous pod, epoch, "", 0} when no pod qualifies.

local now = now_ms()
local states = live_states(KEYS[2], now)
local old
local value = redis.call('HGET', KEYS[1], ARGV[1])
if value then
  local pod, epoch, instance = string.match(value, '^(%d+)|(%d+)|([^|]*)$')
  if not pod then
    error('HOLDFASTDATA ' .. KEYS[1])
  end
  old = { pod = pod, epoch = tonumber(epoch), instance = instance }
end
local best
for _, state in ipairs(states) do
  if old and state.routable and state.pod == old.pod and state.instance == old.instance then
    return answer(1, old.pod, old.pod, old.epoch, old.instance)
  end
  if state.available and state.since >= now - tonumber(ARGV[2]) then
    if not best or state.load < best.load or (state.load == best.load and tonumber(state.pod) < tonumber(best.pod)) then
      best = state
    end
  end
end
if not best then
  return answer(0, nil, old and old.pod, old and old.epoch, nil)
end
local epoch = next_epoch(old and old.epoch or 0)
redis.call('HSET', KEYS[1], ARGV[1], best.pod .. '|' .. string.format('%.0f', epoch) .. '|' .. best.instance)
return answer(1, best.pod, old and old.pod, epoch, best.instance, true)
