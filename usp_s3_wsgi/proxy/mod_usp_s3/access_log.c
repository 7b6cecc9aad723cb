/*
 * What is known of a request's exchanges with S3, in its access log: %{usp_s3_...}n in a LogFormat, and %{...}^JS with the same
 * names for a log in JSON.
 *
 * The exchanges of subrequests count for the client's request: httpd logs no subrequests, and frees them before it logs.
 */

#include "metrics.h"
#include "mod_usp_s3.h"

#include "mod_log_config.h"

/* ---------------------------------------------------------------- the totals of a request */

/* Those of the client's request, created if there are none yet. */
static usp_s3_totals *totals_of(request_rec *r)
{
    request_rec *client = usp_s3_main_request(r);
    usp_s3_request_config *config = usp_s3_get_request_config(client);

    if (!config->totals)
        config->totals = apr_pcalloc(client->pool, sizeof(*config->totals));
    return config->totals;
}

void usp_s3_record_for_request(request_rec *r, const usp_s3_exchange *exchange)
{
    if (!usp_s3_is_recording())
        return;
    usp_s3_record_exchange(exchange);
    usp_s3_add_to_totals(totals_of(r), exchange);
}

static apr_status_t abandon_slot(void *token)
{
    usp_s3_totals unused;

    usp_s3_close_slot(token, &unused);
    return APR_SUCCESS;
}

const char *usp_s3_get_slot_token(request_rec *r)
{
    usp_s3_request_config *config = usp_s3_get_request_config(r);

    if (!*config->slot_token) {
        usp_s3_open_slot(config->slot_token);
        /* If another module's handler serves the request, nobody collects the slot. */
        if (usp_s3_is_recording())
            apr_pool_cleanup_register(r->pool, config->slot_token, abandon_slot, apr_pool_cleanup_null);
    }
    return config->slot_token;
}

/* Add later totals to earlier ones. */
static void merge(usp_s3_totals *to, const usp_s3_totals *later)
{
    int i;

    if (*later->last.error || !*to->last.error)
        to->last = later->last;
    to->exchanges += later->exchanges;
    for (i = 0; i < USP_S3_COUNTERS; i++)
        to->counters[i] += later->counters[i];
    if (!to->first_byte)
        to->first_byte = later->first_byte;
    to->duration += later->duration;
}

void usp_s3_collect_slot(request_rec *r)
{
    usp_s3_request_config *config = usp_s3_get_request_config(r);
    usp_s3_totals totals;

    if (usp_s3_close_slot(config->slot_token, &totals))
        merge(totals_of(r), &totals);
}

/* ---------------------------------------------------------------- fields */

/* All names of fields begin so. */
#define FIELD_PREFIX "usp_s3_"

/* A field of the access log. Each function returns NULL if there is no value. */
typedef struct {
    const char *name;
    int is_number;
    const char *(*get)(apr_pool_t *pool, const usp_s3_totals *totals);
} field;

static const char *text_or_null(const char *text)
{
    return *text ? text : NULL;
}

static const char *number_text(apr_pool_t *pool, apr_uint64_t number)
{
    char digits[24], *first = digits + sizeof(digits);

    do
        *--first = (char)('0' + number % 10);
    while (number /= 10);
    return apr_pstrmemdup(pool, first, (apr_size_t)(digits + sizeof(digits) - first));
}

static const char *get_way(apr_pool_t *pool, const usp_s3_totals *totals)
{
    (void)pool;
    return totals->last.way == USP_S3_GATEWAY ? "gateway" : "proxy";
}

static const char *get_bucket(apr_pool_t *pool, const usp_s3_totals *totals)
{
    (void)pool;
    return text_or_null(totals->last.bucket);
}

static const char *get_host(apr_pool_t *pool, const usp_s3_totals *totals)
{
    (void)pool;
    return text_or_null(totals->last.host);
}

