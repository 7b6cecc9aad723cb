/*
 * A stand-in for Unified Origin: its handler reads an object in a bucket by ranges, in subrequests through mod_proxy, and
 * answers with what it has put together. First the index, then the samples whose places are in the index.
 *
 *   <Location /origin>
 *     SetHandler reading-origin
 *     OriginReads http://bucket.example/ reverse
 *   </Location>
 *
 * GET /origin/KEY answers with all samples of the object KEY, GET /origin/KEY?3-5 with samples 3 to 5 (from 0). Each sample is
 * one subrequest with a Range of its own. An output filter keeps the bytes of a subrequest in memory: the client gets nothing
 * before all of them are there. If a subrequest fails, the answer is 404 or 502, and the error log says which one failed.
 *
 * The bytes themselves are not checked: that they are those of the object is what the tests are for. With the header X-Show
 * the answer is what this module can see of the last subrequest and of its own request.
 *
 * The object (tests/chain/samples.py writes it; numbers are 64 bits, the first byte is the highest):
 *
 *   "SAMPLES1", offset of the table, number of samples
 *   the samples, in any order
 *   the table: offset and length of each sample
 *   "SAMPLES1"
 */

#include "httpd.h"
#include "http_config.h"
#include "http_connection.h"
#include "http_core.h"
#include "http_log.h"
#include "http_protocol.h"
#include "http_request.h"
#include "apr_strings.h"
#include "util_filter.h"

extern module AP_MODULE_DECLARE_DATA reading_origin_module;
APLOG_USE_MODULE(reading_origin);

#define MAGIC "SAMPLES1"
#define MAGIC_LENGTH 8
#define HEADER_LENGTH 24
#define ENTRY_LENGTH 16
#define MAX_SAMPLES 4096
#define MAX_LENGTH (256 * 1024 * 1024)

/* What the lines of a <Location> say. */
typedef struct {
    const char *path; /* of the <Location> */
    const char *url;
    int proxyreq;
} section;

/* The body of a subrequest. ``wanted``: the number of bytes of its Range. */
typedef struct {
    unsigned char *data;
    apr_size_t length, wanted;
    int has_ended;
    int is_broken; /* an error, the end of the connection, or more bytes than wanted */
} part_body;

/* One request of a client. ``etag``: of the first subrequest. ``shown``: the text for X-Show, or NULL. */
typedef struct {
    request_rec *r;
    const section *here;
    const char *url, *etag;
    apr_array_header_t *shown;
} reading;

static ap_filter_rec_t *keep_body_handle;

static void *create_section(apr_pool_t *pool, char *path)
{
    section *made = apr_pcalloc(pool, sizeof(section));

    made->path = path;
    return made;
}

static void *merge_sections(apr_pool_t *pool, void *outer, void *inner)
{
    (void)pool;
    return ((section *)inner)->url ? inner : outer;
}

static const char *set_reads(cmd_parms *command, void *made, const char *url, const char *direction)
{
    section *here = made;

    (void)command;
    here->url = url;
    here->proxyreq = strcmp(direction, "forward") == 0 ? PROXYREQ_PROXY : PROXYREQ_REVERSE;
    return NULL;
}

static const command_rec commands[] = {
    AP_INIT_TAKE2("OriginReads", set_reads, NULL, ACCESS_CONF, "the URL of the bucket, and forward or reverse"),
    {NULL},
};

/* The output filter of a subrequest: keeps its body, and passes nothing on. */
static apr_status_t keep_body(ap_filter_t *filter, apr_bucket_brigade *brigade)
{
    part_body *body = filter->ctx;
    apr_bucket *bucket;

    for (bucket = APR_BRIGADE_FIRST(brigade); bucket != APR_BRIGADE_SENTINEL(brigade); bucket = APR_BUCKET_NEXT(bucket)) {
        const char *data;
        apr_size_t length;

        if (APR_BUCKET_IS_EOS(bucket)) {
            body->has_ended = 1;
        }
        else if (AP_BUCKET_IS_ERROR(bucket) || AP_BUCKET_IS_EOC(bucket)) {
            body->is_broken = 1;
        }
        else if (!APR_BUCKET_IS_METADATA(bucket)) {
            apr_status_t status = apr_bucket_read(bucket, &data, &length, APR_BLOCK_READ);

            if (status != APR_SUCCESS || length > body->wanted - body->length) {
                body->is_broken = 1;
                apr_brigade_cleanup(brigade);
                return status != APR_SUCCESS ? status : APR_ENOSPC;
            }
            memcpy(body->data + body->length, data, length);
            body->length += length;
        }
    }
    apr_brigade_cleanup(brigade);
    return APR_SUCCESS;
}

