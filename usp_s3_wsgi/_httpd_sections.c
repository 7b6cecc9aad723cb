/*
 * The rule: which of the requests that mod_proxy sends are ours, and which settings count for one. It is the same for ProxyPass,
 * RewriteRule [P], SetHandler, balancers and subrequests; docs/security.md has it in an operator's words.
 *
 * A request is ours where a section of it holds a setting, and these are its sections:
 *   - a <Proxy> section of its URL, as mod_proxy applies it;
 *   - the <Location> that holds the ProxyPass which led to the URL, or is at or below the path of that;
 *   - another section around, whose S3BucketURL the URL is below.
 * A signature goes to no URL that the operator has not named so. The lines of the server are defaults.
 */

#include "_httpd.h"

#include "apr_fnmatch.h"
#include "apr_hash.h"

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
int usp_s3_is_setting(const apr_table_entry_t *entry)
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

/* The first setting; names all in capitals, which may be another program's as S3_BUCKET is, count if asked for. */
static const apr_table_entry_t *first_setting(const apr_array_header_t *all, int capitals)
{
    int i;

    for (i = 0; all && i < all->nelts; i++) {
        const apr_table_entry_t *entry = &APR_ARRAY_IDX(all, i, apr_table_entry_t);

        if ((capitals || has_lowercase(entry->key)) && usp_s3_is_setting(entry))
            return entry;
    }
    return NULL;
}

int usp_s3_holds_setting(const apr_array_header_t *all)
{
    return first_setting(all, 0) != NULL;
}

int usp_s3_has_settings(ap_conf_vector_t *config)
{
    return usp_s3_holds_setting(usp_s3_variables(config));
}

/* The last value of a variable that is not empty, NULL where there is none. */
static const char *value_of(const apr_array_header_t *all, const char *name)
{
    int i;

    for (i = all ? all->nelts - 1 : -1; i >= 0; i--) {
        const apr_table_entry_t *entry = &APR_ARRAY_IDX(all, i, apr_table_entry_t);

        if (ap_cstr_casecmp(entry->key, name) == 0)
            return *entry->val ? entry->val : NULL;
    }
    return NULL;
}

/* Whether there is what signs. */
static int holds_identity(const apr_array_header_t *all)
{
    static const char *const identities[] = {"S3AccessKey", "S3AccessKeyFile", "S3SecretKey", "S3SecretKeyFile",
                                             "S3CredentialSource", "S3Profile", "S3RoleARN", NULL};
    const char *const *name;

    for (name = identities; *name; name++) {
        if (value_of(all, *name))
            return 1;
    }
    return 0;
}

/* ---------------------------------------------------------------- URLs */

/* The URL behind a socket: unix:/run/s3.sock|http://localhost/ */
static const char *behind_socket(const char *url)
{
    const char *bar = ap_cstr_casecmpn(url, "unix:", 5) == 0 ? strchr(url, '|') : NULL;

    return bar ? bar + 1 : url;
}

static int is_balancer(const char *url)
{
    return ap_cstr_casecmpn(url, BALANCER_PREFIX, sizeof(BALANCER_PREFIX) - 1) == 0;
}

static int port_of(const apr_uri_t *uri)
{
    return uri->port ? uri->port : apr_uri_port_of_scheme(uri->scheme);
}

/* Whether two URLs have the same scheme, host and port, however these are written. */
static int is_same_origin(const apr_uri_t *one, const apr_uri_t *other)
{
    return one->scheme && other->scheme && ap_cstr_casecmp(one->scheme, other->scheme) == 0 && one->hostname
           && other->hostname && ap_cstr_casecmp(one->hostname, other->hostname) == 0 && port_of(one) == port_of(other);
}

/* The path of a URL, decoded, with a slash at its end. */
static const char *folder_of(apr_pool_t *pool, const apr_uri_t *uri)
{
    char *path = apr_pstrdup(pool, uri->path ? uri->path : "/");
    size_t length;

    ap_unescape_url_keep2f(path, 1);
    length = strlen(path);
    return length && path[length - 1] == '/' ? path : apr_pstrcat(pool, path, "/", NULL);
}

