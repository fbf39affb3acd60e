-- The requests of one profile, for wrk. PROFILE = head1k2 | filters (the same) | head60 | body256k | aggregate; HEADERS = path of headers.txt.
-- They go round over 100 routes: 33 resources with {id}, {id}/sub and list, and one path for the catch-all.
-- With aggregate they go over 100 IDs below one path, TARGET (/report/ or /part/user/).
-- Every head of a profile has the same size: 60 bytes (the host pads it) or 1.2 KiB (a cookie pads it).

local profile = os.getenv("PROFILE") or "head1k2"
local query = profile == "body256k" and "?bytes=262144" or ""
local fields = {}
if profile ~= "head60" then
  for line in io.lines(os.getenv("HEADERS") or "loadtest/headers.txt") do fields[#fields + 1] = line .. "\r\n" end
end
fields = table.concat(fields)

local function head(path)
  local before, after = "GET " .. path .. query .. " HTTP/1.1\r\nHost: ", "\r\n"
  if profile == "head60" then
    local pad = 60 - #before - #after - 2 - #".test"
    return before .. string.rep("h", pad) .. ".test" .. after .. "\r\n"
  end
  local message = before .. "api.example.com" .. after .. fields
  return message .. "Cookie: session=" .. string.rep("c", 1229 - #message - #"Cookie: session=" - 4) .. "\r\n\r\n"
end

local paths = { "/assets/app.js" }
for i = 1, 33 do
  local id = 1000 + i * 37
  paths[#paths + 1] = "/api/v1/res" .. i .. "/" .. id
  paths[#paths + 1] = "/api/v1/res" .. i .. "/" .. id .. "/sub"
  paths[#paths + 1] = "/api/v1/res" .. i .. "/list"
end

if profile == "aggregate" then
  paths = {}
  for i = 1, 100 do paths[i] = os.getenv("TARGET") .. 1000 + i * 37 end
end

local requests, last = {}, 0
for i = 1, #paths do requests[i] = head(paths[(i * 37) % #paths + 1]) end

function request()
  last = last % #requests + 1
  return requests[last]
end

-- One line for the script: requests, microseconds, bytes, errors of all kinds.
function done(summary)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %d %d\n", summary.requests, summary.duration, summary.bytes,
    e.connect + e.read + e.write + e.status + e.timeout))
end
