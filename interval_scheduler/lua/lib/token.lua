-- token: the largest fencing token so far. Expects partition.

-- A damaged one (of a wrong type, or no number that can be counted on) begins anew, with the time of the server.
local function stored_token()
  local stored = redis.pcall('GET', prefix .. 'sequence')
  local token = type(stored) == 'string' and tonumber(stored) or 0
  return token >= 0 and token < 9007199254740991 and token or 0
end
