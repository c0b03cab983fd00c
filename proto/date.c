/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Dates as ISO 8601 in heads and as HTTP writes them.  No locale, no time
 * zone, no state.
 */

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "proto/check.h"
#include "proto/clock.h"
#include "proto/date.h"

#define	DAY		86400
#define	TIME_END	253402300800LL		/* 10000-01-01 */

static const char days[7][4] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri",
	"Sat" };
static const char months[12][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
	"Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };

static bool
leap(int64_t y)
{

	return ((y % 4 == 0 && y % 100 != 0) || y % 400 == 0);
}

static int
month_days(int64_t y, int m)
{
	static const int n[12] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30,
		31 };

	return (n[m] + (m == 1 && leap(y) ? 1 : 0));
}

static int64_t
days_before_year(int64_t y)
{

	y--;
	return (y * 365 + y / 4 - y / 100 + y / 400 - 719162);
}

/* m from 0, d from 1.  -1 when there is no such moment; years from 1 on. */
static int
to_seconds(int64_t y, int m, int d, int hh, int mm, int ss, int64_t *t)
{
	int64_t n;
	int i;

	if (y < 1 || y > 9999 || m < 0 || m > 11 || d < 1 ||
	    d > month_days(y, m) || hh < 0 || hh > 23 || mm < 0 || mm > 59 ||
	    ss < 0 || ss > 59)
		return (-1);
	n = days_before_year(y) + d - 1;
	for (i = 0; i < m; i++)
		n += month_days(y, i);
	*t = n * DAY + hh * 3600 + mm * 60 + ss;
	return (0);
}

static void
from_seconds(int64_t t, struct tm *tm)
{
	int64_t n, y;
	int m = 0;

	if (t < 0)
		t = 0;
	if (t >= TIME_END)
		t = TIME_END - 1;
	n = t / DAY;
	tm->tm_wday = (int)((n + 4) % 7);
	tm->tm_hour = (int)(t % DAY / 3600);
	tm->tm_min = (int)(t % 3600 / 60);
	tm->tm_sec = (int)(t % 60);
	y = 1970 + n / 366;
	while (days_before_year(y + 1) <= n)
		y++;
	n -= days_before_year(y);
	while (n >= month_days(y, m))
		n -= month_days(y, m++);
	tm->tm_year = (int)y;
	tm->tm_mon = m;
	tm->tm_mday = (int)n + 1;
}

/* n digits at s, or -1. */
static int
digits(const char *s, int n)
{
	int v = 0;

	for (; n > 0; n--, s++) {
		if (*s < '0' || *s > '9')
			return (-1);
		v = v * 10 + (*s - '0');
	}
	return (v);
}

char *
date_iso(int64_t t, char out[DATE_ISO])
{
	struct tm tm;

	from_seconds(t, &tm);
	CHECK(snprintf(out, DATE_ISO, "%04u-%02u-%02uT%02u:%02u:%02uZ",
	    (unsigned)tm.tm_year, (unsigned)tm.tm_mon + 1,
	    (unsigned)tm.tm_mday, (unsigned)tm.tm_hour, (unsigned)tm.tm_min,
	    (unsigned)tm.tm_sec) == DATE_ISO - 1);
	return (out);
}

int
date_iso_parse(const char *s, size_t len, int64_t *t)
{
	int year;

	if (len != DATE_ISO - 1 || s[4] != '-' || s[7] != '-' ||
	    s[10] != 'T' || s[13] != ':' || s[16] != ':' || s[19] != 'Z')
		return (-1);
	if ((year = digits(s, 4)) < 1970)
		return (-1);
	return (to_seconds(year, digits(s + 5, 2) - 1,
	    digits(s + 8, 2), digits(s + 11, 2), digits(s + 14, 2),
	    digits(s + 17, 2), t));
}

char *
date_http(int64_t t, char out[DATE_HTTP])
{
	struct tm tm;

	from_seconds(t, &tm);
	CHECK(snprintf(out, DATE_HTTP, "%s, %02u %s %04u %02u:%02u:%02u GMT",
	    days[tm.tm_wday], (unsigned)tm.tm_mday, months[tm.tm_mon],
	    (unsigned)tm.tm_year, (unsigned)tm.tm_hour, (unsigned)tm.tm_min,
	    (unsigned)tm.tm_sec) == DATE_HTTP - 1);
	return (out);
}

static int
month_of(const char *s)
{
	int i;

	for (i = 0; i < 12; i++)
		if (memcmp(s, months[i], 3) == 0)
			return (i);
	return (-1);
}

static int
clock_of(const char *s, int *hh, int *mm, int *ss)
{

	if (s[2] != ':' || s[5] != ':')
		return (-1);
	*hh = digits(s, 2);
	*mm = digits(s + 3, 2);
	*ss = digits(s + 6, 2);
	if (*hh == 23 && *mm == 59 && *ss == 60)	/* a leap second */
		*ss = 59;
	return (0);
}

/* Sun, 06 Nov 1994 08:49:37 GMT */
static int
imf_fixdate(const char *s, int64_t *t)
{
	int hh, mm, ss, i;

	for (i = 0; i < 7 && memcmp(s, days[i], 3) != 0; i++)
		continue;
	if (i == 7 || memcmp(s + 3, ", ", 2) != 0 || s[7] != ' ' ||
	    s[11] != ' ' || s[16] != ' ' || memcmp(s + 25, " GMT", 4) != 0 ||
	    clock_of(s + 17, &hh, &mm, &ss) == -1)
		return (-1);
	return (to_seconds(digits(s + 12, 4), month_of(s + 8),
	    digits(s + 5, 2), hh, mm, ss, t));
}

/* Sun Nov  6 08:49:37 1994 */
static int
asctime_date(const char *s, int64_t *t)
{
	int hh, mm, ss, d;

	if (s[3] != ' ' || s[7] != ' ' || s[10] != ' ' || s[19] != ' ' ||
	    clock_of(s + 11, &hh, &mm, &ss) == -1)
		return (-1);
	d = s[8] == ' ' ? digits(s + 9, 1) : digits(s + 8, 2);
	return (to_seconds(digits(s + 20, 4), month_of(s + 4), d, hh, mm, ss,
	    t));
}

/* Sunday, 06-Nov-94 08:49:37 GMT */
static int
rfc850_date(const char *s, size_t len, int64_t *t)
{
	const char *c;
	struct tm now;
	int hh, mm, ss, y;

	if ((c = memchr(s, ',', len)) == NULL ||
	    len - (size_t)(c - s) != 24 || c[1] != ' ' || c[4] != '-' ||
	    c[8] != '-' || c[11] != ' ' || memcmp(c + 20, " GMT", 4) != 0 ||
	    clock_of(c + 12, &hh, &mm, &ss) == -1 ||
	    (y = digits(c + 9, 2)) == -1)
		return (-1);
	/* RFC 9110, 5.6.7: more than 50 years ahead means the past. */
	from_seconds(clock_real(), &now);
	y += now.tm_year - now.tm_year % 100;
	if (y > now.tm_year + 50)
		y -= 100;
	return (to_seconds(y, month_of(c + 5), digits(c + 2, 2), hh, mm, ss,
	    t));
}

int
date_http_parse(const char *s, size_t len, int64_t *t)
{

	if (len == DATE_HTTP - 1 && s[3] == ',')
		return (imf_fixdate(s, t));
	if (len == 24 && s[3] == ' ')
		return (asctime_date(s, t));
	if (len >= 30 && len <= 33)
		return (rfc850_date(s, len, t));
	return (-1);
}
