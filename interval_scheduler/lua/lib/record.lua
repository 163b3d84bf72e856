-- record: reads and writes record headers; record.py is the same format in Python.

-- state, due, revision, token, slot, attempt, strikes, flags, follow (all strings, '' where left out), start of body
local function parse(record)
  return string.match(record, '^(%a)(%d+),([^,\n]*),?([^,\n]*),?([^,\n]*),?([^,\n]*),?([^,\n]*),?([^,\n]*),?([^,\n]*)\n()')
end

local function compose(state, due, revision, token, slot, attempt, strikes, flags, follow)
  local head = state .. due .. ',' .. revision
  if slot == due then slot = '' end
  if slot == '' and attempt == '' and strikes == '' and flags == '' and follow == '' then
    if token == '' then return head .. '\n' end
    return head .. ',' .. token .. '\n'
  end
  local tail = token .. ',' .. slot .. ',' .. attempt .. ',' .. strikes .. ',' .. flags .. ',' .. follow
  return head .. ',' .. string.match(tail, '^(.-),*$') .. '\n'
end

-- Numbers above 2^53 or in exponent form would corrupt times and tokens: '..' must never see a float.
local function text(number)
  return string.format('%.0f', number)
end
