/*
 * The headers that mod_proxy sends to S3: conditions and ranges of the client, and the headers of the signature. As in
 * gateway/client_request.py.
 */

#include "mod_usp_s3.h"

/* Whether a subrequest has a header only because the including request has: that request's Range is not its own. */
static int is_inherited(request_rec *r, const char *name, const char *value)
{
    request_rec *including;

    for (including = r->main; including; including = including->main) {
        if (apr_table_get(including->headers_in, name) == value)
            return 1; /* the same pointer: a module that wants a range of the subrequest sets a new string */
    }
    return 0;
}

/* The weight of a coding in an Accept-Encoding header, "1" if it has none; NULL if the coding is not listed. */
static const char *coding_weight(apr_pool_t *pool, const char *list, const char *coding)
{
    const char *weight = NULL;
    char *each, *rest, *text = apr_pstrdup(pool, list);

    for (each = apr_strtok(text, ",", &rest); each; each = apr_strtok(NULL, ",", &rest)) {
        char *end;

        each += strspn(each, " \t");
        end = each + strcspn(each, " \t;");
        if (strlen(coding) != (apr_size_t)(end - each) || ap_cstr_casecmpn(each, coding, strlen(coding)) != 0)
            continue;
        end += strspn(end, " \t");
        weight = "1";
        if (*end == ';') {
            end += 1 + strspn(end + 1, " \t");
            if ((*end == 'q' || *end == 'Q') && end[1] == '=')
                weight = apr_pstrmemdup(pool, end + 2, strspn(end + 2, "0123456789."));
        }
    }
    return weight;
}

/* The coding to request from S3: https://www.rfc-editor.org/rfc/rfc9110#section-12.5.3 */
static const char *accepted_coding(request_rec *r)
{
    const char *list = apr_table_get(r->headers_in, "Accept-Encoding"), *weight;
    const char **name;

    for (name = usp_s3_get_shared_tables()->gzip_codings; list && *name; name++) {
        if ((weight = coding_weight(r->pool, list, *name)))
            return *weight && strspn(weight, "0.") == strlen(weight) ? "identity" : "gzip";
    }
    return "identity";
}

static int is_dated_condition(const char *name)
{
    const char **dated;

    for (dated = usp_s3_get_shared_tables()->dated_conditions; *dated; dated++) {
        if (strcmp(name, *dated) == 0)
            return 1;
    }
    return 0;
}

/* The value of a condition or a range for S3, NULL if the header is not forwarded. */
static const char *forwarded_value(request_rec *r, const char *name)
{
    const char *value = apr_table_get(r->headers_in, name);

    if (!value || !*value || is_inherited(r, name, value))
        return NULL;
    if (is_dated_condition(name))
        return usp_s3_normalize_http_date(r->pool, value);
    if (ap_cstr_casecmp(name, "Range") == 0) /* other units: https://www.rfc-editor.org/rfc/rfc9110#section-14.2 */
        return ap_cstr_casecmpn(value, "bytes=", 6) == 0 ? apr_pstrcat(r->pool, "bytes=", value + 6, NULL) : NULL;
    return value;
}

/* Remove dates that S3 is not to compare, because it compares an ETag: https://www.rfc-editor.org/rfc/rfc9110#section-13.2.2 */
static void remove_overridden_conditions(apr_table_t *forwarded)
{
    const usp_s3_shared_tables *tables = usp_s3_get_shared_tables();
    int i;

    for (i = 0; tables->dated_conditions[i]; i++) {
        if (apr_table_get(forwarded, tables->etag_conditions[i]))
            apr_table_unset(forwarded, tables->dated_conditions[i]);
    }
}

/* During this hook r->headers_in is mod_proxy's copy of the client's headers, which is sent to S3. */
static int set_request_headers(request_rec *r)
{
    signed_request *request = usp_s3_get_signed_request(r);
    const char *credentials = apr_table_get(r->notes, "proxy-basic-creds");
    const char **name, *value;
    apr_table_t *forwarded;

    if (!request)
        return DECLINED;
    forwarded = apr_table_make(r->pool, 12);
    for (name = usp_s3_forwarded_request_headers(r->method); name && *name && request->initial_status == HTTP_OK; name++) {
        if ((value = forwarded_value(r, *name)))
            apr_table_setn(forwarded, *name, value);
    }
    remove_overridden_conditions(forwarded);
    request->range = apr_table_get(forwarded, "Range");
    request->if_range = apr_table_get(forwarded, "If-Range");
    if (request->pass_accept_encoding) /* the client cannot decode a part of the including response */
        apr_table_setn(forwarded, "Accept-Encoding", r->main ? "identity" : accepted_coding(r));
    if (credentials)
        apr_table_setn(forwarded, "Proxy-Authorization", credentials);
    apr_table_clear(r->headers_in);
    apr_table_setn(r->headers_in, "Host", request->host);
    apr_table_overlap(r->headers_in, forwarded, APR_OVERLAP_TABLES_SET);
    apr_table_overlap(r->headers_in, request->signature_headers, APR_OVERLAP_TABLES_SET);
    return OK;
}

void usp_s3_register_request_headers(void)
{
    APR_OPTIONAL_HOOK(proxy, fixups, set_request_headers, NULL, NULL, APR_HOOK_REALLY_LAST);
}
