-- Give an instance the lowest pod number that no live pod has; the number that it has already, if it has one.
--
-- KEYS[1]  the service's hash of states
-- ARGV[1]  instance
-- ARGV[2]  milliseconds that the number is kept for it
-- ARGV[3]  "instance|routable|available|load|" of its state until it publishes one
-- ARGV[4]  the record of that state, with %d for the pod
--
-- Returns the number.

local now = now_ms()
local taken = {}
for _, state in ipairs(live_states(KEYS[1], now)) do
  if state.instance == ARGV[1] then
    return tonumber(state.pod)
  end
  taken[tonumber(state.pod)] = true
end
local pod = 0
while taken[pod] do
  pod = pod + 1
end
write_state(KEYS[1], tostring(pod), now, tonumber(ARGV[2]), ARGV[3] .. string.gsub(ARGV[4], '%%d', tostring(pod), 1))
return pod