static const char *get_status(apr_pool_t *pool, const usp_s3_totals *totals)
{
    return totals->last.s3_status ? number_text(pool, (apr_uint64_t)totals->last.s3_status) : NULL;
}

static const char *get_code(apr_pool_t *pool, const usp_s3_totals *totals)
{
    (void)pool;
    return text_or_null(totals->last.s3_code);
}

static const char *get_request_id(apr_pool_t *pool, const usp_s3_totals *totals)
{
    (void)pool;
    return text_or_null(totals->last.request_id);
}

static const char *get_error(apr_pool_t *pool, const usp_s3_totals *totals)
{
    (void)pool;
    return text_or_null(totals->last.error);
}

static const char *get_exchanges(apr_pool_t *pool, const usp_s3_totals *totals)
{
    return number_text(pool, totals->exchanges);
}

static const char *get_attempts(apr_pool_t *pool, const usp_s3_totals *totals)
{
    return number_text(pool, totals->counters[USP_S3_ATTEMPTS]);
}

static const char *get_resumes(apr_pool_t *pool, const usp_s3_totals *totals)
{
    return number_text(pool, totals->counters[USP_S3_RESUMES]);
}

static const char *get_corrections(apr_pool_t *pool, const usp_s3_totals *totals)
{
    return number_text(pool, totals->counters[USP_S3_CLOCK_CORRECTIONS] + totals->counters[USP_S3_REGION_CORRECTIONS]
                                 + totals->counters[USP_S3_CREDENTIAL_CORRECTIONS]);
}

static const char *get_fallbacks(apr_pool_t *pool, const usp_s3_totals *totals)
{
    return number_text(pool, totals->counters[USP_S3_FALLBACKS]);
}

static const char *get_bytes(apr_pool_t *pool, const usp_s3_totals *totals)
{
    return number_text(pool, totals->counters[USP_S3_BODY_BYTES]);
}

static const char *get_first_byte(apr_pool_t *pool, const usp_s3_totals *totals)
{
    return totals->first_byte ? number_text(pool, totals->first_byte) : NULL;
}

static const char *get_duration(apr_pool_t *pool, const usp_s3_totals *totals)
{
    return number_text(pool, totals->duration);
}

static const char *get_connection(apr_pool_t *pool, const usp_s3_totals *totals)
{
    (void)pool;
    if (!totals->counters[USP_S3_NEW_CONNECTIONS])
        return totals->counters[USP_S3_REUSED_CONNECTIONS] ? "reused" : NULL;
    return totals->counters[USP_S3_REUSED_CONNECTIONS] ? "both" : "new";
}

/* docs/metrics.md describes them. */
static const field fields[] = {
    {"usp_s3_way", 0, get_way},
    {"usp_s3_bucket", 0, get_bucket},
    {"usp_s3_host", 0, get_host},
    {"usp_s3_status", 1, get_status},
    {"usp_s3_code", 0, get_code},
    {"usp_s3_request_id", 0, get_request_id},
    {"usp_s3_error", 0, get_error},
    {"usp_s3_exchanges", 1, get_exchanges},
    {"usp_s3_attempts", 1, get_attempts},
    {"usp_s3_resumes", 1, get_resumes},
    {"usp_s3_corrections", 1, get_corrections},
    {"usp_s3_fallbacks", 1, get_fallbacks},
    {"usp_s3_bytes", 1, get_bytes},
    {"usp_s3_first_byte_us", 1, get_first_byte},
    {"usp_s3_duration_us", 1, get_duration},
    {"usp_s3_connection", 0, get_connection},
    {NULL, 0, NULL},
};

/* ---------------------------------------------------------------- hook log_transaction: notes */

/* The totals of the client's request r and of its internal redirects; NULL if there was no exchange. */
static const usp_s3_totals *sum_of_redirects(request_rec *r)
{
    usp_s3_totals *sum = NULL;

    for (; r; r = r->next) {
        usp_s3_request_config *config = ap_get_module_config(r->request_config, &usp_s3_module);

        if (!config || !config->totals)
            continue;
        if (sum)
            merge(sum, config->totals);
        else
            sum = config->totals;
    }
    return sum;
}