/* Whether a URL is below another one, however their hosts are written. What is no URL has nothing below it. */
static int is_below(apr_pool_t *pool, const char *url, const char *other)
{
    apr_uri_t one, above;
    const char *folder;

    if (apr_uri_parse(pool, behind_socket(url), &one) != APR_SUCCESS
        || apr_uri_parse(pool, behind_socket(other), &above) != APR_SUCCESS || !is_same_origin(&one, &above))
        return 0;
    folder = folder_of(pool, &above);
    return strncmp(folder_of(pool, &one), folder, strlen(folder)) == 0;
}

/* Whether a URL is in the bucket of S3BucketURL, which may be further down: the path begins with the same name. */
static int is_in_bucket(apr_pool_t *pool, const char *url, const char *bucket_url)
{
    apr_uri_t one, bucket;
    const char *path;

    if (apr_uri_parse(pool, behind_socket(bucket_url), &bucket) != APR_SUCCESS || !bucket.hostname)
        return 1; /* Python says what is wrong with it */
    if (apr_uri_parse(pool, behind_socket(url), &one) != APR_SUCCESS || !is_same_origin(&one, &bucket))
        return 0;
    path = folder_of(pool, &bucket);
    return strncmp(folder_of(pool, &one), path, 1 + strcspn(path + 1, "/") + (path[1] != '\0')) == 0;
}

/* ---------------------------------------------------------------- <Proxy> sections */

/* Whether mod_proxy applies a section to a URL. */
static int is_section_for_proxy(const proxy_dir_conf *proxy, const char *url)
{
    if (proxy->r)
        return ap_regexec(proxy->r, url, 0, NULL, 0) == 0;
    if (proxy->p_is_fnmatch)
        return apr_fnmatch(proxy->p, url, 0) == 0;
    return strncmp(url, proxy->p, strlen(proxy->p)) == 0;
}

/*
 * Whether a section counts for a URL: as for mod_proxy, but that a bucket's URL may lack the slash at its end, and that
 * http://s3:90 is no section of http://s3:9000/, nor /film one of /films/.
 */
static int is_section_of(const proxy_dir_conf *proxy, const char *url)
{
    size_t length = strcspn(url, "?"), section = strlen(proxy->p);

    if (proxy->r || proxy->p_is_fnmatch)
        return is_section_for_proxy(proxy, url);
    if (section == length + 1 && proxy->p[length] == '/')
        return strncmp(url, proxy->p, length) == 0;
    return section && strncmp(url, proxy->p, section) == 0
           && (proxy->p[section - 1] == '/' || strchr("/?", url[section])); /* "", too */
}

/* Whether a section counts for any host: <Proxy "*"> */
static int is_section_of_any(const proxy_dir_conf *proxy)
{
    return is_section_of(proxy, "http://any-host.invalid/any/path");
}

/* What mod_proxy is about to ask. */
typedef struct {
    request_rec *r;
    proxy_server_conf *conf;
    const char *url;        /* in mod_proxy's own spelling; of a balancer the member's */
    const char *as_written; /* as the configuration led to it, which is what mod_proxy looks for sections by */
    int is_mapped;          /* by a rule of the server, before sections were looked for */
    const char *host;       /* of url */
} proxied_url;

static const proxy_dir_conf *proxy_of(ap_conf_vector_t *section)
{
    return ap_get_module_config(section, &proxy_module);
}

/* Whether a section counts, for the request or for the balancer's member. */
static int is_applied(const proxied_url *asked, ap_conf_vector_t *section)
{
    const proxy_dir_conf *proxy = proxy_of(section);

    return is_section_of(proxy, asked->as_written) || (is_balancer(asked->as_written) && is_section_of(proxy, asked->url));
}

/* Whether mod_proxy has merged a section before it asks, whether it counts or not. */
static int is_walked(const proxied_url *asked, ap_conf_vector_t *section)
{
    return asked->is_mapped && is_section_for_proxy(proxy_of(section), asked->as_written);
}

