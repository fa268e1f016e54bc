-- Link a user to a pod, whatever there was.
--
-- KEYS[1]  the link of user and service
-- KEYS[2]  the user's hash of permanent links
-- ARGV[1]  service
-- ARGV[2]  pod
-- ARGV[3]  instance
-- ARGV[4]  milliseconds that the link lasts; -1: permanent
-- ARGV[5]  floor: the new epoch is above it
--
-- Returns {1, current pod, previous pod, epoch, instance, changed}.

return save(KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), read_link(KEYS[1]), true)
