//! What the store does as a whole, in Lua.
//!
//! An entry is a hash: `body` is sealed, `by` the broker that ends the credential, `due` is set if
//! somebody has to, `session` if callers cannot give it back, `ending` says why it ends now, and
//! `busy` until when `worker` tries; `more` says that not all holders are known. Those who hold it
//! are in a hash beside it, and those who have given it back in another one. The index has the
//! entries by the moment at which they end.
//!
//! Each script has as first keys the index and this broker's sign of life, and as first argument
//! how many names one thing has: one for each key file. The first is written, all are looked for.

/// A script with what all of them need.
macro_rules! script {
    ($text:literal) => {
        concat!(
            "
local index, me, names = KEYS[1], KEYS[2], tonumber(ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function lives() redis.call('SET', me, '1', 'PX', 20000) end
local function find(from)
  for i = from, from + names - 1 do
    if redis.call('EXISTS', KEYS[i]) == 1 then return KEYS[i] end
  end
end
local function has_ended(from)
  for i = from, from + names - 1 do
    if redis.call('GET', KEYS[i]) == '2' then return true end
  end
end
local function is_marked(from)
  for i = from, from + names - 1 do
    if redis.call('EXISTS', KEYS[i]) == 1 then return true end
  end
end
local function is_elsewhere(entry)
  local by = redis.call('HGET', entry, 'by')
  return by and by ~= me and redis.call('EXISTS', by) == 1
end
local function is_busy(entry)
  local busy, worker = unpack(redis.call('HMGET', entry, 'busy', 'worker'))
  return busy and worker ~= me and tonumber(busy) > now
end
local function hold(entry, field, value)
  local holders = entry .. ':holders'
  if redis.call('HLEN', holders) >= 1024 and redis.call('HEXISTS', holders, field) == 0 then
    redis.call('HSET', entry, 'more', '1')
    return
  end
  redis.call('HSET', holders, field, value)
  redis.call('PEXPIRE', holders, redis.call('PTTL', entry))
end
",
            $text
        )
    };
}

/// Puts a credential on the list, or says that it has ended. Keys: marks, names, and the pointers
/// of those who hold it by another request. Arguments: body, moment, how long it stays, the most
/// entries, `due`, `session` or nothing, whether there are more holders than these, and holders in
/// pairs.
pub(super) const LIST: &str = script!(
    "
if has_ended(3) then return 'ended' end
lives()
local entry = find(3 + names)
local is_new = not entry
if is_new then
  if redis.call('ZCARD', index) >= tonumber(ARGV[5]) then return 'full' end
  entry = KEYS[3 + names]
  redis.call('HSET', entry, 'body', ARGV[2], 'by', me)
  if ARGV[6] ~= '' then redis.call('HSET', entry, ARGV[6], '1') end
  redis.call('PEXPIRE', entry, ARGV[4])
  redis.call('ZADD', index, ARGV[3], entry)
elseif not is_elsewhere(entry) then
  redis.call('HSET', entry, 'by', me)
end
if ARGV[7] == 'yes' or is_new and ARGV[7] ~= '' then redis.call('HSET', entry, 'more', '1') end
for i = 8, #ARGV, 2 do hold(entry, ARGV[i], ARGV[i + 1]) end
for i = 3 + 2 * names, #KEYS do redis.call('SET', KEYS[i], entry, 'PX', ARGV[4]) end
return 'listed'"
);

/// Compares the list with this broker's. Keys: for each credential its marks and its names.
/// Arguments: the time, and for each whether it ends now and why.
pub(super) const COMPARE: &str = script!(
    "
lives()
local words, first = {}, 3
for i = 3, #ARGV do
  local entry = find(first + names)
  local word = 'ours'
  if not entry then
    word = has_ended(first) and 'ended' or 'missing'
  else
    local ending, by = unpack(redis.call('HMGET', entry, 'ending', 'by'))
    if is_elsewhere(entry) then
      word = ending and 'leaving' or 'theirs'
    elseif by then
      redis.call('HSET', entry, 'by', me)
      if ARGV[i] ~= '' and not ending then
        redis.call('HSET', entry, 'ending', ARGV[i])
        redis.call('ZADD', index, 'LT', ARGV[2], entry)
      elseif ending then
        word = ending
      end
    end
  end
  words[#words + 1] = word
  first = first + 2 * names
end
return words"
);

/// Somebody is about to get a credential. Keys: marks, names, the pointer of its request if it is
/// another one than that of the mint. Arguments: field, value; without them nobody gets it yet.
pub(super) const HOLD: &str = script!(
    "
if is_marked(3) then return 'ending' end
local entry = find(3 + names)
if not entry then return 'missing' end
if redis.call('HGET', entry, 'ending') then return 'ending' end
if ARGV[2] then hold(entry, ARGV[2], ARGV[3]) end
local pointer = KEYS[3 + 2 * names]
if pointer then redis.call('SET', pointer, entry, 'PX', redis.call('PTTL', entry)) end
return 'held'"
);

/// Somebody did not get it after all. Keys: names. Arguments: its field under each key.
pub(super) const RELEASE: &str = script!(
    "
local entry = find(3)
for i = 2, #ARGV do
  if entry then redis.call('HDEL', entry .. ':holders', ARGV[i]) end
end
return 'released'"
);

/// A caller gives back what it got. Keys: the names of a credential of this request, and the
/// pointers of the request. Arguments: why it ends, the time, whether others are known to have it,
/// and field and value under each key.
pub(super) const GIVE_BACK: &str = script!(
    "
local entry
local function look(name)
  if name and (redis.call('EXISTS', name, name .. ':holders') > 0) then entry = entry or name end
end
for i = 3, 2 + names do look(KEYS[i]) end
for i = 3 + names, 2 + 2 * names do look(redis.call('GET', KEYS[i])) end
if not entry then return { 'unknown' } end
local holders, returned, field, value = entry .. ':holders', entry .. ':returned'
local has_returned = false
for i = 5, #ARGV, 2 do
  if redis.call('HGET', holders, ARGV[i]) == ARGV[i + 1] then
    field, value = ARGV[i], ARGV[i + 1]
  elseif redis.call('HGET', returned, ARGV[i]) == ARGV[i + 1] then
    has_returned = true
  end
end
if not field and not has_returned then return { 'another' } end
local facts = redis.call('HMGET', entry, 'body', 'ending', 'more', 'session')
local body, ending, more, session = unpack(facts)
if not body then return { 'ended' } end
if session then return { 'session', entry, body } end
if not field then return { 'shared', entry, body } end
if ARGV[4] == '1' or more or redis.call('HLEN', holders) > 1 then
  if not ending then
    redis.call('HDEL', holders, field)
    if redis.call('HLEN', returned) < 4096 then
      redis.call('HSET', returned, field, value)
      redis.call('PEXPIRE', returned, redis.call('PTTL', entry))
    end
    return { 'shared', entry, body }
  end
end
if not ending then
  redis.call('HSET', entry, 'ending', ARGV[2])
  redis.call('ZADD', index, 'LT', ARGV[3], entry)
end
return { 'last', entry, body }"
);

/// Looks for the credential of one request. Keys: its names, and its pointers. Arguments: the
/// subject that may hold it, under each key.
pub(super) const FIND: &str = script!(
    "
local entry = find(3)
for i = 3 + names, 2 + 2 * names do
  local to = redis.call('GET', KEYS[i])
  if not entry and to and redis.call('EXISTS', to) == 1 then entry = to end
end
if not entry then return {} end
local body, ending = unpack(redis.call('HMGET', entry, 'body', 'ending'))
local holders = redis.call('HVALS', entry .. ':holders')
local is_of = 0
for _, value in ipairs(holders) do
  for i = 2, #ARGV do if value == ARGV[i] then is_of = 1 end end
end
return { { entry, body or '', #holders, is_of, ending or '' } }"
);

/// Lists a part of all credentials. Arguments: cursor, how many, and as [`FIND`]. Returns the next
/// cursor and the entries.
pub(super) const SCAN: &str = script!(
    "
local cursor, found = unpack(redis.call('ZSCAN', index, ARGV[2], 'COUNT', ARGV[3]))
local entries = {}
for n = 1, #found, 2 do
  local entry = found[n]
  local body, ending = unpack(redis.call('HMGET', entry, 'body', 'ending'))
  if body then
    local holders, is_of = entry .. ':holders', 0
    local length = redis.call('HLEN', holders)
    if #ARGV > 3 then
      for _, value in ipairs(redis.call('HVALS', holders)) do
        for i = 4, #ARGV do if value == ARGV[i] then is_of = 1 end end
      end
    end
    entries[#entries + 1] = { entry, body, length, is_of, ending or '' }
  end
end
return { cursor, entries }"
);

/// Lists what is due and what nobody who lives ends. Arguments: the time, how many to pass over,
/// and how many to look at. Returns how many of these stay on the list and how many were looked at,
/// and the entries.
pub(super) const DUE: &str = script!(
    "
local found = redis.call('ZRANGE', index, '-inf', ARGV[2], 'BYSCORE', 'LIMIT', ARGV[3], ARGV[4])
local entries, stay = {}, 0
for _, entry in ipairs(found) do
  local body, due, ending = unpack(redis.call('HMGET', entry, 'body', 'due', 'ending'))
  if not body then
    redis.call('ZREM', index, entry)
  else
    stay = stay + 1
    local by = redis.call('HGET', entry, 'by')
    if (due or ending) and by ~= me and not is_elsewhere(entry) and not is_busy(entry) then
      entries[#entries + 1] = { entry, body, 0, 0, ending or '' }
    end
  end
end
return { stay, #found, entries }"
);

/// Takes credentials over. Keys: entries. Arguments: 1 to take them also from brokers that live.
/// Returns for each whether this broker ends it now.
pub(super) const TAKE: &str = script!(
    "
lives()
local taken = {}
for i = 3, #KEYS do
  local is_ours = redis.call('EXISTS', KEYS[i]) == 1
    and (ARGV[2] == '1' or not is_elsewhere(KEYS[i]))
  if is_ours then redis.call('HSET', KEYS[i], 'by', me) end
  taken[#taken + 1] = is_ours and 1 or 0
end
return taken"
);

/// A broker is about to end a credential. Keys: marks, names. Arguments: why, the time, how long
/// it tries, and how long the mark stays.
pub(super) const CLAIM: &str = script!(
    "
lives()
local entry = find(3 + names)
if entry then
  if is_elsewhere(entry) then return 'theirs' end
  if is_busy(entry) then return 'busy' end
  local until_when = string.format('%.0f', now + tonumber(ARGV[4]))
  redis.call('HSET', entry, 'by', me, 'worker', me, 'busy', until_when, 'ending', ARGV[2])
  redis.call('ZADD', index, 'LT', ARGV[3], entry)
elseif has_ended(3) then
  return 'ended'
end
redis.call('SET', KEYS[3], '1', 'PX', ARGV[5])
return 'ours'"
);

/// It has ended. Keys: marks, names. Arguments: how long the mark stays.
pub(super) const FINISH: &str = script!(
    "
redis.call('SET', KEYS[3], '2', 'PX', ARGV[2])
for i = 3 + names, 2 + 2 * names do
  redis.call('DEL', KEYS[i])
  redis.call('ZREM', index, KEYS[i])
  -- For callers who ask again.
  redis.call('PEXPIRE', KEYS[i] .. ':holders', ARGV[2])
  redis.call('PEXPIRE', KEYS[i] .. ':returned', ARGV[2])
end
return 'finished'"
);

/// It has not ended yet. Keys: names. Arguments: 1 if others shall try.
pub(super) const PAUSE: &str = script!(
    "
local entry = find(3)
if entry then
  if redis.call('HGET', entry, 'worker') == me then
    redis.call('HDEL', entry, 'worker', 'busy')
  end
  if ARGV[2] == '1' and redis.call('HGET', entry, 'by') == me then
    redis.call('HDEL', entry, 'by')
  end
end
return 'paused'"
);

/// This broker lives. Arguments: 0 if it ends now. Returns how many credentials are on the list.
pub(super) const LIVE: &str = script!(
    "
if ARGV[2] == '1' then lives() else redis.call('DEL', me) end
return redis.call('ZCARD', index)"
);
