/* The <Proxy> sections of a server, by whether and where they hold settings. */

#include "sections.h"

#include "apr_fnmatch.h"

/* ---------------------------------------------------------------- <Proxy> sections */

const proxy_dir_conf *usp_s3_proxy_of(ap_conf_vector_t *section)
{
    return ap_get_module_config(section, &proxy_module);
}

int usp_s3_is_literal(const proxy_dir_conf *proxy)
{
    return !proxy->r && !proxy->p_is_fnmatch;
}

/* Whether mod_proxy applies a section to a URL. */
int usp_s3_is_applied_to(const proxy_dir_conf *proxy, const char *url)
{
    if (proxy->r)
        return ap_regexec(proxy->r, url, 0, NULL, 0) == 0;
    return proxy->p_is_fnmatch ? apr_fnmatch(proxy->p, url, 0) == 0 : usp_s3_after(url, proxy->p) != NULL;
}

/*
 * Whether a section counts for a URL: as for mod_proxy, but that a bucket's URL may lack the slash at its end, and that
 * http://s3:90 is no section of http://s3:9000/, nor /film one of /films/.
 */
int usp_s3_is_section_of(const proxy_dir_conf *proxy, const char *url, size_t path_end)
{
    const char *name = proxy->p, *rest = url;

    if (!usp_s3_is_literal(proxy))
        return usp_s3_is_applied_to(proxy, url);
    for (; *name && *rest == *name; name++) /* most differ soon, and there may be thousands */
        rest++;
    if (*name)
        return rest == url + path_end && *name == '/' && !name[1];
    return rest != url && (rest[-1] == '/' || !*rest || *rest == '/' || *rest == '?');
}

/* Whether a section counts for any host: <Proxy "*">, or one of https alone. */
int usp_s3_is_section_of_any(const proxy_dir_conf *proxy)
{
    return !usp_s3_is_literal(proxy)
           && (usp_s3_is_applied_to(proxy, "http://any-host.invalid/any/path")
               || usp_s3_is_applied_to(proxy, "https://any-host.invalid/any/path"));
}

int usp_s3_has_any_setting(ap_conf_vector_t *section, const void *unused)
{
    (void)unused;
    return usp_s3_first_setting(usp_s3_variables(section), 1) != NULL;
}

static int has_any_variable(ap_conf_vector_t *section, const void *unused)
{
    const apr_array_header_t *all = usp_s3_variables(section);
    int i;

    (void)unused;
    for (i = 0; all && i < all->nelts; i++) {
        if (usp_s3_may_be_setting(&APR_ARRAY_IDX(all, i, apr_table_entry_t)))
            return 1;
    }
    return usp_s3_holds_setting(usp_s3_unset_variables(section));
}

int usp_s3_is_bucket(proxy_server_conf *conf, const char *url)
{
    size_t path_end = strcspn(url, "?");
    int i;

    for (i = 0; i < conf->sec_proxy->nelts; i++) {
        ap_conf_vector_t *section = APR_ARRAY_IDX(conf->sec_proxy, i, ap_conf_vector_t *);

        if (usp_s3_is_section_of(usp_s3_proxy_of(section), url, path_end) && usp_s3_any(section, usp_s3_has_any_setting, NULL))
            return 1;
    }
    return 0;
}

/* ---------------------------------------------------------------- <Proxy> sections that were looked through before */

/*
 * The names of sections with SetEnvIf or RewriteRule of a setting. httpd runs these for a ProxyPass alone, and nothing of a
 * section's configuration tells here what they set: so it is looked for in the text of the directives.
 */
static apr_hash_t *computing;

static apr_hash_t *indexes; /* by proxy_server_conf * */

/* Whether the words after the first ones name a setting: S3Region=x, !S3Region */
static int sets_variable(apr_pool_t *pool, const char *arguments, int first)
{
    const char *word;

    for (; *arguments && *(word = ap_getword_conf(pool, &arguments)); first--) {
        word += *word == '!';
        if (first <= 0 && usp_s3_is_name_of_setting(word, strcspn(word, "=")))
            return 1;
    }
    return 0;
}

/* Whether the flags of a RewriteRule name a setting: [P,E=S3Region:x] */
static int has_flag(apr_pool_t *pool, const char *arguments)
{
    const char *flags, *flag;

    ap_getword_conf(pool, &arguments);
    ap_getword_conf(pool, &arguments);
    flags = ap_getword_conf(pool, &arguments);
    for (flag = flags; *flag; flag += strcspn(flag, ","), flag += *flag == ',') {
        const char *name = strchr(flag, '=');

        flag += strspn(flag, "[ \t");
        if (!name || (ap_cstr_casecmpn(flag, "E=", 2) != 0 && ap_cstr_casecmpn(flag, "env=", 4) != 0))
            continue;
        name += 1 + (name[1] == '!');
        if (usp_s3_is_name_of_setting(name, strcspn(name, ":,]")))
            return 1;
    }
    return 0;
}

static int computes_setting(apr_pool_t *pool, const ap_directive_t *directive)
{
    static const struct {
        const char *name;
        int words; /* before the variables */
    } directives[] = {{"SetEnvIf", 2}, {"SetEnvIfNoCase", 2}, {"SetEnvIfExpr", 1}, {"BrowserMatch", 1},
                      {"BrowserMatchNoCase", 1}};
    size_t i;

    for (; directive; directive = directive->next) {
        const char *arguments = directive->args ? directive->args : "";

        for (i = 0; i < sizeof(directives) / sizeof(*directives); i++) {
            if (ap_cstr_casecmp(directive->directive, directives[i].name) == 0
                && sets_variable(pool, arguments, directives[i].words))
                return 1;
        }
        if (ap_cstr_casecmp(directive->directive, "RewriteRule") == 0 && has_flag(pool, arguments))
            return 1;
        if (computes_setting(pool, directive->first_child))
            return 1;
    }
    return 0;
}

