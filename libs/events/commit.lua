-- The only writer of the log. Up to 100 steps of one partition; for each, every check comes before its first write,
-- because Redis does not roll a script back, and every expected refusal is a value.
--
-- KEYS  log, meta, timers, then per step: order hash, [recent orders, idempotency key or order hash again: if created],
--       [work stream of the item], [work stream of the next actor]
-- ARGV  run, epoch, number of steps, then per step the HEADER below and 22 values for each event
-- reply one array per step: {'ok', ms, first position} {'conflict', hash} {'not_yours'} {'duplicate', order, print}
--       {'refused', error}; or, for all, {'epoch', found} or {'fenced'}: another run of Redis than this log was checked in

local EVENT_WIDTH = 22
local DAY_MS = 86400000
local RECENT_MAX = 1000

local head = redis.call('HMGET', KEYS[2], 'epoch', 'position', 'ms', 'run')
if head[1] ~= ARGV[2] then
  return {'epoch', head[1] or ''}
end
if head[4] ~= ARGV[1] then
  return {'fenced'}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local position = tonumber(head[2])
local ms = math.max(now, tonumber(head[3]))
local ms_text = string.format('%.0f', ms)
local first_position = position

local key, arg = 4, 4
local replies = {}

local function check(order_key, expected, idem_key, work_key, service, item, consumer)
  local held = redis.pcall('HMGET', order_key, 'version', 'trail')
  if held.err then
    return {'refused', held.err}
  end
  if (tonumber(held[1] or 0)) ~= expected then
    return {'conflict', redis.call('HGETALL', order_key)}
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
    local taken = redis.call('HMGET', idem_key, 'order', 'fingerprint')
    if taken[1] then
      return {'duplicate', taken[1], taken[2]}
    end
  end
  return nil, held[2] or ''
end

for step = 1, tonumber(ARGV[3]) do
  -- HEADER
  local expected, events = tonumber(ARGV[arg]), tonumber(ARGV[arg + 1])
  local order, status, state = ARGV[arg + 2], ARGV[arg + 3], ARGV[arg + 4]
  local service, item, consumer = ARGV[arg + 5], ARGV[arg + 6], ARGV[arg + 7]
  local next_service, delay, terminal = ARGV[arg + 8], tonumber(ARGV[arg + 9]), ARGV[arg + 10] == '1'
  local fingerprint = ARGV[arg + 11]
  arg = arg + 12

  local order_key, recent_key, idem_key, work_key, next_key = KEYS[key], nil, nil, nil, nil
  key = key + 1
  if expected == 0 and events > 0 then
    recent_key = KEYS[key]
    if fingerprint ~= '' then
      idem_key = KEYS[key + 1]
    end
    key = key + 2
  end
  if item ~= '' then
    work_key = KEYS[key]
    key = key + 1
  end
  if next_service ~= '' then
    next_key = KEYS[key]
    key = key + 1
  end

  local refusal, trail = check(order_key, expected, idem_key, work_key, service, item, consumer)
  if refusal then
    replies[step] = refusal
  else
    replies[step] = {'ok', ms_text, string.format('%.0f', position + 1)}
    for event = 1, events do
      position = position + 1
      local id = ms_text .. '-' .. string.format('%.0f', position)
      local from = arg + (event - 1) * EVENT_WIDTH
      redis.call('XADD', KEYS[1], id, unpack(ARGV, from, from + EVENT_WIDTH - 1))
      trail = trail == '' and id or trail .. ' ' .. id
    end
    local last = arg + (events - 1) * EVENT_WIDTH
    local stays = item ~= '' and next_service == service and delay < 0
    if item ~= '' and not stays then
      redis.call('XACK', work_key, service, item)
      redis.call('XDEL', work_key, item)
    end
    if events > 0 then
      redis.call('HSET', order_key, 'status', status, 'state', state, 'trail', trail,
        unpack(ARGV, last, last + EVENT_WIDTH - 1))
      if recent_key then
        redis.call('ZADD', recent_key, 0, order)
        redis.call('ZREMRANGEBYRANK', recent_key, 0, -RECENT_MAX - 1)
        redis.call('PEXPIRE', recent_key, DAY_MS)
      end
      if idem_key then
        redis.call('HSET', idem_key, 'order', order, 'fingerprint', fingerprint)
        redis.call('PEXPIRE', idem_key, DAY_MS)
      end
      if terminal then
        redis.call('PEXPIRE', order_key, DAY_MS)
        if item == '' then
          redis.call('ZREM', KEYS[3], order)
        end
      elseif delay >= 0 then
        redis.call('ZADD', KEYS[3], now + delay, order)
      elseif next_key and not stays then
        redis.call('XADD', next_key, '*', 'state', state, unpack(ARGV, last, last + EVENT_WIDTH - 1))
      end
    end
  end
  arg = arg + events * EVENT_WIDTH
end

if position > first_position then
  redis.call('HSET', KEYS[2], 'position', string.format('%.0f', position), 'ms', ms_text)
end
return replies
