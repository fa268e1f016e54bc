-- Link a user to a pod if there is no link, or the pod has it, or the rules let it take the link over: a permanent link
-- beats a temporary one; and whoever names the epoch of the link that stands replaces it, whatever it is.
--
-- KEYS[1]  the link of user and service
-- KEYS[2]  the user's hash of permanent links
-- ARGV[1]  service
-- ARGV[2]  pod
-- ARGV[3]  instance
-- ARGV[4]  milliseconds that the link lasts; -1: permanent
-- ARGV[5]  floor: the new epoch is above it
-- ARGV[6]  the epoch of the link to replace; empty: none is named
--
-- Returns {1, current pod, previous pod, epoch, instance, changed}, or {0, pod, pod, epoch, instance, changed} of the link that stands.

local old = read_link(KEYS[1])
local ttl = tonumber(ARGV[4])
if old and not is_of(old, ARGV[2], ARGV[3]) then
  local may
  if ARGV[6] ~= '' then
    may = old.epoch == tonumber(ARGV[6])
  else
    may = ttl == -1 and redis.call('PTTL', KEYS[1]) ~= -1
  end
  if not may then
    return refuse(old)
  end
end
return save(KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3], ttl, tonumber(ARGV[5]), old, false)
