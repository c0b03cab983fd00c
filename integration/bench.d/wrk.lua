-- SPDX-License-Identifier: BSD-2-Clause
-- For wrk: asks for the paths of the file that BENCH_PATHS names, in its order
-- and around again, or for the one path on the command line; prints what was
-- measured as one line of JSON.

local lines = {}
local at = 0
local list = os.getenv("BENCH_PATHS")

if list then
	local threads = 0

	-- Threads go through the same order, from places far apart.
	function setup(thread)
		thread:set("number", threads)
		threads = threads + 1
	end

	function init(args)
		for path in io.lines(list) do
			lines[#lines + 1] = wrk.format("GET", path)
		end
		at = number * math.floor(#lines / 2) % #lines
	end

	function request()
		at = at % #lines + 1
		return lines[at]
	end
end

function done(summary, latency, requests)
	local e = summary.errors
	io.write(string.format(
	    'BENCH {"microseconds":%.0f,"requests":%.0f,"bytes":%.0f,' ..
	    '"p50":%.0f,"p99":%.0f,"errors":%.0f}\n',
	    summary.duration, summary.requests, summary.bytes,
	    latency:percentile(50), latency:percentile(99),
	    e.connect + e.read + e.write + e.status + e.timeout))
end
