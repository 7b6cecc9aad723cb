/* Functions for requests, used by the gateway's requests and by those of mod_proxy. */

#include "mod_usp_s3.h"

request_rec *usp_s3_main_request(request_rec *r)
{
    while (r->main)
        r = r->main;
    return r;
}

/* ---------------------------------------------------------------- what this module stores for a request */

usp_s3_request_config *usp_s3_get_request_config(request_rec *r)
{
    usp_s3_request_config *config = ap_get_module_config(r->request_config, &usp_s3_module);

    if (!config) {
        config = apr_pcalloc(r->pool, sizeof(*config));
        ap_set_module_config(r->request_config, &usp_s3_module, config);
    }
    return config;
}

const char *usp_s3_get_mapped_url(request_rec *r)
{
    usp_s3_request_config *config = ap_get_module_config(r->request_config, &usp_s3_module);

    return config ? config->mapped_url : NULL;
}

signed_request *usp_s3_get_signed_request(request_rec *r)
{
    usp_s3_request_config *config = ap_get_module_config(r->request_config, &usp_s3_module);

    return config ? config->signed_request : NULL;
}

/* ---------------------------------------------------------------- S3's request id */

/* A header with characters of ids only, NULL for any other. As _safe_word in s3/error_response.py. */
static const char *get_id(request_rec *r, const char *name)
{
    const char *value = apr_table_get(r->headers_out, name), *c;

    for (c = value; c && *c; c++) {
        if (!apr_isalnum(*c) && !strchr("._:/+=-", *c))
            return NULL;
    }
    return value && *value && c - value <= 128 ? value : NULL;
}

/* As request_id in s3/error_response.py. */
const char *usp_s3_get_s3_request_id(request_rec *r)
{
    const char **names = usp_s3_get_shared_tables()->request_id_headers, **name, *id, *host_id;

    for (name = names; name && *name; name++) {
        if (!(id = get_id(r, *name)))
            continue;
        if (name != names)
            return apr_pstrcat(r->pool, id, " (", *name, ")", NULL);
        host_id = get_id(r, "x-amz-id-2");
        return host_id && strcmp(host_id, id) != 0 ? apr_pstrcat(r->pool, id, ", x-amz-id-2 ", host_id, NULL) : id;
    }
    return NULL;
}

/* ---------------------------------------------------------------- the client's request body */

int usp_s3_client_has_body(request_rec *r)
{
    return ap_request_has_body(usp_s3_main_request(r));
}

/*
 * The body is read and discarded, and its headers are removed: mod_proxy would wait for it, and mod_wsgi would reject it.
 * A client may wait for "100 Continue" before it sends the body (RFC 9110, 10.1.1); httpd sends that when the body is read.
 * If it was not sent, as for an error page, the client may still send the body or not: the connection is closed after the
 * response.
 */
int usp_s3_discard_body(request_rec *r)
{
    int status, proxyreq = r->proxyreq, was_announced = usp_s3_client_has_body(r);

    r->proxyreq = PROXYREQ_NONE; /* or LimitRequestBody would not apply */
    status = ap_discard_request_body(r); /* reads nothing in a subrequest: the body belongs to the main request */
    r->proxyreq = proxyreq;
    if (status != OK)
        return status;
    if (!r->main && was_announced && r->expecting_100)
        apr_table_setn(r->err_headers_out, "Connection", "close");
    r->expecting_100 = 0;
    if (r->main && r->headers_in == r->main->headers_in)
        r->headers_in = apr_table_copy(r->pool, r->headers_in);
    apr_table_unset(r->headers_in, "Content-Length");
    apr_table_unset(r->headers_in, "Transfer-Encoding");
    return OK;
}