/* An .htaccess file may have set notes with our names (Header note): they must not pass for ours. */
static void remove_forged_notes(apr_table_t *notes)
{
    const apr_array_header_t *all = apr_table_elts(notes);
    const field *each;
    int i;

    for (i = 0; i < all->nelts; i++) {
        if (strncasecmp(APR_ARRAY_IDX(all, i, apr_table_entry_t).key, FIELD_PREFIX, sizeof(FIELD_PREFIX) - 1) == 0)
            break;
    }
    for (each = fields; i < all->nelts && each->name; each++)
        apr_table_unset(notes, each->name);
}

/* mod_log_config takes notes from the last of the internal redirects. */
static int set_notes(request_rec *r)
{
    const usp_s3_totals *totals;
    const field *each;

    if (!usp_s3_is_recording())
        return DECLINED;
    totals = sum_of_redirects(r);
    while (r->next)
        r = r->next;
    if (totals)
        usp_s3_get_request_config(r)->logged_totals = totals;
    remove_forged_notes(r->notes);
    for (each = fields; totals && each->name; each++) {
        const char *value = each->get(r->pool, totals);

        if (value)
            apr_table_addn(r->notes, each->name, value);
    }
    return DECLINED;
}

/* ---------------------------------------------------------------- JSON */

/* A string of JSON: https://www.rfc-editor.org/rfc/rfc8259#section-7. Bytes beyond ASCII are taken for ISO-8859-1. */
static const char *json_string(apr_pool_t *pool, const char *text)
{
    char *quoted = apr_palloc(pool, 6 * strlen(text) + 3), *end = quoted;

    *end++ = '"';
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;

        if (c == '"' || c == '\\') {
            *end++ = '\\';
            *end++ = (char)c;
        }
        else if (c < ' ' || c > '~')
            end += apr_snprintf(end, 7, "\\u%04x", c);
        else
            *end++ = (char)c;
    }
    *end++ = '"';
    *end = '\0';
    return quoted;
}

/*
 * %{NAME}^JS: a value of JSON, null if there is none. httpd escapes other values in a way that JSON does not know. NAME is a
 * field above, "request" (the request line), "uri" (the path), "user", or a header of the request, such as User-Agent.
 */
static const char *log_json(request_rec *r, char *name)
{
    const char *value;

    if (strncmp(name, FIELD_PREFIX, sizeof(FIELD_PREFIX) - 1) == 0) {
        usp_s3_request_config *config = ap_get_module_config(r->request_config, &usp_s3_module);
        const field *each = fields;

        while (each->name && strcmp(each->name, name) != 0)
            each++;
        value = config && config->logged_totals && each->name ? each->get(r->pool, config->logged_totals) : NULL;
        if (value && each->is_number)
            return value;
    }
    else if (strcmp(name, "request") == 0)
        value = r->the_request;
    else if (strcmp(name, "user") == 0)
        value = r->user;
    else if (strcmp(name, "uri") == 0) {
        while (r->prev)
            r = r->prev;
        value = r->uri;
    }
    else
        value = apr_table_get(r->headers_in, name);
    return value ? json_string(r->pool, value) : "null";
}

static int register_json(apr_pool_t *config, apr_pool_t *log, apr_pool_t *temporary)
{
    APR_OPTIONAL_FN_TYPE(ap_register_log_handler) *add_handler = APR_RETRIEVE_OPTIONAL_FN(ap_register_log_handler);

    (void)log;
    (void)temporary;
    if (add_handler)
        add_handler(config, "^JS", log_json, 0);
    return OK;
}

void usp_s3_register_access_log(void)
{
    static const char *const before[] = {"mod_log_config.c", NULL};

    ap_hook_pre_config(register_json, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_log_transaction(set_notes, NULL, before, APR_HOOK_REALLY_FIRST);
}
