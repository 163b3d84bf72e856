-- record: reads and writes record headers; record.py is the same format in Python.

local function without_commas(fields)
  local last = #fields
  while last > 0 and string.byte(fields, last) == 44 do last = last - 1 end -- ','
  return string.sub(fields, 1, last)
end

-- state, due, revision, token, slot, attempt, strikes, flags, follow (all strings, '' where left out), start of body,
-- fields of a newer version; nothing for a header that cannot be read. No more than the start of a record is looked at,
-- and no field can hold the comma that ends it, so that nothing is tried twice: the time does not grow with the record.
local function parse(record)
  local head = string.match(string.sub(record, 1, 512), '^[^\n]*')
  if string.byte(record, #head + 1) ~= 10 then return end -- '\n'
  local state, due, revision, token, slot, attempt, strikes, flags, follow, rest =
    string.match(head .. ',,,,,,,', '^([rsw])(%d+),([!-+--~]+),(%d*),(%d*),(%d*),(%d*),(%l*),([=~>]?%d*),(.*)$')
  if not state or #due > 15 or #revision > 64 or #token > 16 or #slot > 15 or #attempt > 9 or #strikes > 9 or #flags > 16 or #follow > 16 then
    return
  end
  rest = without_commas(rest)
  if #rest > 300 or string.find(rest, '[^ -~]') then return end
  local extra, plain = string.find(flags, 'x', 1, true) ~= nil, string.find(follow, '^%d') ~= nil
  if extra ~= plain or (follow ~= '' and not string.find(follow, '%d$')) then return end
  return state, due, revision, token, slot, attempt, strikes, flags, follow, #head + 2, rest
end

-- What follows the header, also one that cannot be read; nothing where there is no end of it.
local function body_of(record)
  local last = string.find(string.sub(record, 1, 512), '\n', 1, true)
  return last and string.sub(record, last + 1)
end

local function compose(state, due, revision, token, slot, attempt, strikes, flags, follow, rest)
  local head = state .. due .. ',' .. revision
  if slot == due then slot = '' end
  rest = rest or ''
  if slot == '' and attempt == '' and strikes == '' and flags == '' and follow == '' and rest == '' then
    if token == '' then return head .. '\n' end
    return head .. ',' .. token .. '\n'
  end
  local tail = token .. ',' .. slot .. ',' .. attempt .. ',' .. strikes .. ',' .. flags .. ',' .. follow .. ',' .. rest
  return head .. ',' .. without_commas(tail) .. '\n'
end

-- Numbers above 2^53 or in exponent form would corrupt times and tokens: '..' must never see a float.
local function text(number)
  return string.format('%.0f', number)
end
