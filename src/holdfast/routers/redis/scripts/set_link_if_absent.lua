-- Link a user to a pod if there is no link. The owner's own link is refreshed, made permanent when asked, never shortened.
--
-- KEYS[1]  the link of user and service
-- KEYS[2]  the user's hash of permanent links
-- ARGV[1]  service
-- ARGV[2]  pod
-- ARGV[3]  instance
-- ARGV[4]  milliseconds that the link lasts; -1: permanent
-- ARGV[5]  floor: the new epoch is above it
--
-- Returns {1, current pod, previous pod, epoch, instance, changed}, or {0, pod, pod, epoch, instance, changed} of the link that stands.

local old = read_link(KEYS[1])
if old and not is_of(old, ARGV[2], ARGV[3]) then
  return refuse(old)
end
return save(KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), old, false)
