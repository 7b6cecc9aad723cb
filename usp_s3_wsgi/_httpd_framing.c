/*
 * Where S3's body ends, and which bytes of the object it brings. mod_proxy repairs what must be refused: of "Content-Length: -1"
 * it makes an empty body, of a status of four digits one of three, and it drops a length beside Transfer-Encoding. So the
 * header is read here as it comes. https://www.rfc-editor.org/rfc/rfc9112#section-6
 */

#include "_httpd.h"

/* More digits are no length of an object; as in framing.py. */
#define MOST_DIGITS 18

static ap_filter_rec_t *header_filter_handle;

/* ---------------------------------------------------------------- the header, line by line */

/* Read a number of at most MOST_DIGITS; returns what follows it, NULL where there is none. */
static const char *read_number(const char *text, apr_int64_t *number)
{
    int digits;

    *number = 0;
    for (digits = 0; digits < MOST_DIGITS && apr_isdigit(text[digits]); digits++)
        *number = *number * 10 + (text[digits] - '0');
    return digits && !apr_isdigit(text[digits]) ? text + digits : NULL;
}

static const char *behind_space(const char *text)
{
    return text + strspn(text, " \t");
}

/* HTTP/1.1 200 OK, as in strict_http.py. */
static void take_status_line(usp_s3_header *header)
{
    const char *text = header->line, *status, *end;
    apr_int64_t number;

    if (strncmp(text, "HTTP/1.", 7) != 0 || !apr_isdigit(text[7]) || (text[8] != ' ' && text[8] != '\t'))
        return;
    status = behind_space(text + 8);
    end = read_number(status, &number);
    if (end != status + 3 || *status == '0' || (*end && *end != ' ' && *end != '\t'))
        return;
    header->status = (int)number;
    header->is_old = text[7] == '0';
}

/* The value of a field of that name, NULL where the line is another one. */
static const char *value_of(const char *line, const char *name)
{
    apr_size_t length = strlen(name);
    const char *colon;

    if (ap_cstr_casecmpn(line, name, length) != 0)
        return NULL;
    colon = behind_space(line + length);
    return *colon == ':' ? behind_space(colon + 1) : NULL;
}

static void take_field(usp_s3_header *header)
{
    const char *length = value_of(header->line, "Content-Length"), *coding = value_of(header->line, "Transfer-Encoding"), *end;
    apr_int64_t number;

    if (header->is_about_end && *header->line && behind_space(header->line) != header->line)
        header->doubt = "S3 sent a Content-Length or Transfer-Encoding in several lines";
    header->is_about_end = length || coding;
    if (length) {
        end = read_number(length, &number);
        if (header->has_length || !end || *behind_space(end))
            header->doubt = header->has_length ? "S3 sent several Content-Lengths" : "S3 sent a Content-Length that is no number";
        header->has_length = 1;
    }
    /* "chunked " is another coding for whoever does not strip it. */
    if (coding && (header->has_coding || ap_cstr_casecmp(coding, "chunked") != 0))
        header->doubt = "S3 sent a Transfer-Encoding other than chunked alone";
    if (coding)
        header->has_coding = 1;
    if (header->has_coding && (header->has_length || header->is_old))
        header->doubt = "S3 sent a Transfer-Encoding other than chunked alone";
}

/* Take a line that is whole; returns whether it ends the header of the final answer, or is none. */
static int take_line(usp_s3_header *header)
{
    if (!header->status) {
        if (*header->line)
            take_status_line(header); /* mod_proxy reads over an empty line before it */
        return *header->line && !header->status;
    }
    if (*header->line) {
        take_field(header);
        return 0;
    }
    if (!ap_is_HTTP_INFO(header->status) || header->status == HTTP_SWITCHING_PROTOCOLS)
        return 1;
    memset(header, 0, sizeof(*header)); /* 100 or 103: the next header is to come */
    return 0;
}

static int take_bytes(usp_s3_header *header, const char *data, apr_size_t size)
{
    for (; size; data++, size--) {
        if (++header->whole > header->longest)
            header->longest = header->whole;
        if (*data != '\n') {
            if (header->length < sizeof(header->line) - 1)
                header->line[header->length++] = *data;
            continue;
        }
        if (header->length && header->line[header->length - 1] == '\r')
            header->length--;
        header->line[header->length] = '\0';
        header->length = header->whole = 0;
        if (take_line(header))
            return 1;
    }
    return 0;
}

/* See the lines of S3's header go by. */
static apr_status_t header_filter(ap_filter_t *filter, apr_bucket_brigade *brigade, ap_input_mode_t mode,
                                  apr_read_type_e block, apr_off_t bytes)
{
    signed_request *request = filter->ctx;
    apr_status_t status = ap_get_brigade(filter->next, brigade, mode, block, bytes);
    apr_bucket *bucket;
    int is_over = !request; /* SetInputFilter: it is nobody's to name */

    if (status != APR_SUCCESS || (request && mode != AP_MODE_GETLINE))
        return status;
    for (bucket = APR_BRIGADE_FIRST(brigade); bucket != APR_BRIGADE_SENTINEL(brigade) && !is_over;
         bucket = APR_BUCKET_NEXT(bucket)) {
        const char *data;
        apr_size_t size;

        if (!APR_BUCKET_IS_METADATA(bucket) && apr_bucket_read(bucket, &data, &size, APR_BLOCK_READ) == APR_SUCCESS)
            is_over = take_bytes(&request->header, data, size);
    }
    if (is_over)
        ap_remove_input_filter(filter);
    return status;
}

