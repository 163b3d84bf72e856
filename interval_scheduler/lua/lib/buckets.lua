-- buckets: gathers scheduled tasks, to write those of a bucket by one call. Expects partition.
local buckets, names, index = {}, {}, {}

local function gather(moment, due, id)
  local name = bucket_of(moment)
  local entries = buckets[name]
  if not entries then
    entries = {}
    buckets[name] = entries
    names[#names + 1] = name
    index[#index + 1] = name
    index[#index + 1] = name
  end
  entries[#entries + 1] = due
  entries[#entries + 1] = id
end

local function write_buckets()
  for i = 1, #names do redis.call('ZADD', prefix .. 'bucket:' .. names[i], unpack(buckets[names[i]])) end
  if #names > 0 then redis.call('ZADD', prefix .. 'index', unpack(index)) end
end
