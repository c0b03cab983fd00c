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
		-lsqlite3 -lzstd -lpthread
COMPILE =	$(CC) $(STD) $(WARN) $(WERROR) $(HARD) $(CFLAGS) $(CPPFLAGS) \
		$(INCLUDE) -MMD -MP

PROTO =		proto/accesslog.c proto/address.c proto/answer.c proto/base64.c \
		proto/buf.c \
		proto/check.c proto/chunk.c proto/clock.c proto/config.c \
		proto/coder.c proto/coding.c \
		proto/conn.c proto/conn_reap.c proto/daemon.c proto/date.c \
		proto/digest.c \
		proto/fd.c proto/framing.c proto/head.c proto/httpd.c \
		proto/httpd_head.c proto/httpd_recv.c proto/httpd_request.c \
		proto/httpd_response.c proto/limits.c proto/log.c \
		proto/manifest.c proto/message.c proto/metrics.c proto/name.c proto/pace.c \
		proto/route.c proto/serve.c proto/site.c proto/snapshot.c proto/tcp.c \
		proto/value.c proto/zcode.c proto/zpl.c
KEYS =		keys/armor.c keys/cert.c keys/cmd_keys.c keys/cmd_trust.c \
		keys/curve_memory.c keys/edges.c keys/home.c keys/minisign.c \
		keys/monitor.c keys/password.c keys/seckey.c keys/trust.c keys/trust_init.c \
		keys/trust_place.c keys/trust_restore.c keys/trustdoc.c \
		keys/zap.c
MASTER =	master/announce.c master/generation.c master/gone.c \
		master/origin.c \
		master/outbox.c master/peers.c master/pending.c \
		master/pending_blob.c master/pending_json.c \
		master/pending_run.c master/pendings.c master/publish.c \
		master/recover.c master/roster.c master/roster_cover.c \
		master/roster_report.c master/roster_wait.c master/scrub.c \
		master/status.c master/store.c master/tree.c master/watch.c \
		master/www.c
COMMAND =	master/client.c master/cmd_edge.c master/cmd_publish.c \
		master/cmd_rollback.c master/cmd_status.c master/cmd_verify.c \
		master/command.c master/compose.c master/edge_leases.c \
		master/fetch.c master/progress.c master/record.c \
		master/release.c master/scan.c master/scan_cache.c \
		master/scan_read.c master/send.c master/send_state.c \
		master/status_row.c master/status_text.c
EDGE =		edge/blob.c edge/blob_folders.c edge/blob_partial.c \
		edge/blob_scan.c edge/bytes.c edge/cold.c edge/control.c \
		edge/evict.c edge/fields.c edge/fill.c edge/fill_open.c \
		edge/fill_plain.c edge/fill_reader.c edge/follow.c \
		edge/fresh.c edge/fresh_parse.c edge/health.c edge/held.c \
		edge/kind.c edge/lease.c edge/link.c edge/mark.c \
		edge/memory.c edge/plain.c edge/plain_fetch.c \
		edge/plain_poll.c edge/plain_request.c edge/plain_version.c \
		edge/pull.c edge/pull_piece.c edge/rate.c edge/record.c \
		edge/record_db.c edge/reply.c edge/resident.c edge/scrub.c \
		edge/serve.c \
		edge/status.c edge/strict.c edge/sync.c \
		edge/sync_coded.c edge/sync_fetch.c edge/sync_table.c edge/table.c \
		edge/unstored.c edge/upstream.c \
		edge/upstream_ask.c edge/upstream_document.c edge/upstream_take.c edge/waiters.c edge/walk.c \
		edge/warm.c
TESTS =		tests/test_accesslog.c tests/test_announce.c \
		tests/test_answer.c tests/test_blob.c tests/test_bytes.c \
		tests/test_coder.c tests/test_cold.c tests/test_config.c \
		tests/test_control.c tests/test_curve_memory.c tests/test_daemon.c tests/test_fill.c \
		tests/test_framing.c tests/test_fresh.c tests/test_head.c \
		tests/test_httpd.c tests/test_keycmd.c tests/test_keys.c \
		tests/test_kind.c tests/test_lease.c tests/test_manifest.c \
		tests/test_message.c tests/test_metrics.c tests/test_monitor.c \
		tests/test_plain.c tests/test_proto.c tests/test_publish.c \
		tests/test_record.c tests/test_records.c tests/test_recover.c tests/test_roster.c \
		tests/test_rot.c tests/test_route.c tests/test_scan.c tests/test_serve.c \
		tests/test_site.c tests/test_storage.c tests/test_trust.c tests/test_zap.c \
		tests/test_zcode.c
