-- Drop users from a pod's index that had no link to it when they were looked at, unless they were added since.
--
-- KEYS[1]    one shard of the pod's index
-- ARGV[1]    milliseconds: only those that were added before
-- ARGV[2..]  users
--
-- Returns how many were dropped.

local dropped = 0
for at = 2, #ARGV do
  local added = redis.call('ZSCORE', KEYS[1], ARGV[at])
  if added and tonumber(added) < tonumber(ARGV[1]) then
    dropped = dropped + redis.call('ZREM', KEYS[1], ARGV[at])
  end
end
return dropped
