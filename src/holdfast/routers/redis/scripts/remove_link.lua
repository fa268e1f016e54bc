-- Remove a link, now or after a grace.
--
-- KEYS[1]  the link of user and service
-- KEYS[2]  the user's hash of permanent links
-- ARGV[1]  service
-- ARGV[2]  milliseconds of grace; -1: none
--
-- Returns {1 or 0 (was there a link), current pod, previous pod, epoch, instance, changed}.

local old = read_link(KEYS[1])
if not old then
  return answer(0)
end
return remove(KEYS[1], KEYS[2], ARGV[1], old, tonumber(ARGV[2]))