# Programs that measure: nothing to pass or fail.
MEASURES =	tests/bench_body.c tests/bench_lookup.c tests/bench_store.c \
		tests/bench_reconnect.c
FUZZ =		tests/fuzz_answer.c tests/fuzz_cert.c tests/fuzz_coding.c \
		tests/fuzz_config.c \
		tests/fuzz_framing.c tests/fuzz_fresh.c tests/fuzz_head.c tests/fuzz_lease.c \
		tests/fuzz_manifest.c tests/fuzz_minisign.c \
		tests/fuzz_renew.c tests/fuzz_reply.c tests/fuzz_route.c \
		tests/fuzz_scan.c tests/fuzz_trust.c tests/fuzz_zcode.c
MAN =		edge/pkgcast-edge.8 master/pkgcast-master.8 master/pkgcast.1 \
		proto/pkgcast-formats.5 proto/pkgcast-protocol.7 \
		proto/pkgcast.conf.5
PROGRAMS =	master/pkgcast master/pkgcast-master edge/pkgcast-edge
# Many edges in one process, for integration/swarm.
SWARM =		tests/swarm
# Order matters to the linker: users before what they use.
ARCHIVES =	master/libmaster.a edge/libedge.a keys/libkeys.a proto/libproto.a

.SUFFIXES:
.SUFFIXES: .c .o

all:
	@sh integration/deps build
	@$(MAKE) programs
programs: $(PROGRAMS) $(SWARM)

.c.o:
	$(COMPILE) -c -o $@ $<

# Unit tests and replays of fuzz corpora: one file, one program.
.c:
	$(COMPILE) $(LINK) $(LDFLAGS) -o $@ $< $(ARCHIVES) $(LIBS) -lcmocka

proto/libproto.a: $(PROTO:.c=.o)
	rm -f $@ && ar rcs $@ $(PROTO:.c=.o)
keys/libkeys.a: $(KEYS:.c=.o)
	rm -f $@ && ar rcs $@ $(KEYS:.c=.o)
master/libmaster.a: $(MASTER:.c=.o) $(COMMAND:.c=.o)
	rm -f $@ && ar rcs $@ $(MASTER:.c=.o) $(COMMAND:.c=.o)
edge/libedge.a: $(EDGE:.c=.o)
	rm -f $@ && ar rcs $@ $(EDGE:.c=.o)

BOTH =		keys/libkeys.a proto/libproto.a
LD =		$(CC) $(LINK) $(CFLAGS) $(LDFLAGS)
master/pkgcast: master/pkgcast.o master/libmaster.a $(BOTH)
	$(LD) -o $@ master/pkgcast.o master/libmaster.a $(BOTH) $(LIBS)
master/pkgcast-master: master/main.o master/libmaster.a $(BOTH)
	$(LD) -o $@ master/main.o master/libmaster.a $(BOTH) $(LIBS)
edge/pkgcast-edge: edge/main.o edge/libedge.a $(BOTH)
	$(LD) -o $@ edge/main.o edge/libedge.a $(BOTH) $(LIBS)
tests/swarm: tests/swarm.o edge/libedge.a $(BOTH)
	$(LD) -o $@ tests/swarm.o edge/libedge.a $(BOTH) $(LIBS)

$(TESTS:.c=) $(FUZZ:.c=) $(MEASURES:.c=): $(ARCHIVES)

# The whole test suite.  Tests wait more than they compute, so JOBS of them run
# beside each other; those of one file share a sandbox, and stay together.
# The sanitizer variants call `checks` and its parts in their copies.
JOBS =		2
PYTEST =	integration
check:
	@sh integration/deps check
	@$(MAKE) checks
	sh integration/lint-pages $(MAN)
checks:
	@$(MAKE) -j$(JOBS) built
	@$(MAKE) unit integrated
built: programs $(TESTS:.c=) $(FUZZ:.c=) tests/bench_reconnect
unit: built
	prove -j$(JOBS) --timer --exec '' $(TESTS:.c=) $(FUZZ:.c=)
