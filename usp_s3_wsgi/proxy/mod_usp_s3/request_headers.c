/* The headers that S3 gets of a request through mod_proxy: some of the client's, and the signature's. As in request.py. */

#include "mod_usp_s3.h"

/* Whether a subrequest has a header only because its page has it: a Range of the page is none of its parts. */
static int is_inherited(request_rec *r, const char *name, const char *value)
{
    request_rec *page;

    for (page = r->main; page; page = page->main) {
        if (apr_table_get(page->headers_in, name) == value)
            return 1; /* the very same string; who asks for a range of a part sets one of its own */
    }
    return 0;
}

/* The weight of a coding in a list of them, as written, "1" where none is given; NULL where it is not in the list. */
static const char *weight_of(apr_pool_t *pool, const char *list, const char *coding)
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

/* https://www.rfc-editor.org/rfc/rfc9110#section-12.5.3 */
static const char *accepted_coding(request_rec *r)
{
    static const char *const names[] = {"gzip", "x-gzip", "*", NULL};
    const char *list = apr_table_get(r->headers_in, "Accept-Encoding"), *const *name, *weight;

    for (name = names; list && *name; name++) {
        if ((weight = weight_of(r->pool, list, *name)))
            return *weight && strspn(weight, "0.") == strlen(weight) ? "identity" : "gzip";
    }
    return "identity";
}

/* What a condition or a range is for S3, NULL where S3 is not to see it. */
static const char *forwarded_value(request_rec *r, const char *name)
{
    const char *value = apr_table_get(r->headers_in, name);

    if (!value || !*value || is_inherited(r, name, value))
        return NULL;
    if (ap_cstr_casecmp(name, "If-Modified-Since") == 0 || ap_cstr_casecmp(name, "If-Unmodified-Since") == 0)
        return usp_s3_http_date(r->pool, value);
    if (ap_cstr_casecmp(name, "Range") == 0) /* of another unit: https://www.rfc-editor.org/rfc/rfc9110#section-14.2 */
        return ap_cstr_casecmpn(value, "bytes=", 6) == 0 ? apr_pstrcat(r->pool, "bytes=", value + 6, NULL) : NULL;
    return value;
}

/* mod_proxy has made r->headers_in a copy for S3, and takes the client's back after this hook. */
static int set_headers(request_rec *r)
{
    signed_request *request = usp_s3_sent(r);
    const char *credentials = apr_table_get(r->notes, "proxy-basic-creds");
    const char **name, *value;
    apr_table_t *kept;

    if (!request)
        return DECLINED;
    kept = apr_table_make(r->pool, 12);
    for (name = usp_s3_forwarded(r->method); name && *name && request->client_status == HTTP_OK; name++) {
        if ((value = forwarded_value(r, *name)))
            apr_table_setn(kept, *name, value);
    }
    request->range = apr_table_get(kept, "Range");
    request->if_range = apr_table_get(kept, "If-Range");
    if (request->passes_coding) /* a part of a page is not for the client to decode */
        apr_table_setn(kept, "Accept-Encoding", r->main ? "identity" : accepted_coding(r));
    if (credentials)
        apr_table_setn(kept, "Proxy-Authorization", credentials);
    apr_table_clear(r->headers_in);
    apr_table_setn(r->headers_in, "Host", request->host);
    apr_table_overlap(r->headers_in, kept, APR_OVERLAP_TABLES_SET);
    apr_table_overlap(r->headers_in, request->headers, APR_OVERLAP_TABLES_SET);
    return OK;
}

void usp_s3_register_headers(void)
{
    APR_OPTIONAL_HOOK(proxy, fixups, set_headers, NULL, NULL, APR_HOOK_REALLY_LAST);
}
