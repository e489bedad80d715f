/* SPDX-License-Identifier: MIT
 * Clocks and the one way time is written. gmtime_r(3) would read the zone file on first use; the
 * civil date is computed here instead (days since 0000-03-01 in 400-year eras), which needs no file
 * and no lock. */
#include "base/clock.h"

#include <time.h>

#include "base/attr.h"

#define DAY_MS        INT64_C(86400000)
#define DAYS_TO_1970  INT64_C(719468) /* from 0000-03-01 */
#define DAYS_PER_ERA  INT64_C(146097)
#define YEAR_9999_END INT64_C(253402300799999)
#define YEAR_0        INT64_C(-62167219200000)

static int64_t
now_us(clockid_t id)
{
	struct timespec t;
	(void)clock_gettime(id, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int64_t
clock_wall_ms(void)
{
	return now_us(CLOCK_REALTIME) / 1000;
}

int64_t
clock_mono_ms(void)
{
	return now_us(CLOCK_MONOTONIC) / 1000;
}

int64_t
clock_mono_us(void)
{
	return now_us(CLOCK_MONOTONIC);
}

static void
put_digits(char *at, int width, int64_t value)
{
	for (int i = width - 1; i >= 0; i--) {
		at[i] = (char)('0' + value % 10);
		value /= 10;
	}
}

const char *
clock_text(int64_t wall_ms, char out[CLOCK_TEXT_SIZE])
{
	wall_ms = MAX(YEAR_0, MIN(YEAR_9999_END, wall_ms));
	int64_t days = wall_ms / DAY_MS - (wall_ms % DAY_MS < 0);
	int64_t ms = wall_ms - days * DAY_MS;

	int64_t z = days + DAYS_TO_1970;
	int64_t era = (z >= 0 ? z : z - (DAYS_PER_ERA - 1)) / DAYS_PER_ERA;
	int64_t doe = z - era * DAYS_PER_ERA;
	int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
	int64_t mp = (5 * doy + 2) / 153; /* month counted from March */
	int64_t month = mp < 10 ? mp + 3 : mp - 9;

	put_digits(out, 4, yoe + era * 400 + (month <= 2));
	out[4] = '-';
	put_digits(out + 5, 2, month);
	out[7] = '-';
	put_digits(out + 8, 2, doy - (153 * mp + 2) / 5 + 1);
	out[10] = 'T';
	put_digits(out + 11, 2, ms / 3600000);
	out[13] = ':';
	put_digits(out + 14, 2, ms / 60000 % 60);
	out[16] = ':';
	put_digits(out + 17, 2, ms / 1000 % 60);
	out[19] = '.';
	put_digits(out + 20, 3, ms % 1000);
	out[23] = 'Z';
	out[24] = '\0';
	return out;
}
