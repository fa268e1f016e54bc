-- Read a link.
--
-- KEYS[1]  the link of user and service
--
-- Returns {value, milliseconds left; -1: permanent}, or nothing.

local value = redis.call('GET', KEYS[1])
if not value then
  return nil
end
return { value, redis.call('PTTL', KEYS[1]) }