static int has_any_setting(ap_conf_vector_t *section)
{
    return first_setting(usp_s3_variables(section), 1) != NULL;
}

/*
 * Rules in <Proxy> sections. httpd runs them only for a ProxyPass, and nothing of a section's configuration tells here what they
 * set: so they are looked for in the text of the directives.
 */
static apr_hash_t *computed;

/* Whether the arguments of a directive name a setting, as SetEnvIf and [E=] do: S3Region=x, E=S3Region:x, !S3Region */
static int names_setting(const char *arguments)
{
    const char *const *name;

    for (name = setting_names; *name; name++) {
        const char *found = arguments;

        while ((found = ap_strcasestr(found, *name))) {
            found += strlen(*name);
            if (!apr_isalnum(*found))
                return 1;
        }
    }
    return 0;
}

static int computes(const ap_directive_t *directive)
{
    static const char *const rules[] = {"SetEnvIf", "SetEnvIfNoCase", "SetEnvIfExpr", "BrowserMatch", "BrowserMatchNoCase",
                                        "RewriteRule", NULL};
    const char *const *rule;

    for (; directive; directive = directive->next) {
        for (rule = rules; *rule; rule++) {
            if (ap_cstr_casecmp(directive->directive, *rule) == 0 && directive->args && names_setting(directive->args))
                return 1;
        }
        if (computes(directive->first_child))
            return 1;
    }
    return 0;
}

static void find_computed(apr_pool_t *pool, const ap_directive_t *directive)
{
    for (; directive; directive = directive->next) {
        if (ap_cstr_casecmp(directive->directive, "<Proxy") == 0 || ap_cstr_casecmp(directive->directive, "<ProxyMatch") == 0) {
            const char *arguments = apr_pstrmemdup(pool, directive->args, strcspn(directive->args, ">")), *name;

            name = ap_getword_conf(pool, &arguments);
            if (strcmp(name, "~") == 0)
                name = ap_getword_conf(pool, &arguments);
            if (computes(directive->first_child))
                apr_hash_set(computed, name, APR_HASH_KEY_STRING, "");
        }
        else
            find_computed(pool, directive->first_child);
    }
}

void usp_s3_find_computed(apr_pool_t *pool)
{
    computed = apr_hash_make(pool);
    find_computed(pool, ap_conftree);
}

int usp_s3_has_computed(const char *section)
{
    return apr_hash_count(computed) && apr_hash_get(computed, section, APR_HASH_KEY_STRING);
}

int usp_s3_is_bucket(proxy_server_conf *conf, const char *url)
{
    int i;

    for (i = 0; i < conf->sec_proxy->nelts; i++) {
        ap_conf_vector_t *section = APR_ARRAY_IDX(conf->sec_proxy, i, ap_conf_vector_t *);

        if (is_section_of(proxy_of(section), url) && has_any_setting(section))
            return 1;
    }
    return 0;
}

/* ---------------------------------------------------------------- ProxyPass and <Location> sections */

/* Where a request's URL came from. */
typedef struct {
    const struct proxy_alias *alias;
    const char *path; /* that it is for; of a ProxyPassMatch what its pattern begins with */
} mount;

/* What a pattern begins with, without the letter before a "?" or "*". */
static const char *literal_beginning(apr_pool_t *pool, const char *pattern)
{
    size_t length;

    pattern += *pattern == '^';
    length = strcspn(pattern, ".[]()$*+?{}|\\^");
    if (length && pattern[length] && strchr("*?{", pattern[length]))
        length--;
    return apr_pstrmemdup(pool, pattern, length);
}

/* Whether a path is another one or below it: as mod_proxy sees it, but for slashes that httpd has merged already. */
static int is_path_below(const char *path, const char *above)
{
    size_t length = strlen(above);

    while (length && above[length - 1] == '/')
        length--;
    return strncmp(path, above, length) == 0 && (path[length] == '/' || !path[length]);
}

static int leads_on(const struct proxy_alias *alias, request_rec *r)
{
    size_t length = strlen(alias->fake);

    if (alias->regex)
        return ap_regexec(alias->regex, r->uri, 0, NULL, 0) == 0;
    return length && strncmp(r->uri, alias->fake, length) == 0
           && (alias->fake[length - 1] == '/' || r->uri[length] == '/' || !r->uri[length]);
}

