# SPDX-License-Identifier: BSD-2-Clause
# Varnish as a caching mirror; what is set on its command line stands, with its
# reason, in integration/bench.d/servers.py.
vcl 4.1;

backend origin {
	.host = "@ORIGIN_HOST@";
	.port = "@ORIGIN_PORT@";
}

# Files are the same for everybody: no cookies, no variants, one lookup.
sub vcl_recv {
	if (req.method != "GET" && req.method != "HEAD") {
		return (synth(405));
	}
	unset req.http.Cookie;
	unset req.http.Accept-Encoding;
	return (hash);
}

# All files lie on one host name: hash the path alone.
sub vcl_hash {
	hash_data(req.url);
	return (lookup);
}

# The origin says for how long (a year); what expired may be served while it is
# asked for again.  (Not where that is measured, 0s: a client would be answered
# before the file is verified.)  For how long after that a file is kept only to ask
# for it with its validators: not at all (the default), or where that is measured a
# day.  Packages are compressed already.
sub vcl_backend_response {
	set beresp.grace = @GRACE@;
	set beresp.keep = @KEEP@;
	# Sent on while it arrives, to all who ask (the default).
	set beresp.do_stream = true;
	set beresp.do_gzip = false;
	set beresp.do_gunzip = false;
}
