-- Forget a pod's state.
--
-- KEYS[1]  the service's hash of states
-- ARGV[1]  pod
-- ARGV[2]  instance; empty: any
--
-- Returns 1 if there was a state that is not over, else 0.

for _, state in ipairs(live_states(KEYS[1], now_ms())) do
  if state.pod == ARGV[1] and (ARGV[2] == '' or state.instance == ARGV[2]) then
    return redis.call('HDEL', KEYS[1], ARGV[1])
  end
end
return 0
