-- The only writer of the log. Up to 100 steps of one partition; for each, every check comes before its first write,
-- because Redis does not roll a script back, and every expected refusal is a value.
--
-- KEYS  log, meta, timers, then per step: order hash, [recent orders, idempotency key or order hash again: if created],
--       [open orders of the user: if created or terminal], [work stream of the item], [work stream of the next actor]
-- ARGV  run, epoch, number of steps, then per step the HEADER below and the 11 values of each event
-- reply ms, then per step: the position of its first event, or {'conflict', hash} {'not_yours'}
--       {'duplicate', order, print} {'too_many', open} {'refused', error};
--       or, for all, {'epoch', found} or {'fenced'}: another run of Redis than this log was checked in
-- An order's hash is told in record.py.

local HEADER_WIDTH, EVENT_WIDTH = 13, 11
local DAY_MS, HOUR_MS = 86400000, 3600000
local RECENT_MAX, RECENT_SLACK = 1000, 100
-- An item before which fewer wait is taken at once: it brings its order along, and nobody has to ask for that.
local SOON = 8
local call = redis.call

local head = call('HMGET', KEYS[2], 'epoch', 'position', 'ms', 'run')
if head[1] ~= ARGV[2] then
  return {'epoch', head[1] or ''}
end
if head[4] ~= ARGV[1] then
  return {'fenced'}
end
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local position = tonumber(head[2])
local ms = math.max(now, tonumber(head[3]))
local ms_text = string.format('%.0f', ms)
local first_position = position

local key, arg = 4, 4
local replies = {ms_text}
local done, waiting, recents = {}, {}, {}

local function check(order_key, expected, idem_key, open_key, open_max, work_key, service, item, consumer)
  local held = redis.pcall('HMGET', order_key, 'version', 'trail')
  if held.err then
    return {'refused', held.err}
  end
  if (tonumber(held[1] or 0)) ~= expected then
    return {'conflict', call('HGETALL', order_key)}
  end
  if item ~= '' then
    local mine = redis.pcall('XPENDING', work_key, service, item, item, 1, consumer)
    if mine.err then
      return {'refused', mine.err}
    end
    if #mine == 0 then
      return {'not_yours'}
    end
  end
  if idem_key then
    local taken = call('HMGET', idem_key, 'order', 'fingerprint')
    if taken[1] then
      return {'duplicate', taken[1], taken[2]}
    end
  end
  if open_max >= 0 then
    local open = call('SCARD', open_key)
    if open >= open_max then
      return {'too_many', open}
    end
  end
  return nil, held[2] or ''
end

-- Writes one event at the next position; gives the entry's id, and the event as the hash keeps it.
local function append(at)
  position = position + 1
  local id = ms_text .. '-' .. string.format('%.0f', position)
  local A = ARGV
  call('XADD', KEYS[1], id, 'id', A[at], 'type', A[at + 1], 'v', A[at + 2], 'source', A[at + 3], 'subject', A[at + 4],
    'user', A[at + 5], 'version', A[at + 6], 'time', A[at + 7], 'cause', A[at + 8], 'traceparent', A[at + 9],
    'data', A[at + 10])
  return id, A[at + 2] .. ' ' .. A[at + 6] .. ' ' .. A[at + 3] .. ' ' .. A[at + 7] .. ' ' .. A[at + 8] .. ' '
    .. A[at + 9] .. ' ' .. A[at + 10]
end

local function keep_short(recent_key)
  if call('ZCARD', recent_key) > RECENT_MAX + RECENT_SLACK then
    call('ZREMRANGEBYRANK', recent_key, 0, -RECENT_MAX - 1)
  end
  if call('PTTL', recent_key) < DAY_MS - HOUR_MS then
    call('PEXPIRE', recent_key, DAY_MS)
  end
end

local function add_item(work_key, order_key, last)
  local item = {'subject', ARGV[last + 4], 'id', ARGV[last], 'type', ARGV[last + 1], 'traceparent', ARGV[last + 9]}
  local length = waiting[work_key] or call('XLEN', work_key)
  waiting[work_key] = length + 1
  if length < SOON then
    for _, text in ipairs(call('HGETALL', order_key)) do
      item[#item + 1] = text
    end
    call('XADD', work_key, '*', unpack(item))
  else
    call('XADD', work_key, '*', 'version', ARGV[last + 6], unpack(item))
  end
end

for step = 1, tonumber(ARGV[3]) do
  -- HEADER
  local expected, events = tonumber(ARGV[arg]), tonumber(ARGV[arg + 1])
  local order, user, status = ARGV[arg + 2], ARGV[arg + 3], ARGV[arg + 4]
  local service, item, consumer = ARGV[arg + 5], ARGV[arg + 6], ARGV[arg + 7]
  local next_service, delay, terminal = ARGV[arg + 8], tonumber(ARGV[arg + 9]), ARGV[arg + 10] == '1'
  local fingerprint, open_max = ARGV[arg + 11], tonumber(ARGV[arg + 12])
  arg = arg + HEADER_WIDTH

  local order_key, recent_key, idem_key, open_key, work_key, next_key = KEYS[key], nil, nil, nil, nil, nil
  local created = expected == 0 and events > 0
  key = key + 1
  if created then
    recent_key = KEYS[key]
    if fingerprint ~= '' then
      idem_key = KEYS[key + 1]
    end
    key = key + 2
  end
  if created or terminal then
    open_key = KEYS[key]
    key = key + 1
  end
  if item ~= '' then
    work_key = KEYS[key]
    key = key + 1
  end
  if next_service ~= '' then
    next_key = KEYS[key]
    key = key + 1
  end

  local refusal, trail = check(order_key, expected, idem_key, open_key, open_max, work_key, service, item, consumer)
  if refusal then
    replies[step + 1] = refusal
  else
    replies[step + 1] = position + 1
    local last = arg + (events - 1) * EVENT_WIDTH
    local stays = item ~= '' and next_service == service and delay < 0
    if item ~= '' and not stays then
      local mine = done[work_key] or {service = service}
      mine[#mine + 1] = item
      done[work_key] = mine
    end
    if events > 0 then
      local hash = {'user', user, 'version', ARGV[last + 6], 'status', status, 'last', ARGV[last + 1]}
      for at = arg, last, EVENT_WIDTH do
        local id, packed = append(at)
        trail = trail == '' and id or trail .. ' ' .. id
        hash[#hash + 1] = ARGV[at + 1]
        hash[#hash + 1] = packed
      end
      call('HSET', order_key, 'trail', trail, unpack(hash))
      if recent_key then
        call('ZADD', recent_key, 0, order)
        recents[recent_key] = true
        call('SADD', open_key, order)
      end
      if idem_key then
        call('HSET', idem_key, 'order', order, 'fingerprint', fingerprint)
        call('PEXPIRE', idem_key, DAY_MS)
      end
      if terminal then
        call('PEXPIRE', order_key, DAY_MS)
        call('SREM', open_key, order)
        call('ZREM', KEYS[3], order)
      elseif delay >= 0 then
        call('ZADD', KEYS[3], now + delay, order)
      elseif next_key and not stays then
        add_item(next_key, order_key, last)
      end
    end
  end
  arg = arg + events * EVENT_WIDTH
end

for work_key, items in pairs(done) do
  call('XACK', work_key, items.service, unpack(items))
  call('XDEL', work_key, unpack(items))
end
for recent_key in pairs(recents) do
  keep_short(recent_key)
end
if position > first_position then
  call('HSET', KEYS[2], 'position', string.format('%.0f', position), 'ms', ms_text)
end
return replies
