-- Publish a pod's state for some time.
--
-- KEYS[1]  the service's hash of states
-- ARGV[1]  pod
-- ARGV[2]  milliseconds that the state lives
-- ARGV[3]  "instance|routable|available|load|record"
--
-- Returns 1.

write_state(KEYS[1], ARGV[1], now_ms(), tonumber(ARGV[2]), ARGV[3])
return 1
