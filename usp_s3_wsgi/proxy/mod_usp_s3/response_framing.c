/*
 * Where S3's body ends, and which bytes of the object it brings. mod_proxy repairs what must be refused: of "Content-Length: -1"
 * it makes an empty body, of a status of four digits one of three, and it drops a length beside Transfer-Encoding. So the
 * header is read here as it comes. https://www.rfc-editor.org/rfc/rfc9112#section-6
 */

#include "mod_usp_s3.h"

/* More digits are no length of an object; as in framing.py. */
#define MOST_DIGITS 18
/* As in strict_http.py. */
#define LARGEST_HEADER 65536
#define NOT_HTTP "S3 sent what is not HTTP"
#define NOT_CHUNKED_ALONE "S3 sent a Transfer-Encoding other than chunked alone"

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
static void parse_status_line(usp_s3_header *header)
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

static void parse_length(usp_s3_header *header, const char *value)
{
    apr_int64_t number;
    const char *end = read_number(value, &number);

    if (header->has_length)
        header->error = "S3 sent several Content-Lengths";
    else if (!end || *behind_space(end) || header->is_cut)
        header->error = "S3 sent a Content-Length that is no number";
    header->has_length = 1;
}

static void parse_coding(usp_s3_header *header, const char *value)
{
    /* "chunked " is another coding for whoever does not strip it. */
    if (header->has_coding || header->is_cut || header->is_old || ap_cstr_casecmp(value, "chunked") != 0)
        header->error = NOT_CHUNKED_ALONE;
    header->has_coding = 1;
}

static void parse_field(usp_s3_header *header)
{
    const char *line = header->line, *colon = strchr(line, ':'), *value;
    apr_size_t length = strcspn(line, ": \t");

    /* mod_proxy joins lines, and takes a name with the white space behind it for another one. */
    if (!colon || !length || line + length != colon) {
        header->error = NOT_HTTP;
        return;
    }
    value = behind_space(colon + 1);
    if (length == 14 && ap_cstr_casecmpn(line, "Content-Length", length) == 0)
        parse_length(header, value);
    else if (length == 17 && ap_cstr_casecmpn(line, "Transfer-Encoding", length) == 0)
        parse_coding(header, value);
    else if (length == 13 && ap_cstr_casecmpn(line, "Content-Range", length) == 0)
        header->has_range = 1;
    else if (length == 16 && ap_cstr_casecmpn(line, "Content-Encoding", length) == 0)
        header->has_content_coding = 1;
    if (header->has_coding && header->has_length && !header->error)
        header->error = NOT_CHUNKED_ALONE;
}

/* Parse a line that is whole; returns whether it ends the header of the final answer, or is none. */
static int parse_line(usp_s3_header *header)
{
    if (!header->status) {
        if (*header->line)
            parse_status_line(header); /* mod_proxy reads over an empty line before it */
        return *header->line && !header->status;
    }
    if (*header->line) {
        parse_field(header);
        return 0;
    }
    if (!ap_is_HTTP_INFO(header->status) || header->status == HTTP_SWITCHING_PROTOCOLS) {
        header->is_over = 1;
        return 1;
    }
    memset(header, 0, sizeof(*header)); /* 100 or 103: the next header is to come */
    return 0;
}

static int parse_bytes(usp_s3_header *header, const char *data, apr_size_t size)
{
    for (; size; data++, size--) {
        header->last_size = ++header->line_size;
        if (++header->size > LARGEST_HEADER) {
            header->error = "S3 sent a header of more than 64 KB";
            return 1;
        }
        if (header->is_after_cr && *data != '\n')
            header->error = NOT_HTTP; /* another reader would take the CR for the line's end */
        header->is_after_cr = *data == '\r';
        if (*data != '\n') {
            if (header->length < sizeof(header->line) - 1)
                header->line[header->length++] = *data;
            else
                header->is_cut = 1;
            continue;
        }
        if (header->length && header->line[header->length - 1] == '\r')
            header->length--;
        header->line[header->length] = '\0';
        if (strlen(header->line) != header->length)
            header->error = NOT_HTTP; /* a NUL */
        if (parse_line(header))
            return 1;
        header->length = header->line_size = 0;
        header->is_cut = 0;
    }
    return 0;
}

/*
 * See the lines of S3's header go by. Where the next answer may not begin where this one ends, reading fails, for which mod_proxy
 * closes the connection to S3; but not for the status line, for which it would end the client's one too.
 */
static apr_status_t header_filter(ap_filter_t *filter, apr_bucket_brigade *brigade, ap_input_mode_t mode,
                                  apr_read_type_e block, apr_off_t bytes)
{
    request_rec *r = filter->ctx; /* of the client */
    signed_request *request = r ? usp_s3_sent(r) : NULL;
    apr_status_t status = ap_get_brigade(filter->next, brigade, mode, block, bytes);
    apr_bucket *bucket;
    int is_over = !request; /* SetInputFilter: it is nobody's to name */

    if (status != APR_SUCCESS || (request && mode != AP_MODE_GETLINE))
        return status;
    if (request && request->header.is_bad_status)
        is_over = 1;
    for (bucket = APR_BRIGADE_FIRST(brigade); bucket != APR_BRIGADE_SENTINEL(brigade) && !is_over;
         bucket = APR_BUCKET_NEXT(bucket)) {
        const char *data;
        apr_size_t size;

        if (!APR_BUCKET_IS_METADATA(bucket) && apr_bucket_read(bucket, &data, &size, APR_BLOCK_READ) == APR_SUCCESS)
            is_over = parse_bytes(&request->header, data, size);
    }
    if (!is_over)
        return status;
    if (request && !request->header.status && !request->header.is_bad_status) {
        request->header.is_bad_status = 1; /* fail at the next line */
        request->header.error = NOT_HTTP;
        return status;
    }
    ap_remove_input_filter(filter);
    if (!request || !request->header.error)
        return status;
    usp_s3_silence_proxy(r);
    return APR_EINVAL;
}

/* mod_proxy has made a request of its own, by whose filters it will read S3's answer. */
static int watch_header(request_rec *r, request_rec *from_s3)
{
    signed_request *request = usp_s3_sent(r);

    if (!request)
        return DECLINED;
    memset(&request->header, 0, sizeof(request->header)); /* of a try that mod_proxy has given up */
    ap_add_input_filter_handle(header_filter_handle, r, from_s3, from_s3->connection);
    return OK;
}

static int is_kept(request_rec *r, const char *name)
{
    return apr_table_get(r->headers_out, name) != NULL;
}

const char *usp_s3_framing_error(request_rec *r, const signed_request *request)
{
    const usp_s3_header *header = &request->header;

    if (header->error || !header->is_over)
        return header->error ? header->error : NOT_HTTP;
    /* mod_proxy drops what the answer's Connection names. */
    if ((header->has_length && !header->has_coding && !is_kept(r, "Content-Length"))
        || (header->has_range && !is_kept(r, "Content-Range"))
        || (header->has_content_coding && !is_kept(r, "Content-Encoding")))
        return "S3 sent a Connection header that names what belongs to the object";
    if ((r->status != HTTP_OK && r->status != HTTP_PARTIAL_CONTENT) || r->header_only || header->has_length)
        return NULL;
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

const char *usp_s3_range_error(request_rec *r, signed_request *request)
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
