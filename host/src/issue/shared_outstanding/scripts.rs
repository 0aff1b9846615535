//! What the store does as a whole, in Lua.
//!
//! An entry is a hash: `body` is sealed, `by` the broker that ends the credential, `due` is set if
//! somebody has to, `session` if callers cannot give it back, `ending` says why it ends now, and
//! `busy` until when `worker` tries; `more` says that not all holders are known. Those who hold it
//! are in a hash beside it, and those who have given it back in another one. The index has the
//! entries by the moment at which they end. A pointer leads from a request to the credential of
//! another one that it was answered with; only those who are in one of the hashes have one.
//!
//! A script that finds marks returns them, and the broker checks who has written them.
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
local function marks(from)
  local found = {}
  for i = from, from + names - 1 do
    found[#found + 1] = redis.call('GET', KEYS[i]) or nil
  end
  return #found > 0 and 'marks ' .. table.concat(found, ' ')
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
    return false
  end
  redis.call('HSET', holders, field, value)
  redis.call('PEXPIRE', holders, redis.call('PTTL', entry))
  return true
end
",
            $text
        )
    };
}

/// Puts a credential on the list, or returns marks. Keys: marks, names, and the pointers of those
/// who hold it by another request. Arguments: 1 to do it whatever the marks are, body, moment, how
/// long it stays, the most entries, `due`, `session` or nothing, whether there are more holders
/// than these, how long a pointer stays, and for each holder field, value, and what its pointer
/// has, if it has one.
pub(super) const LIST: &str = script!(
    "
local marked = ARGV[2] ~= '1' and marks(3)
if marked then return marked end
lives()
local entry = find(3 + names)
local is_new = not entry
if is_new then
  if redis.call('ZCARD', index) >= tonumber(ARGV[6]) then return 'full' end
  entry = KEYS[3 + names]
  redis.call('HSET', entry, 'body', ARGV[3], 'by', me)
  if ARGV[7] ~= '' then redis.call('HSET', entry, ARGV[7], '1') end
  redis.call('PEXPIRE', entry, ARGV[5])
  redis.call('ZADD', index, ARGV[4], entry)
elseif not is_elsewhere(entry) then
  redis.call('HSET', entry, 'by', me)
end
if ARGV[8] == 'yes' or is_new and ARGV[8] ~= '' then redis.call('HSET', entry, 'more', '1') end
local pointer = 3 + 2 * names
for i = 10, #ARGV, 3 do
  local is_held, to = hold(entry, ARGV[i], ARGV[i + 1]), ARGV[i + 2]
  if to ~= '' then
    if is_held then redis.call('SET', KEYS[pointer], to, 'PX', ARGV[9]) end
    pointer = pointer + 1
  end
end
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
    word = marks(first) or 'missing'
  else
    local ending, by = unpack(redis.call('HMGET', entry, 'ending', 'by'))
    if is_elsewhere(entry) then
      word = ending and 'leaving' or 'theirs'
    else
      -- Nobody is in it if this broker cannot end it, so that others try.
      if by then redis.call('HSET', entry, 'by', me) end
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
/// another one than that of the mint. Arguments: field, value, what the pointer has, and how long
/// that stays; without them nobody gets it yet.
pub(super) const HOLD: &str = script!(
    "
if is_marked(3) then return 'ending' end
local entry = find(3 + names)
if not entry then return 'missing' end
if redis.call('HGET', entry, 'ending') then return 'ending' end
local is_held = ARGV[2] and hold(entry, ARGV[2], ARGV[3])
local pointer = KEYS[3 + 2 * names]
if is_held and pointer then redis.call('SET', pointer, ARGV[4], 'PX', ARGV[5]) end
return 'held'"
);

/// Somebody did not get it after all. Keys: names, and the pointers of its request. Arguments: its
/// field under each key.
pub(super) const RELEASE: &str = script!(
    "
local entry = find(3)
for i = 2, #ARGV do
  if entry then redis.call('HDEL', entry .. ':holders', ARGV[i]) end
end
for i = 3 + names, #KEYS do redis.call('DEL', KEYS[i]) end
return 'released'"
);

/// The pointer of a request. Keys: its names. Returns which of them has it, and what it has.
pub(super) const POINTER: &str = script!(
    "
for i = 3, 2 + names do
  local to = redis.call('GET', KEYS[i])
  if to then return { i - 3, to } end
end
return {}"
);

/// A caller gives back what it got. Keys: the marks and names of the credential, and the pointers
/// of the request. Arguments: why it ends, the time, whether others are known to have it, and field
/// and value under each key.
pub(super) const GIVE_BACK: &str = script!(
    "
local entry
for i = 3 + names, 2 + 2 * names do
  local is_known = redis.call('EXISTS', KEYS[i], KEYS[i] .. ':holders') > 0
  if is_known and not entry then entry = KEYS[i] end
end
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
if not body then return { 'gone', marks(3) or '' } end
if session then return { 'session', entry, body } end
if not field then return { 'shared', entry, body } end
if ARGV[4] == '1' or more or redis.call('HLEN', holders) > 1 then
  if not ending then
    redis.call('HDEL', holders, field)
    if redis.call('HLEN', returned) < 4096 then
      redis.call('HSET', returned, field, value)
      redis.call('PEXPIRE', returned, redis.call('PTTL', entry))
    else
      for i = 3 + 2 * names, #KEYS do redis.call('DEL', KEYS[i]) end
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

/// Looks for the credential that was minted for one request. Keys: its names. Arguments: the
/// subject that may hold it, under each key.
pub(super) const FIND: &str = script!(
    "
local entry = find(3)
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

/// Lists what is due and what no other broker who lives ends. Arguments: the time, how many to pass
/// over, and how many to look at. Returns how many of these stay on the list and how many were
/// looked at, and the entries.
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
    if (due or ending) and not is_elsewhere(entry) and not is_busy(entry) then
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

/// Credentials end now, and other brokers do that. Keys: entries. Arguments: why, and the time.
/// Returns for each whether it is there.
pub(super) const LEAVE: &str = script!(
    "
local left = {}
for i = 3, #KEYS do
  local is_there = redis.call('EXISTS', KEYS[i]) == 1
  if is_there and not redis.call('HGET', KEYS[i], 'ending') then
    redis.call('HSET', KEYS[i], 'ending', ARGV[2])
    redis.call('ZADD', index, 'LT', ARGV[3], KEYS[i])
  end
  left[#left + 1] = is_there and 1 or 0
end
return left"
);

/// A broker is about to end a credential, or learns of marks. Keys: marks, names. Arguments: 1 to
/// do it whatever the marks are, why, the time, how long it tries, how long the mark stays, and the
/// mark.
pub(super) const CLAIM: &str = script!(
    "
lives()
local entry = find(3 + names)
if entry then
  if is_elsewhere(entry) then return 'theirs' end
  if is_busy(entry) then return 'busy' end
  local until_when = string.format('%.0f', now + tonumber(ARGV[5]))
  redis.call('HSET', entry, 'by', me, 'worker', me, 'busy', until_when, 'ending', ARGV[3])
  redis.call('ZADD', index, 'LT', ARGV[4], entry)
else
  local marked = ARGV[2] ~= '1' and marks(3)
  if marked then return marked end
end
redis.call('SET', KEYS[3], ARGV[7], 'PX', ARGV[6])
return 'ours'"
);

/// It has ended. Keys: marks, names. Arguments: how long the mark stays, and the mark.
pub(super) const FINISH: &str = script!(
    "
redis.call('SET', KEYS[3], ARGV[3], 'PX', ARGV[2])
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