static const struct proxy_alias *alias_of(request_rec *r)
{
    proxy_server_conf *conf = ap_get_module_config(r->server->module_config, &proxy_module);
    proxy_dir_conf *section = ap_get_module_config(r->per_dir_config, &proxy_module);
    int i;

    if (section->alias && leads_on(section->alias, r))
        return section->alias;
    for (i = 0; i < conf->aliases->nelts; i++) {
        const struct proxy_alias *alias = &APR_ARRAY_IDX(conf->aliases, i, struct proxy_alias);

        if (leads_on(alias, r))
            return alias;
    }
    return NULL;
}

const char *usp_s3_mount(request_rec *r)
{
    const struct proxy_alias *alias = alias_of(r);

    return alias && !alias->regex && strcmp(alias->real, "!") != 0 ? alias->fake : NULL;
}

/* Whether a ProxyPass names the host that is asked; one with $1 or ${variable} there does not. */
static int names_host(const proxied_url *asked, const struct proxy_alias *alias)
{
    apr_pool_t *pool = asked->r->pool;
    const char *host = strstr(behind_socket(alias->real), "://");
    apr_uri_t one, other;
    size_t length;

    if (!host)
        return 0;
    length = (size_t)(host - alias->real) + 3;
    length += strcspn(alias->real + length, "/$");
    if (alias->real[length] == '$')
        return 0;
    if (is_balancer(alias->real))
        return ap_cstr_casecmpn(alias->real, asked->as_written, length) == 0
               && (asked->as_written[length] == '/' || !asked->as_written[length]);
    return apr_uri_parse(pool, apr_pstrcat(pool, behind_socket(apr_pstrmemdup(pool, alias->real, length)), "/", NULL), &one)
               == APR_SUCCESS
           && apr_uri_parse(pool, behind_socket(asked->url), &other) == APR_SUCCESS && is_same_origin(&one, &other);
}

static mount mount_of(const proxied_url *asked)
{
    mount found = {alias_of(asked->r), NULL};

    if (found.alias && !names_host(asked, found.alias))
        found.alias = NULL;
    if (found.alias)
        found.path = found.alias->regex ? literal_beginning(asked->r->pool, found.alias->fake) : found.alias->fake;
    return found;
}

static int is_pattern(const core_dir_config *location)
{
    return location->r || location->d_is_fnmatch;
}

int usp_s3_is_location_of(ap_conf_vector_t *section, const char *path)
{
    const core_dir_config *location = ap_get_core_module_config(section);
    size_t length = strlen(location->d);

    if (location->r)
        return ap_regexec(location->r, path, 0, NULL, 0) == 0;
    if (location->d_is_fnmatch)
        return apr_fnmatch(location->d, path, APR_FNM_PATHNAME) == 0;
    return strncmp(location->d, path, length) == 0
           && (!length || location->d[length - 1] == '/' || path[length] == '/' || !path[length]);
}

/* Whether a <Location> is one of the ProxyPass that led to the URL: holds it, or is at or below its path. */
static int is_of_mount(ap_conf_vector_t *section, const mount *from)
{
    const core_dir_config *location = ap_get_core_module_config(section);
    const proxy_dir_conf *proxy = proxy_of(section);

    if (proxy && proxy->alias == from->alias)
        return 1;
    return !is_pattern(location) && is_path_below(location->d, from->path);
}


/* ---------------------------------------------------------------- the sections of a request */

/* What is known of a request while its sections are looked for. */
typedef struct {
    const proxied_url *asked;
    mount from;
    const apr_array_header_t *server, *merged; /* variables: of the server's lines, and of all that httpd has merged */
    apr_array_header_t *applied, *ignored;     /* ap_conf_vector_t *: <Proxy> sections that count, or that mod_proxy alone applies */
    const char *computed;                      /* the name of a <Proxy> section with rules that compute settings */
    apr_array_header_t *around;                /* apr_table_entry_t: of the sections around that count */
    int is_claimed;                            /* a section of the request holds a setting */
    const char *url;                           /* of the section that names the bucket */
    const char *refusal;
} search;

