-- Read a link, only if it is permanent.
--
-- KEYS[1]  the link of user and service
--
-- Returns {value, -1}, or nothing.

local value = redis.call('GET', KEYS[1])
if not value or redis.call('PTTL', KEYS[1]) ~= -1 then
  return nil
end
return { value, -1 }
