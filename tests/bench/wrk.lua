-- The requests of wrk, and its results as one line of JSON.
--
--   wrk ... URL                              the same request each time
--   wrk ... URL -- ranges SIZE LENGTH        random ranges of LENGTH bytes, of an object of SIZE bytes
--   wrk ... URL -- buckets NUMBER KEY        URL0/KEY to URL(NUMBER-1)/KEY at random

function init(args)
  math.randomseed(tonumber(tostring({}):match("0x(%x+)"), 16))
  if args[1] == "ranges" then
    local last_start, length = tonumber(args[2]) - tonumber(args[3]), tonumber(args[3])
    request = function()
      local first = math.random(0, last_start)
      return wrk.format("GET", nil, { ["Range"] = string.format("bytes=%d-%d", first, first + length - 1) })
    end
  elseif args[1] == "buckets" then
    local number, key, prefix = tonumber(args[2]), args[3], wrk.path
    request = function()
      return wrk.format("GET", prefix .. math.random(0, number - 1) .. "/" .. key)
    end
  end
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "bytes": %d, "seconds": %f, "p50": %f, "p99": %f, "failures": %d, "closed": %d}\n',
    summary.requests, summary.bytes, summary.duration / 1e6,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.connect + errors.write + errors.status + errors.timeout, errors.read
  ))
end
