/* The configuration around a request that mod_proxy is about to send: its settings, and the sections that hold them. */

#include "_httpd.h"

#include "apr_fnmatch.h"

static module *env_module;

/*
 * The names of settings.py, which tests hold against these. A section is signed for where one of them is set: other
 * variables that begin with S3 are those of other programs. It must be known here, for a process whose Python did not
 * start must refuse what it cannot sign.
 */
static const char *const setting_names[] = {
    "S3AccessKey", "S3AccessKeyFile", "S3Bucket", "S3BucketURL", "S3CAFile", "S3CredentialSource", "S3DeniedStatus",
    "S3Expires", "S3FallbackAccessKey", "S3FallbackAccessKeyFile", "S3FallbackBucket", "S3FallbackCAFile",
    "S3FallbackCredentialSource", "S3FallbackExpires", "S3FallbackOn404", "S3FallbackProfile", "S3FallbackProxySet",
    "S3FallbackRegion", "S3FallbackRequesterPays", "S3FallbackRetries", "S3FallbackRoleARN", "S3FallbackRoleDuration",
    "S3FallbackRoleExternalId", "S3FallbackRoleSessionName", "S3FallbackSTSEndpoint", "S3FallbackSecretKey",
    "S3FallbackSecretKeyFile", "S3FallbackSecurityToken", "S3FallbackSecurityTokenFile", "S3FallbackURL",
    "S3FallbackUseHeaders", "S3PassHeaders", "S3PassQuery", "S3Profile", "S3ProxySet", "S3Region", "S3RequesterPays",
    "S3Retries", "S3RoleARN", "S3RoleDuration", "S3RoleExternalId", "S3RoleSessionName", "S3STSEndpoint",
    "S3SecretKey", "S3SecretKeyFile", "S3SecurityToken", "S3SecurityTokenFile", "S3UseHeaders",
    NULL,
};

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

int usp_s3_may_be_setting(const apr_table_entry_t *entry)
{
    return (entry->key[0] == 'S' || entry->key[0] == 's') && entry->key[1] == '3';
}

static int has_lowercase(const char *name)
{
    for (; *name; name++) {
        if (*name >= 'a' && *name <= 'z')
            return 1;
    }
    return 0;
}

/*
 * Also where the value is empty: keys that were lost must not make a bucket's section nobody's. And in any case, for
 * S3Accesskey would silently not count, and Python says so.
 */
static int is_setting(const apr_table_entry_t *entry)
{
    const char *const *name;

    if (!usp_s3_may_be_setting(entry))
        return 0;
    for (name = setting_names; *name; name++) {
        if (ap_cstr_casecmp(entry->key, *name) == 0)
            return 1;
    }
    return 0;
}

/* Whether there are settings; names all in capitals, which may be another program's as S3_BUCKET is, count if asked for. */
static int has_settings(ap_conf_vector_t *config, int capitals)
{
    const apr_array_header_t *all = usp_s3_variables(config);
    int i;

    for (i = 0; all && i < all->nelts; i++) {
        const apr_table_entry_t *entry = &APR_ARRAY_IDX(all, i, apr_table_entry_t);

        if ((capitals || has_lowercase(entry->key)) && is_setting(entry))
            return 1;
    }
    return 0;
}

int usp_s3_has_settings(ap_conf_vector_t *config)
{
    return has_settings(config, 0);
}

/* Whether a <Proxy> section is one of a URL, and that is below the section's; a bucket's may lack the slash at its end. */
static int is_literal_section_of(const proxy_dir_conf *proxy, const char *url)
{
    size_t length, section = strlen(proxy->p);

    if (proxy->r)
        return 0;
    if (strncmp(url, proxy->p, section) == 0)
        return 1;
    length = strcspn(url, "?");
    return section == length + 1 && proxy->p[length] == '/' && strncmp(url, proxy->p, length) == 0;
}

/* Whether a <Proxy> section counts for a URL: as for mod_proxy, to which http://[::1]/ is a pattern that never matches. */
static int is_section_of(const proxy_dir_conf *proxy, const char *url)
{
    if (proxy->r)
        return ap_regexec(proxy->r, url, 0, NULL, 0) == 0;
    return is_literal_section_of(proxy, url) || (proxy->p_is_fnmatch && apr_fnmatch(proxy->p, url, 0) == 0);
}

int usp_s3_is_bucket(proxy_server_conf *conf, const char *url)
{
    int i;

    for (i = 0; i < conf->sec_proxy->nelts; i++) {
        ap_conf_vector_t *section = APR_ARRAY_IDX(conf->sec_proxy, i, ap_conf_vector_t *);

        if (is_section_of(ap_get_module_config(section, &proxy_module), url) && has_settings(section, 1))
            return 1;
    }
    return 0;
}

/* Not from the merged configuration: mod_proxy keeps the name of the section that came last, with settings or without. */
const char *usp_s3_section_url(proxy_server_conf *conf, ap_conf_vector_t *config, const char *url)
{
    struct proxy_alias *alias = ((proxy_dir_conf *)ap_get_module_config(config, &proxy_module))->alias;
    int i, pattern = 0;

    for (i = conf->sec_proxy->nelts - 1; i >= 0; i--) {
        ap_conf_vector_t *section = APR_ARRAY_IDX(conf->sec_proxy, i, ap_conf_vector_t *);
        proxy_dir_conf *proxy = ap_get_module_config(section, &proxy_module);

        if (!is_section_of(proxy, url) || !has_settings(section, 1))
            continue;
        if (is_literal_section_of(proxy, url))
            return proxy->p;
        pattern = 1;
    }
    return pattern || !alias || alias->regex ? NULL : alias->real;
}

/* Whether a path is below that of a ProxyPass: as mod_proxy sees it, but for slashes that httpd has merged already. */
static int is_below(const char *path, const char *mount)
{
    size_t length = strlen(mount);

    return strncmp(path, mount, length) == 0 && (mount[length - 1] == '/' || path[length] == '/' || !path[length]);
}

static int leads_on(const struct proxy_alias *alias, request_rec *r)
{
    return !alias->regex && *alias->fake && is_below(r->uri, alias->fake);
}

const char *usp_s3_mount(request_rec *r)
{
    proxy_server_conf *conf = ap_get_module_config(r->server->module_config, &proxy_module);
    proxy_dir_conf *section = ap_get_module_config(r->per_dir_config, &proxy_module);
    const struct proxy_alias *found = section->alias && leads_on(section->alias, r) ? section->alias : NULL;
    int i;

    for (i = 0; !found && i < conf->aliases->nelts; i++) {
        const struct proxy_alias *alias = &APR_ARRAY_IDX(conf->aliases, i, struct proxy_alias);

        if (leads_on(alias, r))
            found = alias;
    }
    return found && strcmp(found->real, "!") != 0 ? found->fake : NULL;
}

/* As mod_proxy's proxy_walk, which came too early for a balancer's member and for a RewriteRule in a <Location>. */
ap_conf_vector_t *usp_s3_walk(request_rec *r, proxy_server_conf *conf, const char *url)
{
    ap_conf_vector_t *merged = r->per_dir_config;
    int i;

    for (i = 0; i < conf->sec_proxy->nelts; i++) {
        ap_conf_vector_t *section = APR_ARRAY_IDX(conf->sec_proxy, i, ap_conf_vector_t *);

        if (is_section_of(ap_get_module_config(section, &proxy_module), url))
            merged = ap_merge_per_dir_configs(r->pool, merged, section);
    }
    return merged;
}
