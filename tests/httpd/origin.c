/*
 * A module that asks for parts of its own, as an Origin does: its handler makes a subrequest of the URL in the header
 * X-URL, through mod_proxy, and says after the part's bytes what the handler returned and what the status is.
 * X-Direction: forward or reverse, or lookup for a path of this server's. X-Range: the part's own Range. X-Note: the same
 * goes to the error log.
 */

#include "httpd.h"
#include "http_config.h"
#include "http_log.h"
#include "http_protocol.h"
#include "http_request.h"
#include "apr_strings.h"

extern module AP_MODULE_DECLARE_DATA origin_module;
APLOG_USE_MODULE(origin);

static int answer(request_rec *r)
{
    const char *url = apr_table_get(r->headers_in, "X-URL"), *range = apr_table_get(r->headers_in, "X-Range");
    const char *direction = apr_table_get(r->headers_in, "X-Direction");
    request_rec *part;
    int returned;

    if (!r->handler || strcmp(r->handler, "origin") != 0 || !url || !direction)
        return DECLINED;
    ap_set_content_type(r, "text/plain");
    if (strcmp(direction, "lookup") == 0)
        part = ap_sub_req_lookup_uri(url, r, r->output_filters);
    else {
        part = ap_sub_req_lookup_uri(r->uri, r, r->output_filters);
        part->filename = apr_pstrcat(part->pool, "proxy:", url, NULL);
        part->handler = "proxy-server";
        part->proxyreq = strcmp(direction, "forward") == 0 ? PROXYREQ_PROXY : PROXYREQ_REVERSE;
        part->args = NULL;
    }
    if (range)
        apr_table_set(part->headers_in, "Range", range);
    returned = ap_run_sub_req(part);
    if (apr_table_get(r->headers_in, "X-Note"))
        ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r, "origin: %d %d", returned, part->status);
    ap_rprintf(r, "|%d %d", returned, part->status);
    ap_destroy_sub_req(part);
    return OK;
}

static void register_hooks(apr_pool_t *pool)
{
    (void)pool;
    ap_hook_handler(answer, NULL, NULL, APR_HOOK_MIDDLE);
}

module AP_MODULE_DECLARE_DATA origin_module = {STANDARD20_MODULE_STUFF, NULL, NULL, NULL, NULL, NULL, register_hooks, 0};