/* <Proxy> sections; one of any host names a bucket by S3BucketURL alone. */
static void find_proxy_sections(search *found)
{
    int i;

    found->applied = apr_array_make(found->asked->r->pool, 2, sizeof(ap_conf_vector_t *));
    found->ignored = apr_array_make(found->asked->r->pool, 2, sizeof(ap_conf_vector_t *));
    for (i = 0; i < found->asked->conf->sec_proxy->nelts; i++) {
        ap_conf_vector_t *section = APR_ARRAY_IDX(found->asked->conf->sec_proxy, i, ap_conf_vector_t *);
        const proxy_dir_conf *proxy = proxy_of(section);
        const apr_array_header_t *all;
        const char *bucket;

        if (!is_applied(found->asked, section)) {
            if (is_walked(found->asked, section))
                APR_ARRAY_PUSH(found->ignored, ap_conf_vector_t *) = section;
            continue;
        }
        if (usp_s3_has_computed(proxy->p)) {
            found->is_claimed = 1;
            found->computed = proxy->p;
        }
        if (!(all = usp_s3_variables(section)))
            continue;
        APR_ARRAY_PUSH(found->applied, ap_conf_vector_t *) = section;
        if (!has_any_setting(section))
            continue;
        bucket = value_of(all, "S3BucketURL");
        if (!is_section_of_any(proxy) || (bucket && is_below(found->asked->r->pool, found->asked->url, bucket)))
            found->is_claimed = 1;
        else if (!bucket && holds_identity(all))
            found->refusal = apr_psprintf(found->asked->r->pool, "<Proxy \"%s\"> is one of any host: it needs S3BucketURL",
                                          proxy->p);
        if (!proxy->r && !proxy->p_is_fnmatch)
            found->url = proxy->p;
    }
}

static int is_of_one(const apr_array_header_t *sections, const char *value)
{
    int i;

    for (i = 0; i < sections->nelts; i++) {
        if (usp_s3_holds_value(usp_s3_variables(APR_ARRAY_IDX(sections, i, ap_conf_vector_t *)), value))
            return 1;
    }
    return 0;
}

/* The settings that neither the server nor a <Proxy> section has set. */
static void find_around(search *found)
{
    int i;

    found->around = apr_array_make(found->asked->r->pool, 4, sizeof(apr_table_entry_t));
    for (i = 0; found->merged && i < found->merged->nelts; i++) {
        const apr_table_entry_t *entry = &APR_ARRAY_IDX(found->merged, i, apr_table_entry_t);

        if (usp_s3_may_be_setting(entry) && !usp_s3_holds_value(found->server, entry->val)
            && !is_of_one(found->applied, entry->val) && !is_of_one(found->ignored, entry->val))
            APR_ARRAY_PUSH(found->around, apr_table_entry_t) = *entry;
    }
}

static void leave_out(apr_array_header_t *around, const apr_array_header_t *values)
{
    int i, kept = 0;

    for (i = 0; i < around->nelts; i++) {
        if (!usp_s3_holds_value(values, APR_ARRAY_IDX(around, i, apr_table_entry_t).val))
            APR_ARRAY_IDX(around, kept++, apr_table_entry_t) = APR_ARRAY_IDX(around, i, apr_table_entry_t);
    }
    around->nelts = kept;
}

