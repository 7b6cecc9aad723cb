/*
 * An index of the <Proxy> sections of each server that contain settings, made once after the configuration was read. There may
 * be thousands of sections, and each request must find its own.
 */

#include "sections.h"

#include "apr_fnmatch.h"

/* ---------------------------------------------------------------- <Proxy> sections */

const proxy_dir_conf *usp_s3_get_proxy_config(ap_conf_vector_t *section)
{
    return ap_get_module_config(section, &proxy_module);
}

int usp_s3_is_literal_section(const proxy_dir_conf *proxy)
{
    return !proxy->r && !proxy->p_is_fnmatch;
}

int usp_s3_mod_proxy_applies(const proxy_dir_conf *proxy, const char *url)
{
    if (proxy->r)
        return ap_regexec(proxy->r, url, 0, NULL, 0) == 0;
    return proxy->p_is_fnmatch ? apr_fnmatch(proxy->p, url, 0) == 0 : usp_s3_skip_prefix(url, proxy->p) != NULL;
}

/*
 * As mod_proxy, with two differences: the URL of a bucket may lack the slash at its end, and the section http://s3:90 does not
 * match http://s3:9000/, nor /film /films/.
 */
int usp_s3_section_matches(const proxy_dir_conf *proxy, const char *url, size_t path_end)
{
    const char *name = proxy->p, *rest = url;

    if (!usp_s3_is_literal_section(proxy))
        return usp_s3_mod_proxy_applies(proxy, url);
    for (; *name && *rest == *name; name++) /* no strncmp: most of thousands differ soon */
        rest++;
    if (*name)
        return rest == url + path_end && *name == '/' && !name[1];
    return rest != url && (rest[-1] == '/' || !*rest || *rest == '/' || *rest == '?');
}

/* Also a pattern that matches any host of https only. */
int usp_s3_section_matches_any_host(const proxy_dir_conf *proxy)
{
    return !usp_s3_is_literal_section(proxy)
           && (usp_s3_mod_proxy_applies(proxy, "http://any-host.invalid/any/path")
               || usp_s3_mod_proxy_applies(proxy, "https://any-host.invalid/any/path"));
}

int usp_s3_section_has_setting(ap_conf_vector_t *section, const void *unused)
{
    (void)unused;
    return usp_s3_first_setting(usp_s3_setenv_variables(section), 1) != NULL;
}

static int has_setting_like_variable(ap_conf_vector_t *section, const void *unused)
{
    const apr_array_header_t *all = usp_s3_setenv_variables(section);
    int i;

    (void)unused;
    for (i = 0; all && i < all->nelts; i++) {
        if (usp_s3_has_setting_prefix(&APR_ARRAY_IDX(all, i, apr_table_entry_t)))
            return 1;
    }
    return usp_s3_contains_setting(usp_s3_unsetenv_variables(section));
}

int usp_s3_is_bucket_member(proxy_server_conf *conf, const char *url)
{
    size_t path_end = strcspn(url, "?");
    int i;

    for (i = 0; i < conf->sec_proxy->nelts; i++) {
        ap_conf_vector_t *section = APR_ARRAY_IDX(conf->sec_proxy, i, ap_conf_vector_t *);

        if (usp_s3_section_matches(usp_s3_get_proxy_config(section), url, path_end)
            && usp_s3_any_section(section, usp_s3_section_has_setting, NULL))
            return 1;
    }
    return 0;
}

/* ---------------------------------------------------------------- sections with rules that set settings */

/*
 * The names of sections with SetEnvIf or RewriteRule of a setting. What such rules set is not in a section's configuration, so
 * the text of the directives is searched.
 */
static apr_hash_t *rule_sections;

static apr_hash_t *indexes; /* by proxy_server_conf * */

/* Whether the words from number first on name a setting: S3Region=x, !S3Region */
static int sets_variable(apr_pool_t *pool, const char *arguments, int first)
{
    const char *word;

    for (; *arguments && *(word = ap_getword_conf(pool, &arguments)); first--) {
        word += *word == '!';
        if (first <= 0 && usp_s3_is_setting_name(word, strcspn(word, "=")))
            return 1;
    }
    return 0;
}

/* Whether the flags of a RewriteRule name a setting: [P,E=S3Region:x] */
static int has_env_flag(apr_pool_t *pool, const char *arguments)
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
        if (usp_s3_is_setting_name(name, strcspn(name, ":,]")))
            return 1;
    }
    return 0;
}

static int sets_setting_by_rule(apr_pool_t *pool, const ap_directive_t *directive)
{
    static const struct {
        const char *name;
        int words; /* before the variables */
    } directives[] = {
        {"SetEnvIf", 2}, {"SetEnvIfNoCase", 2}, {"SetEnvIfExpr", 1}, {"BrowserMatch", 1}, {"BrowserMatchNoCase", 1}};
    size_t i;

    for (; directive; directive = directive->next) {
        const char *arguments = directive->args ? directive->args : "";

        for (i = 0; i < sizeof(directives) / sizeof(*directives); i++) {
            if (ap_cstr_casecmp(directive->directive, directives[i].name) == 0
                && sets_variable(pool, arguments, directives[i].words))
                return 1;
        }
        if (ap_cstr_casecmp(directive->directive, "RewriteRule") == 0 && has_env_flag(pool, arguments))
            return 1;
        if (sets_setting_by_rule(pool, directive->first_child))
            return 1;
    }
    return 0;
}

