/*
 * Where the body of S3's response ends, and which bytes of the object it has.
 *
 * mod_proxy accepts invalid headers that must be rejected: "Content-Length: -1" means an empty body, a status of four digits
 * is cut to three, and Content-Length beside Transfer-Encoding is dropped. So an input filter reads the header here before
 * mod_proxy does. https://www.rfc-editor.org/rfc/rfc9112#section-6
 */

#include "mod_usp_s3.h"

/* Digits of a valid Content-Length or Content-Range: more may not fit into apr_int64_t. */
#define MAX_DIGITS 18
#define NOT_HTTP "response is not valid HTTP"
#define NOT_CHUNKED_ALONE "response has a Transfer-Encoding other than chunked alone"

static ap_filter_rec_t *header_filter_handle;

/* ---------------------------------------------------------------- the header, line by line */

/* Parse a number of at most MAX_DIGITS. Returns the text after it, NULL if there is no number. */
static const char *parse_number(const char *text, apr_int64_t *number)
{
    int digits;

    *number = 0;
    for (digits = 0; digits < MAX_DIGITS && apr_isdigit(text[digits]); digits++)
        *number = *number * 10 + (text[digits] - '0');
    return digits && !apr_isdigit(text[digits]) ? text + digits : NULL;
}

static const char *skip_spaces(const char *text)
{
    return text + strspn(text, " \t");
}

/* HTTP/1.1 200 OK */
static void parse_status_line(usp_s3_response_header *header)
{
    const char *text = header->line, *status, *end;
    apr_int64_t number;

    if (strncmp(text, "HTTP/1.", 7) != 0 || !apr_isdigit(text[7]) || (text[8] != ' ' && text[8] != '\t'))
        return;
    status = skip_spaces(text + 8);
    end = parse_number(status, &number);
    if (end != status + 3 || *status == '0' || (*end && *end != ' ' && *end != '\t'))
        return;
    header->status = (int)number;
    header->is_http_1_0 = text[7] == '0';
}

static void parse_content_length(usp_s3_response_header *header, const char *value)
{
    apr_int64_t number;
    const char *end = parse_number(value, &number);

    if (header->has_content_length)
        header->error = "response has more than one Content-Length";
    else if (!end || *skip_spaces(end) || header->is_line_truncated)
        header->error = "response has an invalid Content-Length";
    header->has_content_length = 1;
}

static void parse_transfer_encoding(usp_s3_response_header *header, const char *value)
{
    /* "chunked " with a space at its end is another coding for a reader that does not strip it. */
    if (header->has_transfer_encoding || header->is_line_truncated || header->is_http_1_0
        || ap_cstr_casecmp(value, "chunked") != 0)
        header->error = NOT_CHUNKED_ALONE;
    header->has_transfer_encoding = 1;
}

static void parse_content_range_line(usp_s3_response_header *header)
{
    /* Of two, mod_proxy forwards both, and the check of the range would see one. Other statuses have no part of the object. */
    if (header->has_content_range && (header->status == HTTP_OK || header->status == HTTP_PARTIAL_CONTENT))
        header->error = "response has more than one Content-Range";
    header->has_content_range = 1;
}

static void parse_header_line(usp_s3_response_header *header)
{
    const char *line = header->line, *colon = strchr(line, ':'), *value;
    apr_size_t length = strcspn(line, ": \t");

    /* mod_proxy joins folded lines, and takes white space before the colon for a part of the name. */
    if (!colon || !length || line + length != colon) {
        header->error = NOT_HTTP;
        return;
    }
    value = skip_spaces(colon + 1);
    if (length == 14 && ap_cstr_casecmpn(line, "Content-Length", length) == 0)
        parse_content_length(header, value);
    else if (length == 17 && ap_cstr_casecmpn(line, "Transfer-Encoding", length) == 0)
        parse_transfer_encoding(header, value);
    else if (length == 13 && ap_cstr_casecmpn(line, "Content-Range", length) == 0)
        parse_content_range_line(header);
    else if (length == 16 && ap_cstr_casecmpn(line, "Content-Encoding", length) == 0)
        header->has_content_encoding = 1;
    if (header->has_transfer_encoding && header->has_content_length && !header->error)
        header->error = NOT_CHUNKED_ALONE;
}

