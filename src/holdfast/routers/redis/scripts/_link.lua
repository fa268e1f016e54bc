-- Put before every script that touches a link: what a link looks like, and how one is written.
--
-- A link's value is "pod|epoch|instance". Its key without an expiry is a permanent link; then the user's hash holds the
-- same value under the service. An epoch is the server's time in microseconds, or one more than was ever seen: so a
-- FLUSHALL can not bring one back.

local function read_link(key)
  local value = redis.call('GET', key)
  if not value then
    return nil
  end
  local pod, epoch, instance = string.match(value, '^(%d+)|(%d+)|([^|]*)$')
  if not pod then
    error('HOLDFASTDATA ' .. key)
  end
  return { pod = pod, epoch = tonumber(epoch), instance = instance, value = value }
end

local function is_of(link, pod, instance)
  return link.pod == pod and link.instance == instance
end

local function next_epoch(least)
  local time = redis.call('TIME')
  return math.max(tonumber(time[1]) * 1000000 + tonumber(time[2]), least + 1)
end

-- The one shape of all answers: {ok, current pod, previous pod, epoch, instance, changed}; no pod is an empty text;
-- changed is 1 when this call gave the link another owner, or ended it.
local function answer(ok, current, previous, epoch, instance, changed)
  return { ok, current or '', previous or '', string.format('%.0f', epoch or 0), instance or '', changed and 1 or 0 }
end

local function refuse(link)
  return answer(0, link.pod, link.pod, link.epoch, link.instance)
end

-- The hash goes first: where it is no hash the call ends before anything has changed.
local function write(link_key, user_key, service, value, ttl)
  if ttl == -1 then
    redis.call('HSET', user_key, service, value)
    redis.call('SET', link_key, value)
  else
    redis.call('HDEL', user_key, service)
    redis.call('SET', link_key, value, 'PX', ttl)
  end
end

-- Link to (pod, instance). The owner itself keeps its epoch, and its link is not shortened unless `shorten`.
local function save(link_key, user_key, service, pod, instance, ttl, floor, old, shorten)
  local epoch
  if old and is_of(old, pod, instance) and old.epoch > floor then
    epoch = old.epoch
    if not shorten then
      local left = redis.call('PTTL', link_key)
      if left == -1 then
        ttl = -1
      elseif ttl ~= -1 then
        ttl = math.max(ttl, left)
      end
    end
  else
    epoch = next_epoch(math.max(floor, old and old.epoch or 0))
  end
  local value = pod .. '|' .. string.format('%.0f', epoch) .. '|' .. instance
  write(link_key, user_key, service, value, ttl)
  return answer(1, pod, old and old.pod, epoch, instance, not (old and is_of(old, pod, instance)))
end
