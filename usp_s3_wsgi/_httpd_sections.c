/* The configuration around a request that mod_proxy is about to send: its settings, and the sections that hold them. */

#include "_httpd.h"

#include "apr_fnmatch.h"

static module *env_module;

void usp_s3_find_mod_env(void)
{
    env_module = ap_find_linked_module("mod_env.c");
}

/*
 * Not r->subprocess_env, which also holds what a page around a subrequest had. The table is the first member of mod_env's
 * configuration, which no header declares; it has been that since httpd 1.3.
 */
const apr_array_header_t *usp_s3_variables(ap_conf_vector_t *config)
{
    apr_table_t **first = env_module ? ap_get_module_config(config, env_module) : NULL;
    return first && *first ? apr_table_elts(*first) : NULL;
}

int usp_s3_is_setting(const apr_table_entry_t *entry)
{
    return (entry->key[0] == 'S' || entry->key[0] == 's') && entry->key[1] == '3';
}

int usp_s3_has_settings(ap_conf_vector_t *config)
{
    const apr_array_header_t *all = usp_s3_variables(config);
    int i;

    for (i = 0; all && i < all->nelts; i++) {
        if (usp_s3_is_setting(&APR_ARRAY_IDX(all, i, apr_table_entry_t)))
            return 1;
    }
    return 0;
}

const char *usp_s3_section_url(ap_conf_vector_t *config)
{
    proxy_dir_conf *proxy = ap_get_module_config(config, &proxy_module);

    if (proxy->p && *proxy->p && !proxy->r && !proxy->p_is_fnmatch)
        return proxy->p;
    return proxy->p || !proxy->alias || proxy->alias->regex ? NULL : proxy->alias->real;
}

/*
 * As mod_proxy's proxy_walk, which came too early for a balancer's member and for a RewriteRule in a <Location>, and with
 * a bucket's URL that has no slash at its end.
 */
ap_conf_vector_t *usp_s3_walk(request_rec *r, proxy_server_conf *conf, const char *url)
{
    const char *folder = ap_strchr_c(url, '?') || url[strlen(url) - 1] == '/' ? url : apr_pstrcat(r->pool, url, "/", NULL);
    ap_conf_vector_t *merged = r->per_dir_config;
    int i;

    for (i = 0; i < conf->sec_proxy->nelts; i++) {
        ap_conf_vector_t *section = APR_ARRAY_IDX(conf->sec_proxy, i, ap_conf_vector_t *);
        proxy_dir_conf *proxy = ap_get_module_config(section, &proxy_module);
        int other = proxy->r            ? ap_regexec(proxy->r, url, 0, NULL, 0)
                    : proxy->p_is_fnmatch ? apr_fnmatch(proxy->p, url, 0)
                                          : strncmp(folder, proxy->p, strlen(proxy->p));

        if (!other)
            merged = ap_merge_per_dir_configs(r->pool, merged, section);
    }
    return merged;
}