static void find_rule_sections(apr_pool_t *pool, const ap_directive_t *directive)
{
    for (; directive; directive = directive->next) {
        if (ap_cstr_casecmp(directive->directive, "<Proxy") != 0 && ap_cstr_casecmp(directive->directive, "<ProxyMatch") != 0)
            find_rule_sections(pool, directive->first_child);
        else if (directive->args && sets_setting_by_rule(pool, directive->first_child)) {
            const char *end = strrchr(directive->args, '>'), *name;
            const char *arguments = end ? apr_pstrmemdup(pool, directive->args, (apr_size_t)(end - directive->args))
                                        : directive->args;

            name = ap_getword_conf(pool, &arguments);
            if (strcmp(name, "~") == 0)
                name = ap_getword_conf(pool, &arguments);
            name = ap_cstr_casecmpn(name, "proxy:", 6) == 0 ? name + 6 : name; /* as mod_proxy does */
            apr_hash_set(rule_sections, name, APR_HASH_KEY_STRING, "");
        }
    }
}

int usp_s3_section_has_setting_rules(ap_conf_vector_t *section)
{
    return apr_hash_count(rule_sections) && usp_s3_has_rules(section)
           && apr_hash_get(rule_sections, usp_s3_get_proxy_config(section)->p, APR_HASH_KEY_STRING);
}

/* ---------------------------------------------------------------- the index */

/* The array of the index for a section: a host's, if the section matches URLs of one host only, else that of patterns. */
static apr_array_header_t *get_array(apr_pool_t *pool, usp_s3_section_index *index, const proxy_dir_conf *proxy)
{
    apr_array_header_t *sections;
    const char *host;
    apr_uri_t uri;

    if (proxy->r || !usp_s3_parse_url(pool, proxy->p, &uri) || (usp_s3_is_literal_section(proxy) && !uri.path))
        return index->patterns;
    host = usp_s3_lowercase(pool, uri.hostname);
    if (!(sections = apr_hash_get(index->by_host, host, APR_HASH_KEY_STRING))) {
        sections = apr_array_make(pool, 1, sizeof(usp_s3_indexed_section));
        apr_hash_set(index->by_host, host, APR_HASH_KEY_STRING, sections);
    }
    return sections;
}

static usp_s3_section_index *make_index(apr_pool_t *pool, const proxy_server_conf *conf)
{
    usp_s3_section_index *index = apr_pcalloc(pool, sizeof(*index));
    int i;

    index->by_host = apr_hash_make(pool);
    index->patterns = apr_array_make(pool, 1, sizeof(usp_s3_indexed_section));
    for (i = 0; i < conf->sec_proxy->nelts; i++) {
        usp_s3_indexed_section entry = {APR_ARRAY_IDX(conf->sec_proxy, i, ap_conf_vector_t *), i};
        const proxy_dir_conf *proxy = usp_s3_get_proxy_config(entry.section);

        if (!usp_s3_any_section(entry.section, has_setting_like_variable, NULL)
            && !usp_s3_section_has_setting_rules(entry.section))
            continue;
        APR_ARRAY_PUSH(get_array(pool, index, proxy), usp_s3_indexed_section) = entry;
        if (proxy->p_is_fnmatch && get_array(pool, index, proxy) != index->patterns)
            APR_ARRAY_PUSH(index->patterns, usp_s3_indexed_section) = entry; /* the host is an IPv6 address, or a pattern */
    }
    return index;
}

void usp_s3_index_sections(apr_pool_t *pool, server_rec *servers)
{
    rule_sections = apr_hash_make(pool);
    indexes = apr_hash_make(pool);
    find_rule_sections(pool, ap_conftree);
    for (; servers; servers = servers->next) {
        proxy_server_conf *conf = ap_get_module_config(servers->module_config, &proxy_module);

        apr_hash_set(indexes, apr_pmemdup(pool, &conf, sizeof(conf)), sizeof(conf), make_index(pool, conf));
    }
}

const usp_s3_section_index *usp_s3_get_section_index(apr_pool_t *pool, const proxy_server_conf *conf)
{
    const usp_s3_section_index *index = apr_hash_get(indexes, &conf, sizeof(conf));

    return index ? index : make_index(pool, conf); /* a request must not be sent unsigned because there is no index */
}

static int compare_positions(const void *one, const void *other)
{
    return ((const usp_s3_indexed_section *)one)->position - ((const usp_s3_indexed_section *)other)->position;
}

apr_array_header_t *usp_s3_find_candidates(apr_pool_t *pool, const usp_s3_section_index *index, const char *host,
                                           const char *other_host)
{
    const char *hosts[] = {host, strcmp(host, other_host) != 0 ? other_host : ""};
    apr_array_header_t *found = apr_array_copy(pool, index->patterns);
    int i;

    for (i = 0; i < 2; i++) {
        const apr_array_header_t *sections = apr_hash_get(index->by_host, hosts[i], APR_HASH_KEY_STRING);

        if (sections)
            apr_array_cat(found, sections);
    }
    if (found->nelts > 1)
        qsort(found->elts, (size_t)found->nelts, sizeof(usp_s3_indexed_section), compare_positions);
    return found;
}
