-- Read the states of a service's pods that are not over.
--
-- KEYS[1]  the service's hash of states
--
-- Returns {pod, value, pod, value, ...}.

local answer = {}
for _, state in ipairs(live_states(KEYS[1], now_ms())) do
  answer[#answer + 1] = state.pod
  answer[#answer + 1] = state.value
end
return answer