static void find_computing(apr_pool_t *pool, const ap_directive_t *directive)
{
    for (; directive; directive = directive->next) {
        if (ap_cstr_casecmp(directive->directive, "<Proxy") != 0 && ap_cstr_casecmp(directive->directive, "<ProxyMatch") != 0)
            find_computing(pool, directive->first_child);
        else if (directive->args && computes_setting(pool, directive->first_child)) {
            const char *end = strrchr(directive->args, '>'), *name;
            const char *arguments = end ? apr_pstrmemdup(pool, directive->args, (apr_size_t)(end - directive->args))
                                        : directive->args;

            name = ap_getword_conf(pool, &arguments);
            if (strcmp(name, "~") == 0)
                name = ap_getword_conf(pool, &arguments);
            name = ap_cstr_casecmpn(name, "proxy:", 6) == 0 ? name + 6 : name; /* as mod_proxy does */
            apr_hash_set(computing, name, APR_HASH_KEY_STRING, "");
        }
    }
}

/* Whether rules in a <Proxy> section compute a setting. */
int usp_s3_is_computing(ap_conf_vector_t *section)
{
    return apr_hash_count(computing) && usp_s3_computes(section)
           && apr_hash_get(computing, usp_s3_proxy_of(section)->p, APR_HASH_KEY_STRING);
}

/* Where a section belongs in the index: to one host, if nothing but its path and what is below can follow the name. */
static apr_array_header_t *array_for(apr_pool_t *pool, usp_s3_index *index, const proxy_dir_conf *proxy)
{
    apr_array_header_t *sections;
    const char *host;
    apr_uri_t uri;

    if (proxy->r || !usp_s3_parse_url(pool, proxy->p, &uri) || (usp_s3_is_literal(proxy) && !uri.path))
        return index->patterns;
    host = usp_s3_lowercase(pool, uri.hostname);
    if (!(sections = apr_hash_get(index->by_host, host, APR_HASH_KEY_STRING))) {
        sections = apr_array_make(pool, 1, sizeof(usp_s3_indexed));
        apr_hash_set(index->by_host, host, APR_HASH_KEY_STRING, sections);
    }
    return sections;
}

static usp_s3_index *make_index(apr_pool_t *pool, const proxy_server_conf *conf)
{
    usp_s3_index *index = apr_pcalloc(pool, sizeof(*index));
    int i;

    index->by_host = apr_hash_make(pool);
    index->patterns = apr_array_make(pool, 1, sizeof(usp_s3_indexed));
    for (i = 0; i < conf->sec_proxy->nelts; i++) {
        usp_s3_indexed entry = {APR_ARRAY_IDX(conf->sec_proxy, i, ap_conf_vector_t *), i};
        const proxy_dir_conf *proxy = usp_s3_proxy_of(entry.section);

        if (!usp_s3_any(entry.section, has_any_variable, NULL) && !usp_s3_is_computing(entry.section))
            continue;
        APR_ARRAY_PUSH(array_for(pool, index, proxy), usp_s3_indexed) = entry;
        if (proxy->p_is_fnmatch && array_for(pool, index, proxy) != index->patterns)
            APR_ARRAY_PUSH(index->patterns, usp_s3_indexed) = entry; /* an IPv6 address, or really a pattern */
    }
    return index;
}

void usp_s3_find_sections(apr_pool_t *pool, server_rec *servers)
{
    computing = apr_hash_make(pool);
    indexes = apr_hash_make(pool);
    find_computing(pool, ap_conftree);
    for (; servers; servers = servers->next) {
        proxy_server_conf *conf = ap_get_module_config(servers->module_config, &proxy_module);

        apr_hash_set(indexes, apr_pmemdup(pool, &conf, sizeof(conf)), sizeof(conf), make_index(pool, conf));
    }
}

const usp_s3_index *usp_s3_index_of(apr_pool_t *pool, const proxy_server_conf *conf)
{
    const usp_s3_index *index = apr_hash_get(indexes, &conf, sizeof(conf));

    return index ? index : make_index(pool, conf); /* a bucket's request must not go out unsigned for want of one */
}

static int compare_places(const void *one, const void *other)
{
    return ((const usp_s3_indexed *)one)->place - ((const usp_s3_indexed *)other)->place;
}

/* The sections that may count for any of the URLs, in order; the hosts are in lowercase. */
apr_array_header_t *usp_s3_candidates(apr_pool_t *pool, const usp_s3_index *index, const char *host, const char *other)
{
    const char *hosts[] = {host, strcmp(host, other) != 0 ? other : ""};
    apr_array_header_t *found = apr_array_copy(pool, index->patterns);
    int i;

    for (i = 0; i < 2; i++) {
        const apr_array_header_t *sections = apr_hash_get(index->by_host, hosts[i], APR_HASH_KEY_STRING);

        if (sections)
            apr_array_cat(found, sections);
    }
    if (found->nelts > 1)
        qsort(found->elts, (size_t)found->nelts, sizeof(usp_s3_indexed), compare_places);
    return found;
}
