-- Put before the scripts that remove a link: with a grace the link stays as a temporary one, never longer than it would have.

local function remove(link_key, user_key, service, old, ttl)
  redis.call('HDEL', user_key, service)
  if ttl == -1 then
    redis.call('DEL', link_key)
    return answer(1, nil, old.pod, old.epoch, old.instance, true)
  end
  local left = redis.call('PTTL', link_key)
  if left == -1 or left > ttl then
    redis.call('PEXPIRE', link_key, ttl)
  end
  return answer(1, old.pod, old.pod, old.epoch, old.instance)
end
