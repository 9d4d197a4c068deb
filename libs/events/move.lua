-- Moves work items, never facts. KEYS[1] is meta, ARGV[1] the run of Redis this is for; both are taken away first.
-- Then ARGV[1] names the move:
-- 'due'     KEYS timers, work, order hashes…      ARGV order ids…        timers that are due become items
-- 'park'    KEYS work, parked                     ARGV service, item, consumer, reason, deliveries, fingerprint
-- 'redrive' KEYS parked, work, order hash         ARGV parked id, order  an item again, for the order's present state
-- 'discard' KEYS parked, discarded                ARGV parked id, by, reason, most kept          for the record only

local FENCED = -1
local meta, run = table.remove(KEYS, 1), table.remove(ARGV, 1)

-- An item for what the order waits for now; its hash is told in record.py.
local function add_item(work_key, order_key, order)
  local held = redis.call('HMGET', order_key, 'version', 'last')
  local version, last = held[1], held[2]
  if not last then
    return false
  end
  local packed = redis.call('HGET', order_key, last) or ''
  local traceparent = string.match(packed, '^%S* %S* %S* %S* %S* (%S*) ') or ''
  redis.call('XADD', work_key, '*', 'subject', order, 'version', version, 'id', order .. '/' .. version, 'type', last,
    'traceparent', traceparent)
  return true
end

local function append(list, more)
  for _, value in ipairs(more) do
    list[#list + 1] = value
  end
end

local move = {}

function move.due()
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local moved = 0
  for index = 2, #ARGV do
    local score = redis.call('ZSCORE', KEYS[1], ARGV[index])
    if score and tonumber(score) <= now then
      redis.call('ZREM', KEYS[1], ARGV[index])
      if add_item(KEYS[2], KEYS[index + 1], ARGV[index]) then
        moved = moved + 1
      end
    end
  end
  return moved
end

function move.park()
  local service, item, consumer = ARGV[2], ARGV[3], ARGV[4]
  if #redis.call('XPENDING', KEYS[1], service, item, item, 1, consumer) == 0 then
    return 0
  end
  local entry = redis.call('XRANGE', KEYS[1], item, item)[1]
  local fields = entry and entry[2] or {}
  -- Last, so that they are what a reader finds whatever the item itself calls its fields.
  append(fields, {'service', service, 'item', item, 'reason', ARGV[5], 'deliveries', ARGV[6], 'fingerprint', ARGV[7]})
  redis.call('XADD', KEYS[2], '*', unpack(fields))
  redis.call('XACK', KEYS[1], service, item)
  redis.call('XDEL', KEYS[1], item)
  return 1
end

function move.redrive()
  if #redis.call('XRANGE', KEYS[1], ARGV[2], ARGV[2]) == 0 or not add_item(KEYS[2], KEYS[3], ARGV[3]) then
    return 0
  end
  redis.call('XDEL', KEYS[1], ARGV[2])
  return 1
end

function move.discard()
  local entry = redis.call('XRANGE', KEYS[1], ARGV[2], ARGV[2])[1]
  if not entry then
    return 0
  end
  append(entry[2], {'parked', ARGV[2], 'discarded_by', ARGV[3], 'discarded_because', ARGV[4]})
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[5], '*', unpack(entry[2]))
  redis.call('XDEL', KEYS[1], ARGV[2])
  return 1
end

if redis.call('HGET', meta, 'run') ~= run then
  return FENCED
end
return move[ARGV[1]]()