/* Parse a whole line. Returns whether it ends the header of the final response, or is an invalid status line. */
static int parse_line(usp_s3_response_header *header)
{
    if (!header->status) {
        if (*header->line)
            parse_status_line(header); /* mod_proxy skips an empty line before it */
        return *header->line && !header->status;
    }
    if (*header->line) {
        parse_header_line(header);
        return 0;
    }
    if (!ap_is_HTTP_INFO(header->status) || header->status == HTTP_SWITCHING_PROTOCOLS) {
        header->is_complete = 1;
        return 1;
    }
    memset(header, 0, sizeof(*header)); /* an interim response, 100 or 103: the next header follows */
    return 0;
}

static int parse_header_bytes(usp_s3_response_header *header, const char *data, apr_size_t size)
{
    apr_size_t limit = usp_s3_get_shared_tables()->max_header_size;

    for (; size; data++, size--) {
        header->last_line_size = ++header->line_size;
        if (++header->size > limit) {
            header->error = "response header is too large";
            return 1;
        }
        if (header->is_after_cr && *data != '\n')
            header->error = NOT_HTTP; /* a bare CR ends the line for some readers */
        header->is_after_cr = *data == '\r';
        if (*data != '\n') {
            if (header->line_length < sizeof(header->line) - 1)
                header->line[header->line_length++] = *data;
            else
                header->is_line_truncated = 1;
            continue;
        }
        if (header->line_length && header->line[header->line_length - 1] == '\r')
            header->line_length--;
        header->line[header->line_length] = '\0';
        if (strlen(header->line) != header->line_length)
            header->error = NOT_HTTP; /* a NUL */
        if (parse_line(header))
            return 1;
        header->line_length = header->line_size = 0;
        header->is_line_truncated = 0;
    }
    return 0;
}

/*
 * Parse the header of S3's response while mod_proxy reads it, line by line. If the end of the response is ambiguous, return
 * an error, so that mod_proxy closes the connection to S3. An error for the status line is returned at the next line only:
 * mod_proxy would close the client's connection too.
 */
static apr_status_t header_filter(ap_filter_t *filter, apr_bucket_brigade *brigade, ap_input_mode_t mode, apr_read_type_e block,
                                  apr_off_t bytes)
{
    request_rec *r = filter->ctx; /* the client's request */
    signed_request *request = r ? usp_s3_get_signed_request(r) : NULL;
    apr_status_t status = ap_get_brigade(filter->next, brigade, mode, block, bytes);
    apr_bucket *bucket;
    int is_done = !request; /* added by a SetInputFilter directive: not supported */

    if (status != APR_SUCCESS || (request && mode != AP_MODE_GETLINE))
        return status;
    if (request && request->response_header.is_status_line_invalid)
        is_done = 1;
    for (bucket = APR_BRIGADE_FIRST(brigade); bucket != APR_BRIGADE_SENTINEL(brigade) && !is_done;
         bucket = APR_BUCKET_NEXT(bucket)) {
        const char *data;
        apr_size_t size;

        if (!APR_BUCKET_IS_METADATA(bucket) && apr_bucket_read(bucket, &data, &size, APR_BLOCK_READ) == APR_SUCCESS)
            is_done = parse_header_bytes(&request->response_header, data, size);
    }
    if (!is_done)
        return status;
    if (request && !request->response_header.status && !request->response_header.is_status_line_invalid) {
        request->response_header.is_status_line_invalid = 1; /* fail at the next line */
        request->response_header.error = NOT_HTTP;
        return status;
    }
    ap_remove_input_filter(filter);
    if (!request || !request->response_header.error)
        return status;
    usp_s3_silence_proxy_log(r);
    return APR_EINVAL;
}

/* Note whether mod_proxy uses a connection to S3 for the first time. */
static void note_connection(signed_request *request, conn_rec *connection)
{
    static const char used[] = "usp_s3_used";

    request->is_connection_new = !apr_table_get(connection->notes, used);
    if (request->is_connection_new)
        apr_table_setn(connection->notes, used, "1");
}

/* Hook create_req: mod_proxy has created a request_rec, whose input filters it uses to read S3's response. */
static int add_header_filter(request_rec *r, request_rec *s3_response)
{
    signed_request *request = usp_s3_get_signed_request(r);

    if (!request)
        return DECLINED;
    memset(&request->response_header, 0, sizeof(request->response_header)); /* there may be one of a failed attempt */
    if (request->began_at)
        note_connection(request, s3_response->connection);
    ap_add_input_filter_handle(header_filter_handle, r, s3_response, s3_response->connection);
    return OK;
}

static int has_response_header(request_rec *r, const char *name)
{
    return apr_table_get(r->headers_out, name) != NULL;
}