integrated: built
	sh integration/run-tests -n $(JOBS) --dist loadfile $(PYTEST)

demo:
	@sh integration/deps demo
	@$(MAKE) programs
	@integration/demo

# kill -9 of master and edge at random moments, KILLS times, and of an edge that
# fills 2.5 times as often.
KILLS =		200
torture: programs
	sh integration/run-tests -s integration/test_crash.py \
	    integration/test_crash_fills.py --kills $(KILLS)

# The lease protocol's model, searched with three publishes (the suite takes two).
model:
	@sh integration/deps check
	sh integration/model 3
# Faults of network, processes, clocks and disks while all that is answered is
# checked; CHECKER are options, as --seed 7.  The other one builds programs that
# break a promise, and shows that this is found (5 minutes).
CHECKER =	--minutes 30
checker:
	@sh integration/deps check
	@$(MAKE) programs
	integration/checker $(CHECKER)
checker-planted:
	@sh integration/deps check
	integration/checker --planted

# Everything at once for a long time, each answer checked; SOAK are options, as
# --variant tsan.  What cold files on a slow disk do to hits (Linux, root).
SOAK =		--minutes 30
soak:
	@sh integration/deps check
	@$(MAKE) programs
	integration/soak $(SOAK)
# Whether all stay as large as they are (Linux); FLAT are options, as
# --publishes 2000.
FLAT =
flat:
	@sh integration/deps check
	@$(MAKE) programs tests/bench_reconnect
	integration/flat $(FLAT)
slowdisk:
	@sh integration/deps check
	@$(MAKE) programs
	integration/slowdisk

# The edge beside four peers, on a quiet machine (Linux); BENCH are options, as
# --quick, --growth, --cold, --publish or --plain.
BENCH =
bench:
	@sh integration/deps bench
	@$(MAKE) programs
	integration/bench $(BENCH)

# Many clients of one cold file (Linux); CROWD are options, as --clients 1000.
CROWD =
crowd:
	@sh integration/deps check
	@$(MAKE) programs
	integration/crowd $(CROWD)

# The edge's blob store with so many blobs.
BLOBS =		1000000
# Where from bytes are sent best; what finding a path costs.
bench-parts:
	@sh integration/deps check
	@$(MAKE) programs tests/bench_body tests/bench_lookup
	tests/bench_body
	tests/bench_lookup
bench-store:
	@sh integration/deps check
	@$(MAKE) programs tests/bench_store
	sh integration/bench-store $(BLOBS)

# Each in a copy of the sources below build/.
asan:
	@sh integration/deps check
	sh integration/variant asan $(MAKE) checks
tsan:
	@sh integration/deps check
	sh integration/variant tsan $(MAKE) checks
clang:
	sh integration/variant clang $(MAKE) programs
FUZZ_SECONDS =	600
fuzz:
	sh integration/variant fuzz sh integration/fuzz $(FUZZ_SECONDS) $(FUZZ)
lint:
	@sh integration/deps check
	sh integration/lint $(MAN)

MAN1DIR =	$(PREFIX)/share/man
install: programs
	mkdir -p $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/sbin
	install -m 755 master/pkgcast $(DESTDIR)$(PREFIX)/bin/
	install -m 755 master/pkgcast-master edge/pkgcast-edge \
	    $(DESTDIR)$(PREFIX)/sbin/
	for m in $(MAN); do \
		d=$(DESTDIR)$(MAN1DIR)/man$${m##*.}; \
		mkdir -p $$d && install -m 644 $$m $$d/ || exit 1; \
	done

clean:
	rm -rf build
	rm -f */*.o */*.d */*.a $(PROGRAMS) $(SWARM) $(TESTS:.c=) $(FUZZ:.c=) \
	    $(MEASURES:.c=)

.PHONY: all programs check checks built unit integrated demo bench bench-parts \
	bench-store crowd torture model soak slowdisk flat checker \
	checker-planted asan tsan clang fuzz lint install clean

# On one line: bmake reads no list of files that goes over several.
DEPS =		$(PROTO:.c=.d) $(KEYS:.c=.d) $(MASTER:.c=.d) $(COMMAND:.c=.d) $(EDGE:.c=.d) $(TESTS:.c=.d) $(FUZZ:.c=.d)
-include $(DEPS) master/main.d master/pkgcast.d edge/main.d tests/swarm.d $(MEASURES:.c=.d)
