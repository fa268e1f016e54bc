-- Remove a link, now or after a grace, only if it is of this owner.
--
-- KEYS[1]  the link of user and service
-- KEYS[2]  the user's hash of permanent links
-- ARGV[1]  service
-- ARGV[2]  milliseconds of grace; -1: none
-- ARGV[3]  pod
-- ARGV[4]  instance; empty: any instance of the pod
--
-- Returns {1 or 0 (was it removed), current pod, previous pod, epoch, instance, changed}.

local old = read_link(KEYS[1])
if not old then
  return answer(0)
end
if old.pod ~= ARGV[3] or (ARGV[4] ~= '' and old.instance ~= ARGV[4]) then
  return refuse(old)
end
return remove(KEYS[1], KEYS[2], ARGV[1], old, tonumber(ARGV[2]))
