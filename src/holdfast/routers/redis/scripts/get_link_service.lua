-- Read the permanent links of a user.
--
-- KEYS[1]  the user's hash of permanent links
--
-- Returns {service, value, service, value, ...}.

return redis.call('HGETALL', KEYS[1])
