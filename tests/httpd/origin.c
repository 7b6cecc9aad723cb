/*
 * A module that asks for parts of its own, as an Origin does: its handler makes a subrequest of the URL in the header
 * X-URL, through mod_proxy, and says after the part's bytes what the handler returned and what the status is.
 * X-Direction: forward or reverse, or lookup for a path of this server's. X-Range: the part's own Range. X-Note: the same
 * goes to the error log.
 *
 * And what configurations of an Origin say: IsmProxyPass URL in a <Location> has its requests answered by a subrequest of
 * that URL, but for those of a mount of mod_wsgi; UspHandleIsm and UspEnableSubreq do nothing.
 */

#include "httpd.h"
#include "http_config.h"
#include "http_log.h"
#include "http_protocol.h"
#include "http_request.h"
#include "apr_strings.h"

extern module AP_MODULE_DECLARE_DATA origin_module;
APLOG_USE_MODULE(origin);

/* Of a section: where its requests are led to, and the path that this takes the place of. */
typedef struct {
    const char *url;
    const char *path;
} section;

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

static const char *set_url(cmd_parms *command, void *made, const char *url)
{
    (void)command;
    ((section *)made)->url = url;
    return NULL;
}

static const char *ignore(cmd_parms *command, void *made, int flag)
{
    (void)command, (void)made, (void)flag;
    return NULL;
}

static const command_rec commands[] = {
    AP_INIT_TAKE1("IsmProxyPass", set_url, NULL, ACCESS_CONF, "a URL"),
    AP_INIT_FLAG("UspHandleIsm", ignore, NULL, OR_ALL, "on or off"),
    AP_INIT_FLAG("UspEnableSubreq", ignore, NULL, OR_ALL, "on or off"),
    {NULL},
};

static request_rec *to_url(request_rec *r, const char *url, int proxyreq)
{
    request_rec *part = ap_sub_req_lookup_uri(r->uri, r, r->output_filters);

    part->filename = apr_pstrcat(part->pool, "proxy:", url, NULL);
    part->handler = "proxy-server";
    part->proxyreq = proxyreq;
    part->args = NULL;
    return part;
}

static int lead_on(request_rec *r)
{
    const section *here = ap_get_module_config(r->per_dir_config, &origin_module);
    request_rec *part;
    int returned;

    if (!here->url || r->main || (r->handler && strcmp(r->handler, "wsgi-script") == 0))
        return DECLINED;
    part = to_url(r, apr_pstrcat(r->pool, here->url, r->uri + strlen(here->path), NULL), PROXYREQ_REVERSE);
    returned = ap_run_sub_req(part);
    ap_destroy_sub_req(part);
    return returned;
}

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
    else
        part = to_url(r, url, strcmp(direction, "forward") == 0 ? PROXYREQ_PROXY : PROXYREQ_REVERSE);
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
    ap_hook_handler(lead_on, NULL, NULL, APR_HOOK_FIRST);
    ap_hook_handler(answer, NULL, NULL, APR_HOOK_MIDDLE);
}

module AP_MODULE_DECLARE_DATA origin_module = {
    STANDARD20_MODULE_STUFF, create_section, merge_sections, NULL, NULL, commands, register_hooks, 0,
};
