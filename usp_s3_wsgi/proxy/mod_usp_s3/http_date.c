/* The dates in HTTP headers, as in http_date.py: https://www.rfc-editor.org/rfc/rfc9110#section-5.6.7 */

#define _DEFAULT_SOURCE /* timegm: APR's own function has no dates before 1970 */

#include "mod_usp_s3.h"

#include "apr_date.h"

#include <time.h>

static const char *const days[] = {"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", NULL};
static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec", NULL};

static int index_of(const char *const *names, const char *text, apr_size_t length)
{
    int i;

    for (i = 0; names[i]; i++) {
        if ((length == 3 || strlen(names[i]) == length) && strncmp(names[i], text, length) == 0)
            return i;
    }
    return -1;
}

static int parse_number(const char *text, int digits)
{
    int number = 0;

    for (; digits; digits--, text++)
        number = number * 10 + (*text == ' ' ? 0 : *text - '0');
    return number;
}

/* Parse the parts of a date. Returns whether there is such a day and time. */
static int parse_date(struct tm *date, const char *day, const char *month, const char *year, int digits, const char *time)
{
    static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int full_year = parse_number(year, digits), is_leap;

    if (digits == 2)
        full_year += full_year < 70 ? 2000 : 1900; /* as httpd does */
    is_leap = full_year % 4 == 0 && (full_year % 100 != 0 || full_year % 400 == 0);
    memset(date, 0, sizeof(*date));
    date->tm_year = full_year - 1900;
    date->tm_mon = index_of(months, month, 3);
    date->tm_mday = parse_number(day, 2);
    date->tm_hour = parse_number(time, 2);
    date->tm_min = parse_number(time + 3, 2);
    date->tm_sec = parse_number(time + 6, 2);
    return full_year > 0 && date->tm_mon >= 0 && date->tm_mday >= 1
           && date->tm_mday <= lengths[date->tm_mon] + (is_leap && date->tm_mon == 1) && date->tm_hour < 24 && date->tm_min < 60
           && date->tm_sec <= 60;
}

const char *usp_s3_normalize_http_date(apr_pool_t *pool, const char *text)
{
    const char *comma = strchr(text, ',');
    struct tm date;
    char *normalized;
    int is_valid;

    if (apr_date_checkmask(text, "@$$, ## @$$ #### ##:##:## GMT"))
        return index_of(days, text, 3) >= 0 && parse_date(&date, text + 5, text + 8, text + 12, 4, text + 17) ? text : NULL;
    if (comma && apr_date_checkmask(comma, ", ##-@$$-## ##:##:## GMT"))
        is_valid = comma - text > 3 && index_of(days, text, (apr_size_t)(comma - text)) >= 0
                   && parse_date(&date, comma + 2, comma + 5, comma + 9, 2, comma + 12);
    else
        is_valid = apr_date_checkmask(text, "@$$ @$$ ~# ##:##:## ####") && index_of(days, text, 3) >= 0
                   && parse_date(&date, text + 8, text + 4, text + 20, 4, text + 11);
    if (is_valid && date.tm_sec == 60)
        date.tm_sec = 59;
    if (!is_valid)
        return NULL;
    normalized = apr_palloc(pool, APR_RFC822_DATE_LEN);
    apr_rfc822_date(normalized, apr_time_from_sec(timegm(&date)));
    return normalized;
}