/* mod_proxy has made a request of its own, by whose filters it will read S3's answer. */
static int watch_header(request_rec *r, request_rec *from_s3)
{
    signed_request *request = usp_s3_sent(r);

    if (!request)
        return DECLINED;
    ap_add_input_filter_handle(header_filter_handle, request, from_s3, from_s3->connection);
    return OK;
}

const char *usp_s3_doubt_of_end(request_rec *r, const signed_request *request)
{
    const usp_s3_header *header = &request->header;

    if (!header->status)
        return "S3 sent what is not HTTP";
    if (r->status != HTTP_OK && r->status != HTTP_PARTIAL_CONTENT)
        return NULL;
    if (header->doubt || r->header_only || header->has_length)
        return header->doubt;
    if (!header->has_coding || usp_s3_client(r)->proto_num < HTTP_VERSION(1, 1))
        return "S3 sent a body without Content-Length, whose early end could not be told";
    return NULL;
}

/* ---------------------------------------------------------------- the part */

/* bytes=5-9 */
static int read_range(const char *range, apr_int64_t *first, apr_int64_t *last)
{
    if (strncmp(range, "bytes=", 6) != 0 || !(range = read_number(range + 6, first)) || *range++ != '-')
        return 0;
    *last = APR_INT64_MAX;
    return !*range || ((range = read_number(range, last)) && !*range);
}

/* bytes 5-9/100 */
static int read_content_range(const char *stated, apr_int64_t *first, apr_int64_t *last, apr_int64_t *total)
{
    return strncmp(stated, "bytes ", 6) == 0 && (stated = read_number(stated + 6, first)) && *stated++ == '-'
           && (stated = read_number(stated, last)) && *stated++ == '/' && (stated = read_number(stated, total)) && !*stated;
}

/* Whether a 206 is the part that was asked for, as nearly all are; whatever else it may be is for Python to judge. */
static int is_part_asked_for(request_rec *r, const signed_request *request)
{
    const char *stated = apr_table_get(r->headers_out, "Content-Range");
    const char *length = apr_table_get(r->headers_out, "Content-Length"), *end;
    apr_int64_t begin, until, first, last, total, size;

    return request->range && !request->if_range && stated && length && read_range(request->range, &begin, &until)
           && read_content_range(stated, &first, &last, &total) && (end = read_number(length, &size)) && !*end
           && first == begin && first <= last && last <= until && last < total && size == last - first + 1;
}

static int is_of_several(request_rec *r, const signed_request *request)
{
    return request->range && strchr(request->range, ',') && r->content_type
           && ap_cstr_casecmpn(r->content_type, "multipart/byteranges", 20) == 0;
}

const char *usp_s3_doubt_of_part(request_rec *r, signed_request *request)
{
    switch (r->status) {
    case HTTP_OK:
        return apr_table_get(r->headers_out, "Content-Range") || is_of_several(r, request) ? usp_s3_judge_part(r, request) : NULL;
    case HTTP_PARTIAL_CONTENT:
        return is_part_asked_for(r, request) ? NULL : usp_s3_judge_part(r, request);
    case HTTP_RANGE_NOT_SATISFIABLE:
        return request->if_range ? usp_s3_judge_part(r, request) : NULL;
    case HTTP_NOT_IMPLEMENTED:
        return request->range ? usp_s3_judge_part(r, request) : NULL;
    }
    return NULL;
}

int usp_s3_ends_early(signed_request *request, apr_bucket_brigade *brigade)
{
    apr_bucket *bucket;

    if (!request->is_counted)
        return 0;
    for (bucket = APR_BRIGADE_FIRST(brigade); bucket != APR_BRIGADE_SENTINEL(brigade); bucket = APR_BUCKET_NEXT(bucket)) {
        const char *data;
        apr_size_t size;

        if (APR_BUCKET_IS_EOS(bucket))
            return request->left > 0;
        if (APR_BUCKET_IS_METADATA(bucket) || apr_bucket_read(bucket, &data, &size, APR_BLOCK_READ) != APR_SUCCESS)
            continue;
        request->left -= (apr_int64_t)size;
        if (request->left < 0) { /* nothing of what may be another object's */
            apr_brigade_cleanup(brigade);
            return 1;
        }
    }
    return 0;
}

void usp_s3_register_framing(void)
{
    APR_OPTIONAL_HOOK(proxy, create_req, watch_header, NULL, NULL, APR_HOOK_MIDDLE);
    header_filter_handle = ap_register_input_filter("USP_S3_HEADER", header_filter, NULL, AP_FTYPE_PROTOCOL);
}