static int show_row(void *shown, const char *name, const char *value)
{
    apr_array_header_t *lines = shown;

    APR_ARRAY_PUSH(lines, const char *) = apr_pstrcat(lines->pool, name, ": ", value ? value : "", "\n", NULL);
    return 1;
}

/* Add all that a module can see of a request. */
static void show(apr_array_header_t *shown, const char *title, const request_rec *r)
{
    show_row(shown, "request", title);
    show_row(shown, "uri", r->uri);
    show_row(shown, "unparsed_uri", r->unparsed_uri);
    show_row(shown, "the_request", r->the_request);
    show_row(shown, "filename", r->filename);
    show_row(shown, "path_info", r->path_info);
    show_row(shown, "args", r->args);
    show_row(shown, "user", r->user);
    apr_table_do(show_row, shown, r->headers_in, NULL);
    apr_table_do(show_row, shown, r->headers_out, NULL);
    apr_table_do(show_row, shown, r->err_headers_out, NULL);
    apr_table_do(show_row, shown, r->subprocess_env, NULL);
    apr_table_do(show_row, shown, r->notes, NULL);
}

/* Whether a subrequest brought what was wanted, all of it, and of the object of the subrequests before it. */
static int is_wanted(reading *job, const request_rec *part, int returned, const part_body *body)
{
    const char *etag = apr_table_get(part->headers_out, "ETag");

    if (returned != OK || part->status != HTTP_PARTIAL_CONTENT || !body->has_ended || body->is_broken
        || body->length != body->wanted)
        return 0;
    if (!job->etag)
        job->etag = apr_pstrdup(job->r->pool, etag ? etag : "");
    return strcmp(job->etag, etag ? etag : "") == 0;
}

/* Read a range in a subrequest. Returns OK or the status for the client. */
static int read_range(reading *job, const char *range, apr_uint64_t wanted, part_body *body)
{
    request_rec *r = job->r, *part = ap_sub_req_lookup_uri(r->uri, r, r->output_filters);
    int returned, status = OK;

    memset(body, 0, sizeof(*body));
    body->wanted = (apr_size_t)wanted;
    body->data = apr_palloc(r->pool, body->wanted + 1);
    part->filename = apr_pstrcat(part->pool, "proxy:", job->url, NULL);
    part->handler = "proxy-server";
    part->proxyreq = job->here->proxyreq;
    part->args = NULL;
    /* A subrequest shares this table with its main request, whose response would be cut to the same range. */
    part->headers_in = apr_table_copy(part->pool, part->headers_in);
    apr_table_set(part->headers_in, "Range", range);
    apr_table_unset(part->headers_in, "If-Range");
    ap_add_output_filter_handle(keep_body_handle, body, part, part->connection);
    returned = ap_run_sub_req(part);
    if (job->shown) {
        apr_array_clear(job->shown);
        show(job->shown, "of the subrequest", part);
        show(job->shown, "of the client", r);
    }
    if (!is_wanted(job, part, returned, body)) {
        ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r,
                      "reading_origin: %s of %s: returned %d, status %d, %" APR_SIZE_T_FMT " of %" APR_SIZE_T_FMT " bytes%s%s",
                      range, r->uri, returned, part->status, body->length, body->wanted, body->has_ended ? "" : ", no end",
                      body->is_broken ? ", broken" : "");
        status = part->status == HTTP_NOT_FOUND ? HTTP_NOT_FOUND : HTTP_BAD_GATEWAY;
    }
    ap_destroy_sub_req(part);
    return status;
}

static int read_between(reading *job, apr_uint64_t offset, apr_uint64_t length, part_body *body)
{
    const char *range = apr_psprintf(job->r->pool, "bytes=%" APR_UINT64_T_FMT "-%" APR_UINT64_T_FMT, offset,
                                     offset + length - 1);

    return read_range(job, range, length, body);
}

static apr_uint64_t number(const unsigned char *data)
{
    apr_uint64_t value = 0;
    int index;

    for (index = 0; index < 8; index++)
        value = value << 8 | data[index];
    return value;
}