/* Below a ProxyPass: a <Location> of its own makes the request ours, and one around it does not count. */
static void take_locations(search *found)
{
    apr_pool_t *pool = found->asked->r->pool;
    core_server_config *server = ap_get_core_module_config(found->asked->r->server->module_config);
    char *path = apr_pstrdup(pool, found->asked->r->uri);
    const char *bucket;
    int i;

    ap_no2slash(path);
    for (i = 0; i < server->sec_url->nelts; i++) {
        ap_conf_vector_t *section = APR_ARRAY_IDX(server->sec_url, i, ap_conf_vector_t *);
        const apr_array_header_t *all = usp_s3_variables(section);

        if (!all || !all->nelts || !usp_s3_is_location_of(section, path))
            continue;
        bucket = value_of(all, "S3BucketURL");
        if (is_of_mount(section, &found->from) || (bucket && is_in_bucket(pool, found->asked->url, bucket)))
            found->is_claimed |= usp_s3_holds_setting(all);
        else if (bucket || !is_pattern(ap_get_core_module_config(section)))
            leave_out(found->around, all);
    }
    if (found->is_claimed && !found->url && !strchr(found->from.alias->real, '$') && !is_balancer(found->from.alias->real))
        found->url = behind_socket(found->from.alias->real);
}

/* For every other rule: S3BucketURL says whether what is around is about the URL. */
static void take_around(search *found, const usp_s3_operator *operator)
{
    const char *bucket = value_of(found->around, "S3BucketURL");

    if (!bucket)
        bucket = value_of(operator->rules, "S3BucketURL");
    if (bucket && is_in_bucket(found->asked->r->pool, found->asked->url, bucket))
        found->is_claimed = 1;
    else if (bucket)
        found->around->nelts = 0;
    else if (!found->is_claimed && !found->refusal && holds_identity(found->around))
        found->refusal = "the section around holds keys, but nothing says that they are for this URL: a <Proxy> section of it "
                         "or S3BucketURL";
}

/* A setting that a rule has computed: mod_proxy's hooks come at another time than rules, so none of them counts. */
static void refuse_rules(search *found, const usp_s3_operator *operator)
{
    const apr_table_entry_t *setting = first_setting(operator->rules, 0);
    const char *bucket = value_of(operator->rules, "S3BucketURL");

    if (!bucket)
        bucket = value_of(found->merged, "S3BucketURL");
    if (operator->refusal)
        found->refusal = operator->refusal;
    else if (operator->is_authors && found->is_claimed)
        found->refusal = operator->is_authors;
    else if (found->computed)
        found->refusal = apr_psprintf(found->asked->r->pool,
                                      "<Proxy \"%s\"> computes settings by SetEnvIf or a RewriteRule, which count for the gateway "
                                      "alone: where mod_proxy sends, settings are SetEnv lines", found->computed);
    else if (setting && (!bucket || is_in_bucket(found->asked->r->pool, found->asked->url, bucket)))
        found->refusal = apr_psprintf(found->asked->r->pool,
                                      "%s is set by SetEnvIf or a RewriteRule, which count for the gateway alone: where mod_proxy "
                                      "sends, settings are SetEnv lines", setting->key);
}

/* How mod_proxy would apply a section of a URL that it does not apply now, NULL where that is none of the request's. */
static const char *spelling_of(const proxied_url *asked, const proxy_dir_conf *proxy)
{
    apr_pool_t *pool = asked->r->pool;
    const char *written = is_balancer(asked->as_written) ? asked->url : asked->as_written, *end;
    apr_uri_t section;

    if (proxy->r || !ap_strcasestr(proxy->p, asked->host) || !is_below(pool, asked->url, proxy->p)
        || apr_uri_parse(pool, behind_socket(proxy->p), &section) != APR_SUCCESS)
        return NULL;
    if (!(end = strstr(behind_socket(written), "://")))
        return NULL;
    end += 3 + strcspn(end + 3, "/");
    written = apr_pstrmemdup(pool, written, (apr_size_t)(end - written));
    if ((end = strchr(written, '['))) /* of an IPv6 address: a pattern for httpd. A backslash would be doubled in the log. */
        return apr_psprintf(pool, "<ProxyMatch \"^%.*s[[]%s%s\">", (int)(end - written), written, end + 1,
                            section.path ? section.path : "/");
    return apr_psprintf(pool, "<Proxy \"%s%s\">", written, section.path ? section.path : "/");
}