const char *usp_s3_check_framing(request_rec *r, const signed_request *request)
{
    const usp_s3_response_header *header = &request->response_header;

    if (header->error || !header->is_complete)
        return header->error ? header->error : NOT_HTTP;
    /* mod_proxy removes the headers that the response's Connection header lists. */
    if ((header->has_content_length && !header->has_transfer_encoding && !has_response_header(r, "Content-Length"))
        || (header->has_content_range && !has_response_header(r, "Content-Range"))
        || (header->has_content_encoding && !has_response_header(r, "Content-Encoding")))
        return "response has a Connection header that lists a header of the object";
    if ((r->status != HTTP_OK && r->status != HTTP_PARTIAL_CONTENT) || r->header_only || header->has_content_length)
        return NULL;
    if (!header->has_transfer_encoding || usp_s3_main_request(r)->proto_num < HTTP_VERSION(1, 1))
        return "response has no Content-Length: truncation could not be detected";
    return NULL;
}

/* ---------------------------------------------------------------- byte ranges */

/* bytes=5-9 */
static int parse_range(const char *range, apr_int64_t *first, apr_int64_t *last)
{
    if (strncmp(range, "bytes=", 6) != 0 || !(range = parse_number(range + 6, first)) || *range++ != '-')
        return 0;
    *last = APR_INT64_MAX;
    return !*range || ((range = parse_number(range, last)) && !*range);
}

/* bytes 5-9/100 */
static int parse_content_range(const char *text, apr_int64_t *first, apr_int64_t *last, apr_int64_t *total)
{
    return strncmp(text, "bytes ", 6) == 0 && (text = parse_number(text + 6, first)) && *text++ == '-'
           && (text = parse_number(text, last)) && *text++ == '/' && (text = parse_number(text, total)) && !*text;
}

/* Whether a 206 is the requested range, as nearly all are. Python handles all other cases. */
static int is_requested_part(request_rec *r, const signed_request *request)
{
    const char *content_range = apr_table_get(r->headers_out, "Content-Range");
    const char *length = apr_table_get(r->headers_out, "Content-Length"), *end;
    apr_int64_t requested_first, requested_last, first, last, total, size;

    return request->range && !request->if_range && content_range && length
           && parse_range(request->range, &requested_first, &requested_last)
           && parse_content_range(content_range, &first, &last, &total) && (end = parse_number(length, &size)) && !*end
           && first == requested_first && first <= last && last <= requested_last && last < total && size == last - first + 1;
}

static int is_multipart(request_rec *r, const signed_request *request)
{
    return request->range && strchr(request->range, ',') && r->content_type
           && ap_cstr_casecmpn(r->content_type, "multipart/byteranges", 20) == 0;
}

const char *usp_s3_check_range(request_rec *r, signed_request *request)
{
    switch (r->status) {
    case HTTP_OK:
        return apr_table_get(r->headers_out, "Content-Range") || is_multipart(r, request) ? usp_s3_validate_response(r, request)
                                                                                          : NULL;
    case HTTP_PARTIAL_CONTENT:
        return is_requested_part(r, request) ? NULL : usp_s3_validate_response(r, request);
    case HTTP_RANGE_NOT_SATISFIABLE:
        return request->if_range ? usp_s3_validate_response(r, request) : NULL;
    case HTTP_NOT_IMPLEMENTED:
        return request->range ? usp_s3_validate_response(r, request) : NULL;
    }
    return NULL;
}

int usp_s3_count_body_bytes(signed_request *request, apr_bucket_brigade *brigade)
{
    apr_bucket *bucket;

    if (!request->is_length_enforced)
        return 0;
    for (bucket = APR_BRIGADE_FIRST(brigade); bucket != APR_BRIGADE_SENTINEL(brigade); bucket = APR_BUCKET_NEXT(bucket)) {
        const char *data;
        apr_size_t size;

        if (APR_BUCKET_IS_EOS(bucket))
            return request->bytes_left > 0;
        if (APR_BUCKET_IS_METADATA(bucket) || apr_bucket_read(bucket, &data, &size, APR_BLOCK_READ) != APR_SUCCESS)
            continue;
        request->bytes_left -= (apr_int64_t)size;
        if (request->bytes_left < 0) { /* the data may be of another object: forward none of it */
            apr_brigade_cleanup(brigade);
            return 1;
        }
    }
    return 0;
}

void usp_s3_register_response_framing(void)
{
    APR_OPTIONAL_HOOK(proxy, create_req, add_header_filter, NULL, NULL, APR_HOOK_MIDDLE);
    header_filter_handle = ap_register_input_filter("USP_S3_HEADER", header_filter, NULL, AP_FTYPE_PROTOCOL);
}
