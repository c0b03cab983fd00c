/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Status documents as samples: names, labels, order, escapes, and what is no
 * number.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/metrics.h"

static const struct {
	const char *json, *text;
} cases[] = {
	{ "{}", "" },
	{ "{\"uptime_s\": 7, \"name\": \"x\", \"none\": null}",
	    "pkgcast_uptime_s 7\n" },
	{ "{\"a-b\": true, \"c\": {\"d\": false, \"e\": 1.5}}",
	    "pkgcast_a_b 1\npkgcast_c_d 0\npkgcast_c_e 1.5\n" },
	{ "{\"big\": 9223372036854775807, \"minus\": -3}",
	    "pkgcast_big 9223372036854775807\npkgcast_minus -3\n" },
	/* All of a name stand together. */
	{ "{\"upstreams\": [{\"url\": \"u1\", \"bytes\": 1, \"a\": 2},"
	    " {\"url\": \"u2\", \"bytes\": 3, \"a\": 4}]}",
	    "pkgcast_upstreams_a{upstream=\"u1\"} 2\n"
	    "pkgcast_upstreams_a{upstream=\"u2\"} 4\n"
	    "pkgcast_upstreams_bytes{upstream=\"u1\"} 1\n"
	    "pkgcast_upstreams_bytes{upstream=\"u2\"} 3\n" },
	{ "{\"edges\": [{\"name\": \"e\", \"instances\": [{\"instance\": \"i\","
	    " \"sets\": [{\"name\": \"s\", \"generation\": 5}, {\"n\": 6}]}]}]}",
	    "pkgcast_edges_instances_sets_generation{edge=\"e\","
	    "instance=\"i\",set=\"s\"} 5\n"
	    "pkgcast_edges_instances_sets_n{edge=\"e\",instance=\"i\","
	    "set=\"1\"} 6\n" },
	{ "{\"sets\": [1, 2, [3], \"x\"]}", "" },
	{ "{\"sets\": [{\"name\": \"a\\\"b\\\\c\\nd\", \"n\": 1}]}",
	    "pkgcast_sets_n{set=\"a\\\"b\\\\c\\nd\"} 1\n" },
};

static void
test_samples(void **state)
{
	size_t i, len;
	char *p, *text;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		text = strdup(cases[i].json);
		p = metrics_of(&text, &len);
		assert_null(text);
		assert_non_null(p);
		assert_string_equal(p, cases[i].text);
		assert_int_equal(len, strlen(cases[i].text));
		free(p);
	}
	text = NULL;
	assert_null(metrics_of(&text, &len));
	text = strdup("no JSON");
	assert_null(metrics_of(&text, &len));
}

/* What is too long is left out, and nothing else. */
static void
test_long_names(void **state)
{
	char json[8000], *p, *text;
	size_t len;

	(void)state;
	memset(json, 'x', sizeof(json));
	memcpy(json, "{\"a\": 1, \"", 10);
	strncpy(json + 4000, "\": 2, \"z\": 3}", 14);
	text = strdup(json);
	p = metrics_of(&text, &len);
	assert_non_null(p);
	assert_string_equal(p, "pkgcast_a 1\npkgcast_z 3\n");
	free(p);
	memset(json, 'x', sizeof(json));
	memcpy(json, "{\"sets\": [{\"n\": 1, \"name\": \"", 28);
	strncpy(json + 4000, "\"}, {\"n\": 2}]}", 15);
	text = strdup(json);
	p = metrics_of(&text, &len);
	assert_non_null(p);
	assert_string_equal(p, "pkgcast_sets_n{set=\"1\"} 2\n");
	free(p);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_samples),
		cmocka_unit_test(test_long_names),
	};

	(void)cmocka_set_message_output(CM_OUTPUT_TAP);
	return (cmocka_run_group_tests_name("metrics", tests, NULL, NULL));
}