/* A section in another spelling: mod_proxy does not apply what else it holds, such as SSLProxyVerify and Require. */
static void refuse_spelling(search *found)
{
    int i;

    for (i = 0; i < found->asked->conf->sec_proxy->nelts; i++) {
        ap_conf_vector_t *section = APR_ARRAY_IDX(found->asked->conf->sec_proxy, i, ap_conf_vector_t *);
        const char *right = is_applied(found->asked, section) ? NULL : spelling_of(found->asked, proxy_of(section));

        if (right && has_any_setting(section))
            found->refusal = apr_psprintf(found->asked->r->pool, "mod_proxy does not apply <Proxy \"%s\"> to this request: write %s",
                                          proxy_of(section)->p, right);
    }
}

/* ---------------------------------------------------------------- the settings of a request */

/* The spelling of the last one: httpd's tables keep that of the first. */
static void set(apr_table_t *to, const apr_table_entry_t *entry)
{
    apr_table_unset(to, entry->key);
    apr_table_addn(to, entry->key, entry->val);
}

static int is_merged(const search *found, const char *name)
{
    int i;

    for (i = 0; found->merged && i < found->merged->nelts; i++) {
        if (ap_cstr_casecmp(APR_ARRAY_IDX(found->merged, i, apr_table_entry_t).key, name) == 0)
            return 1;
    }
    return 0;
}

/* ``if_merged``: but what a section around has unset (UnsetEnv). */
static void set_all(const search *found, apr_table_t *to, const apr_array_header_t *all, int if_merged)
{
    int i;

    for (i = 0; all && i < all->nelts; i++) {
        const apr_table_entry_t *entry = &APR_ARRAY_IDX(all, i, apr_table_entry_t);

        if (usp_s3_may_be_setting(entry) && (!if_merged || is_merged(found, entry->key)))
            set(to, entry);
    }
}

/* In httpd's order: the server's lines, <Proxy> sections, sections around. */
static apr_table_t *settings_of(const search *found)
{
    apr_table_t *settings = apr_table_make(found->asked->r->pool, 8);
    const char *bucket = value_of(found->server, "S3BucketURL");
    int i, j;

    set_all(found, settings, found->server, 1);
    if (bucket && !is_in_bucket(found->asked->r->pool, found->asked->url, bucket))
        apr_table_unset(settings, "S3BucketURL"); /* a gateway's */
    for (i = 0; i < found->applied->nelts; i++) {
        ap_conf_vector_t *section = APR_ARRAY_IDX(found->applied, i, ap_conf_vector_t *);
        const apr_array_header_t *unset = usp_s3_unset_variables(section);

        for (j = 0; unset && j < unset->nelts; j++)
            apr_table_unset(settings, APR_ARRAY_IDX(unset, j, apr_table_entry_t).key);
        set_all(found, settings, usp_s3_variables(section), is_walked(found->asked, section));
    }
    set_all(found, settings, found->around, 0);
    return settings;
}

int usp_s3_find_place(request_rec *r, proxy_server_conf *conf, const char *url, const char *unchosen, usp_s3_place *place)
{
    usp_s3_request *request = ap_get_module_config(r->request_config, &usp_s3_module);
    const char *mapped_url = request ? request->mapped_url : NULL;
    proxied_url asked = {r, conf, url, mapped_url ? mapped_url : unchosen, mapped_url != NULL, ""};
    const usp_s3_operator *operator = usp_s3_operator_of(r);
    search found = {.asked = &asked,
                    .server = usp_s3_variables(r->server->lookup_defaults),
                    .merged = usp_s3_variables(r->per_dir_config)};
    apr_uri_t uri;

    if (apr_uri_parse(r->pool, behind_socket(url), &uri) == APR_SUCCESS && uri.hostname)
        asked.host = uri.hostname;
    find_proxy_sections(&found);
    find_around(&found);
    if (found.around->nelts) {
        found.from = mount_of(&asked);
        if (found.from.alias)
            take_locations(&found);
        else
            take_around(&found, operator);
    }
    if (found.is_claimed)
        found.refusal = NULL;
    else
        refuse_spelling(&found);
    refuse_rules(&found, operator);
    if (!found.is_claimed && !found.refusal)
        return 0;
    place->settings = apr_table_elts(settings_of(&found));
    place->url = found.url;
    place->refusal = found.refusal;
    return 1;
}
