# pkgcast: read by GNU make and bmake alike (no GNU or BSD extensions beyond
# what both know).  Sources are listed by name; objects stand beside them.

PREFIX =	/usr/local
STD =		-std=c11 -D_GNU_SOURCE
WARN =		-Wall -Wextra -Wshadow -Wundef -Wvla -Wwrite-strings \
		-Wcast-qual -Wpointer-arith -Wformat=2 -Wimplicit-fallthrough \
		-Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition
HARD =		-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 \
		-fstack-protector-strong -fPIE -fno-common
LINK =		-pie -Wl,-z,relro,-z,now,-z,noexecstack
CFLAGS =	-O2 -g
LDFLAGS =
WERROR =
INCLUDE =	-I.
LIBS =		-lczmq -lzmq -lmicrohttpd -lcurl -lsodium -lcrypto -ljansson \
		-lpthread
COMPILE =	$(CC) $(STD) $(WARN) $(WERROR) $(HARD) $(CFLAGS) $(CPPFLAGS) \
		$(INCLUDE) -MMD -MP

PROTO =		proto/accesslog.c proto/answer.c proto/buf.c proto/check.c \
		proto/chunk.c proto/clock.c proto/config.c proto/daemon.c \
		proto/date.c proto/digest.c proto/fd.c proto/head.c \
		proto/httpd.c proto/log.c proto/manifest.c proto/message.c \
		proto/name.c proto/route.c proto/serve.c proto/site.c \
		proto/snapshot.c
KEYS =		keys/cert.c keys/cmd_keys.c keys/cmd_trust.c keys/minisign.c \
		keys/trust.c keys/zap.c
MASTER =	master/blob.c master/generation.c master/link.c master/origin.c \
		master/publish.c master/roster.c master/scrub.c master/status.c \
		master/tree.c
COMMAND =	master/client.c master/cmd_edge.c master/cmd_publish.c \
		master/cmd_status.c master/cmd_verify.c master/record.c \
		master/scan.c
EDGE =		edge/blob.c edge/fill.c edge/follow.c edge/held.c edge/lease.c \
		edge/link.c edge/serve.c edge/status.c edge/upstream.c
TESTS =		tests/test_answer.c tests/test_blob.c tests/test_config.c \
		tests/test_fill.c tests/test_head.c tests/test_httpd.c \
		tests/test_keys.c tests/test_manifest.c tests/test_message.c \
		tests/test_proto.c tests/test_publish.c tests/test_roster.c \
		tests/test_route.c tests/test_site.c tests/test_trust.c
