-- One task a request, as a web application sends it.
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"task_path": "bench.tasks.noop", "args": ["m31.fits", 5], "kwargs": {"threshold": 1.5}}'

local threads = {}
refused = 0

function setup(thread)
  table.insert(threads, thread)
end

function response(status)
  if status ~= 201 then
    refused = refused + 1
  end
end

function done()
  local sum = 0
  for _, thread in ipairs(threads) do
    sum = sum + thread:get("refused")
  end
  io.write(string.format("answers that were not 201: %d\n", sum))
end