/* Read the index. Returns OK or the status for the client. */
static int read_table(reading *job, part_body *table)
{
    part_body header, end;
    apr_uint64_t offset, samples;
    int status;

    if ((status = read_between(job, 0, HEADER_LENGTH, &header)) != OK)
        return status;
    if ((status = read_range(job, "bytes=-8", MAGIC_LENGTH, &end)) != OK)
        return status;
    offset = number(header.data + 8);
    samples = number(header.data + 16);
    if (memcmp(header.data, MAGIC, MAGIC_LENGTH) != 0 || memcmp(end.data, MAGIC, MAGIC_LENGTH) != 0 || samples < 1
        || samples > MAX_SAMPLES) {
        ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, job->r, "reading_origin: not an index");
        return HTTP_BAD_GATEWAY;
    }
    return read_between(job, offset, samples * ENTRY_LENGTH, table);
}

/* The numbers of the first and the last sample, from the query. Returns whether it is valid. */
static int parse_query(const char *query, apr_uint64_t samples, apr_uint64_t *first, apr_uint64_t *last)
{
    char *end;

    *first = 0;
    *last = samples - 1;
    if (!query)
        return 1;
    *first = (apr_uint64_t)apr_strtoi64(query, &end, 10);
    if (end == query || *end != '-')
        return 0;
    query = end + 1;
    *last = (apr_uint64_t)apr_strtoi64(query, &end, 10);
    return end != query && !*end && *first <= *last && *last < samples;
}

static int send_answer(request_rec *r, apr_bucket_brigade *answer, apr_off_t length)
{
    apr_status_t status;

    ap_set_content_type(r, "application/octet-stream");
    ap_set_content_length(r, length);
    APR_BRIGADE_INSERT_TAIL(answer, apr_bucket_eos_create(r->connection->bucket_alloc));
    status = ap_pass_brigade(r->output_filters, answer);
    return status == APR_SUCCESS || r->status != HTTP_OK || r->connection->aborted ? OK : HTTP_INTERNAL_SERVER_ERROR;
}

static int answer_with_samples(request_rec *r)
{
    reading job = {r, ap_get_module_config(r->per_dir_config, &reading_origin_module), NULL, NULL, NULL};
    apr_bucket_brigade *answer;
    apr_uint64_t sample, first, last, total = 0;
    part_body table, body;
    int status;

    if (!r->handler || strcmp(r->handler, "reading-origin") != 0 || !job.here->url || r->main)
        return DECLINED;
    if (r->method_number != M_GET)
        return HTTP_METHOD_NOT_ALLOWED;
    if (apr_table_get(r->headers_in, "X-Show"))
        job.shown = apr_array_make(r->pool, 50, sizeof(const char *));
    job.url = apr_pstrcat(r->pool, job.here->url, ap_escape_uri(r->pool, r->uri + strlen(job.here->path) + 1), NULL);
    if ((status = read_table(&job, &table)) != OK)
        return status;
    if (!parse_query(r->args, table.length / ENTRY_LENGTH, &first, &last))
        return HTTP_BAD_REQUEST;
    answer = apr_brigade_create(r->pool, r->connection->bucket_alloc);
    for (sample = first; sample <= last; sample++) {
        const unsigned char *entry = table.data + sample * ENTRY_LENGTH;
        apr_uint64_t length = number(entry + 8);

        if (length < 1 || length > MAX_LENGTH || (total += length) > MAX_LENGTH) {
            ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r, "reading_origin: not the length of a sample");
            return HTTP_BAD_GATEWAY;
        }
        if ((status = read_between(&job, number(entry), length, &body)) != OK)
            return status;
        APR_BRIGADE_INSERT_TAIL(
            answer, apr_bucket_pool_create((const char *)body.data, body.length, r->pool, r->connection->bucket_alloc));
    }
    if (job.shown) {
        const char *shown = apr_array_pstrcat(r->pool, job.shown, 0);

        apr_brigade_cleanup(answer);
        total = strlen(shown);
        APR_BRIGADE_INSERT_TAIL(answer, apr_bucket_pool_create(shown, total, r->pool, r->connection->bucket_alloc));
    }
    return send_answer(r, answer, (apr_off_t)total);
}

static void register_hooks(apr_pool_t *pool)
{
    (void)pool;
    ap_hook_handler(answer_with_samples, NULL, NULL, APR_HOOK_MIDDLE);
    /* After the filters that change a body, before those of the main request. */
    keep_body_handle = ap_register_output_filter("READING_ORIGIN", keep_body, NULL, AP_FTYPE_CONTENT_SET - 1);
}

module AP_MODULE_DECLARE_DATA reading_origin_module = {
    STANDARD20_MODULE_STUFF, create_section, merge_sections, NULL, NULL, commands, register_hooks, 0,
};
