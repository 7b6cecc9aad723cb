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
int usp_s3_is_setting(const apr_table_entry_t *entry, int capitals)
{
    const char *const *name;

    if (!usp_s3_may_be_setting(entry) || !(capitals || has_lowercase(entry->key)))
        return 0;
    for (name = setting_names; *name; name++) {
        if (ap_cstr_casecmp(entry->key, *name) == 0)
            return 1;
    }
    return 0;
}

static const apr_table_entry_t *first_setting(const apr_array_header_t *all, int capitals)
{
    int i;

    for (i = 0; all && i < all->nelts; i++) {
        const apr_table_entry_t *entry = &APR_ARRAY_IDX(all, i, apr_table_entry_t);

        if (usp_s3_is_setting(entry, capitals))
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

#define BUCKET "S3BucketURL"

int usp_s3_names_bucket(const apr_array_header_t *all)
{
    return value_of(all, BUCKET) != NULL;
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

/*
 * S3 is HTTP: what goes to FastCGI, AJP or a WebSocket is none of ours, whatever its section holds. HTTP/2 is; Python
 * refuses it, for it cannot be signed.
 */
int usp_s3_is_http(const char *url)
{
    static const char *const schemes[] = {"http:", "https:", "h2:", "h2c:", NULL};
    const char *const *scheme;

    url = behind_socket(url);
    for (scheme = schemes; *scheme; scheme++) {
        if (ap_cstr_casecmpn(url, *scheme, strlen(*scheme)) == 0)
            return 1;
    }
    return 0;
}

int usp_s3_is_balancer(const char *url)
{
    return ap_cstr_casecmpn(url, BALANCER_PREFIX, sizeof(BALANCER_PREFIX) - 1) == 0;
}

static int parse(apr_pool_t *pool, const char *url, apr_uri_t *uri)
{
    return apr_uri_parse(pool, behind_socket(url), uri) == APR_SUCCESS && uri->scheme && uri->hostname;
}

static int port_of(const apr_uri_t *uri)
{
    return uri->port ? uri->port : apr_uri_port_of_scheme(uri->scheme);
}

/* Whether two URLs have the same scheme, host and port, however these are written. */
static int is_same_origin(const apr_uri_t *one, const apr_uri_t *other)
{
    return ap_cstr_casecmp(one->scheme, other->scheme) == 0 && ap_cstr_casecmp(one->hostname, other->hostname) == 0
           && port_of(one) == port_of(other);
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

    if (!parse(pool, url, &one) || !parse(pool, other, &above) || !is_same_origin(&one, &above))
        return 0;
    folder = folder_of(pool, &above);
    return strncmp(folder_of(pool, &one), folder, strlen(folder)) == 0;
}

/* ---------------------------------------------------------------- what is asked */

typedef struct {
    request_rec *r;
    const struct section_index *index;
    const char *url;        /* in mod_proxy's own spelling, without a socket; of a balancer the member's */
    const char *as_written; /* as the configuration led to it, which is what mod_proxy looks for sections by */
    size_t path_end;        /* of as_written: where its query begins */
    int is_mapped;          /* by a rule of the server, before sections were looked for */
    int is_socket;          /* it goes to a socket of this machine, whatever host it names */
    const char *host;       /* of url, in lowercase */
    const char *written_host; /* of as_written, likewise */
} proxied_url;

/* Whether the URL is in the bucket of S3BucketURL, which may be further down: the path begins with the same name. */
static int is_in_bucket(const proxied_url *asked, const char *bucket_url)
{
    apr_pool_t *pool = asked->r->pool;
    apr_uri_t one, bucket;
    const char *path;

    if (!parse(pool, bucket_url, &bucket))
        return 1; /* Python says what is wrong with it */
    if (asked->is_socket || !parse(pool, asked->url, &one) || !is_same_origin(&one, &bucket))
        return 0;
    path = folder_of(pool, &bucket);
    return strncmp(folder_of(pool, &one), path, 1 + strcspn(path + 1, "/") + (path[1] != '\0')) == 0;
}

/* ---------------------------------------------------------------- <Proxy> sections */

static const proxy_dir_conf *proxy_of(ap_conf_vector_t *section)
{
    return ap_get_module_config(section, &proxy_module);
}

/* What follows a beginning, NULL where the text begins otherwise. */
static const char *after(const char *text, const char *beginning)
{
    for (; *beginning; text++, beginning++) {
        if (*text != *beginning)
            return NULL;
    }
    return text;
}

static int is_literal(const proxy_dir_conf *proxy)
{
    return !proxy->r && !proxy->p_is_fnmatch;
}

/* Whether mod_proxy applies a section to a URL. */
static int is_applied_to(const proxy_dir_conf *proxy, const char *url)
{
    if (proxy->r)
        return ap_regexec(proxy->r, url, 0, NULL, 0) == 0;
    return proxy->p_is_fnmatch ? apr_fnmatch(proxy->p, url, 0) == 0 : after(url, proxy->p) != NULL;
}

/*
 * Whether a section counts for a URL: as for mod_proxy, but that a bucket's URL may lack the slash at its end, and that
 * http://s3:90 is no section of http://s3:9000/, nor /film one of /films/.
 */
static int is_section_of(const proxy_dir_conf *proxy, const char *url, size_t path_end)
{
    const char *name = proxy->p, *rest = url;

    if (!is_literal(proxy))
        return is_applied_to(proxy, url);
    for (; *name && *rest == *name; name++) /* most differ soon, and there may be thousands */
        rest++;
    if (*name)
        return rest == url + path_end && *name == '/' && !name[1];
    return rest != url && (rest[-1] == '/' || !*rest || *rest == '/' || *rest == '?');
}

/* Whether a section counts for any host: <Proxy "*"> */
static int is_section_of_any(const proxy_dir_conf *proxy)
{
    return !is_literal(proxy) && is_applied_to(proxy, "http://any-host.invalid/any/path");
}

/* Whether a section counts, for the request or for the balancer's member. */
static int is_applied(const proxied_url *asked, ap_conf_vector_t *section)
{
    const proxy_dir_conf *proxy = proxy_of(section);

    return is_section_of(proxy, asked->as_written, asked->path_end)
           || (usp_s3_is_balancer(asked->as_written) && is_section_of(proxy, asked->url, strcspn(asked->url, "?")));
}

/* Whether mod_proxy has merged a section before it asks, whether it counts or not. */
static int is_walked(const proxied_url *asked, ap_conf_vector_t *section)
{
    return asked->is_mapped && is_applied_to(proxy_of(section), asked->as_written);
}

static int has_any_setting(ap_conf_vector_t *section, const void *unused)
{
    (void)unused;
    return first_setting(usp_s3_variables(section), 1) != NULL;
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

        if (is_section_of(proxy_of(section), url, path_end) && usp_s3_any(section, has_any_setting, NULL))
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

/* A section with settings, and its place among all those of its server. */
typedef struct {
    ap_conf_vector_t *section;
    int place;
} indexed;

/* The sections of a server that hold settings: there may be thousands. */
typedef struct section_index {
    apr_hash_t *by_host;          /* by the host in lowercase: arrays of indexed */
    apr_array_header_t *patterns; /* indexed: that may fall on several hosts */
} section_index;

static apr_hash_t *indexes; /* by proxy_server_conf * */

static int is_name_of_setting(const char *name, size_t length)
{
    const char *const *setting;

    for (setting = setting_names; *setting; setting++) {
        if (strlen(*setting) == length && ap_cstr_casecmpn(name, *setting, length) == 0)
            return 1;
    }
    return 0;
}

/* Whether the words after the first ones name a setting: S3Region=x, !S3Region */
static int sets_variable(apr_pool_t *pool, const char *arguments, int first)
{
    const char *word;

    for (; *arguments && *(word = ap_getword_conf(pool, &arguments)); first--) {
        word += *word == '!';
        if (first <= 0 && is_name_of_setting(word, strcspn(word, "=")))
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
        if (is_name_of_setting(name, strcspn(name, ":,]")))
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

static char *lowercase(apr_pool_t *pool, const char *text)
{
    char *copy = apr_pstrdup(pool, text);

    ap_str_tolower(copy);
    return copy;
}

/* Whether rules in a <Proxy> section compute a setting. */
static int is_computing(ap_conf_vector_t *section)
{
    return apr_hash_count(computing) && usp_s3_computes(section)
           && apr_hash_get(computing, proxy_of(section)->p, APR_HASH_KEY_STRING);
}

/* Where a section belongs in the index: to one host, if nothing but its path and what is below can follow the name. */
static apr_array_header_t *array_for(apr_pool_t *pool, section_index *index, const proxy_dir_conf *proxy)
{
    apr_array_header_t *sections;
    const char *host;
    apr_uri_t uri;

    if (proxy->r || !parse(pool, proxy->p, &uri) || (is_literal(proxy) && !uri.path))
        return index->patterns;
    host = lowercase(pool, uri.hostname);
    if (!(sections = apr_hash_get(index->by_host, host, APR_HASH_KEY_STRING))) {
        sections = apr_array_make(pool, 1, sizeof(indexed));
        apr_hash_set(index->by_host, host, APR_HASH_KEY_STRING, sections);
    }
    return sections;
}

static section_index *index_of(apr_pool_t *pool, const proxy_server_conf *conf)
{
    section_index *index = apr_pcalloc(pool, sizeof(*index));
    int i;

    index->by_host = apr_hash_make(pool);
    index->patterns = apr_array_make(pool, 1, sizeof(indexed));
    for (i = 0; i < conf->sec_proxy->nelts; i++) {
        indexed entry = {APR_ARRAY_IDX(conf->sec_proxy, i, ap_conf_vector_t *), i};
        const proxy_dir_conf *proxy = proxy_of(entry.section);

        if (!usp_s3_any(entry.section, has_any_variable, NULL) && !is_computing(entry.section))
            continue;
        APR_ARRAY_PUSH(array_for(pool, index, proxy), indexed) = entry;
        if (proxy->p_is_fnmatch && array_for(pool, index, proxy) != index->patterns)
            APR_ARRAY_PUSH(index->patterns, indexed) = entry; /* an IPv6 address, or really a pattern */
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

        apr_hash_set(indexes, apr_pmemdup(pool, &conf, sizeof(conf)), sizeof(conf), index_of(pool, conf));
    }
}

static int compare_places(const void *one, const void *other)
{
    return ((const indexed *)one)->place - ((const indexed *)other)->place;
}

/* The sections that may count for any of the URLs, in order; the hosts are in lowercase. */
static apr_array_header_t *candidates(apr_pool_t *pool, const section_index *index, const char *host, const char *other)
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
        qsort(found->elts, (size_t)found->nelts, sizeof(indexed), compare_places);
    return found;
}

/* ---------------------------------------------------------------- ProxyPass and <Location> sections */

/* Where the URL came from. */
typedef struct {
    const struct proxy_alias *alias;
    const char *path; /* that it is for; of a ProxyPassMatch what its pattern begins with; NULL where that is nothing */
} mount;

/* What a pattern begins with, without the letter before a "?" or "*"; NULL where that is no more than a slash. */
static const char *literal_beginning(apr_pool_t *pool, const char *pattern)
{
    const char *from = pattern + (*pattern == '^');
    size_t length = strcspn(from, ".[]()$*+?{}|\\^");

    if (length && from[length] && strchr("*?{", from[length]))
        length--;
    return length > 1 ? apr_pstrmemdup(pool, from, length) : NULL;
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
    const char *rest;

    if (alias->regex)
        return ap_regexec(alias->regex, r->uri, 0, NULL, 0) == 0;
    rest = after(r->uri, alias->fake);
    return rest && rest != r->uri && (rest[-1] == '/' || *rest == '/' || !*rest);
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
    const char *host = strstr(behind_socket(alias->real), "://"), *rest;
    apr_uri_t one, other;
    size_t length;

    if (!host)
        return 0;
    length = (size_t)(host - alias->real) + 3;
    length += strcspn(alias->real + length, "/$");
    if (alias->real[length] == '$')
        return 0;
    if (usp_s3_is_balancer(alias->real) || asked->is_socket) {
        rest = asked->as_written + length;
        return ap_cstr_casecmpn(alias->real, asked->as_written, length) == 0 && (*rest == '/' || !*rest);
    }
    return parse(pool, apr_pstrcat(pool, apr_pstrmemdup(pool, alias->real, length), "/", NULL), &one)
           && parse(pool, asked->url, &other) && is_same_origin(&one, &other);
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

/* Whether a <Location> counts for a path, as for httpd. */
static int is_location_of(const core_dir_config *location, const char *path)
{
    const char *rest;

    if (location->r)
        return ap_regexec(location->r, path, 0, NULL, 0) == 0;
    if (location->d_is_fnmatch)
        return apr_fnmatch(location->d, path, APR_FNM_PATHNAME) == 0;
    rest = after(path, location->d);
    return rest && (rest == path || rest[-1] == '/' || *rest == '/' || !*rest);
}

/* Whether a <Location> holds the ProxyPass that led to the URL. */
static int holds_mount(ap_conf_vector_t *section, const mount *from)
{
    const proxy_dir_conf *proxy = proxy_of(section);

    return proxy && proxy->alias == from->alias;
}

/* Whether a <Location> is at or below the path of that ProxyPass. */
static int is_at_mount(const proxied_url *asked, ap_conf_vector_t *section, const mount *from)
{
    const core_dir_config *location = ap_get_core_module_config(section);
    const char *path = is_pattern(location) ? literal_beginning(asked->r->pool, location->d) : location->d;

    return path && from->path && is_path_below(path, from->path);
}

/* ---------------------------------------------------------------- the sections of a request */

/* What is known of a request while its sections are looked for. */
typedef struct {
    const proxied_url *asked;
    mount from;
    const apr_array_header_t *server, *merged; /* variables: of the server's lines, and of all that httpd has merged */
    apr_array_header_t *applied, *ignored;     /* ap_conf_vector_t *: <Proxy> sections that count, or that mod_proxy alone applies */
    apr_array_header_t *around;                /* variables: of the sections around that count */
    const char *computing;                     /* the name of a <Proxy> section with rules that compute settings */
    int is_claimed;                            /* a section of the request holds a setting */
    const char *url;                           /* of the section that names the bucket */
    const char *refusal;
} search;

/* <Proxy> sections; one of any host names a bucket by S3BucketURL alone. */
static void find_proxy_sections(search *found)
{
    const proxied_url *asked = found->asked;
    int i;
    const apr_array_header_t *sections = candidates(asked->r->pool, asked->index, asked->host, asked->written_host);

    found->applied = apr_array_make(asked->r->pool, 2, sizeof(ap_conf_vector_t *));
    found->ignored = apr_array_make(asked->r->pool, 2, sizeof(ap_conf_vector_t *));
    for (i = 0; i < sections->nelts; i++) {
        ap_conf_vector_t *section = APR_ARRAY_IDX(sections, i, indexed).section;
        const proxy_dir_conf *proxy = proxy_of(section);
        const apr_array_header_t *all;
        const char *bucket;

        if (i && section == APR_ARRAY_IDX(sections, i - 1, indexed).section)
            continue; /* it is in two of the arrays */
        if (!is_applied(asked, section)) {
            if (is_walked(asked, section))
                APR_ARRAY_PUSH(found->ignored, ap_conf_vector_t *) = section;
            continue;
        }
        APR_ARRAY_PUSH(found->applied, ap_conf_vector_t *) = section;
        if (is_computing(section)) {
            found->is_claimed = 1;
            found->computing = proxy->p;
        }
        if (!usp_s3_any(section, has_any_setting, NULL))
            continue;
        all = usp_s3_variables(section);
        bucket = value_of(all, BUCKET);
        if (!is_section_of_any(proxy) || (bucket && is_in_bucket(asked, bucket)))
            found->is_claimed = 1;
        else if (!bucket && holds_identity(all))
            found->refusal = apr_psprintf(asked->r->pool, "<Proxy \"%s\"> is one of any host: it needs S3BucketURL", proxy->p);
        if (is_literal(proxy) && usp_s3_is_http(proxy->p))
            found->url = behind_socket(proxy->p);
    }
}

static int is_of_one(const apr_array_header_t *sections, const apr_table_entry_t *entry)
{
    int i;

    for (i = 0; i < sections->nelts; i++) {
        if (usp_s3_holds(usp_s3_variables(APR_ARRAY_IDX(sections, i, ap_conf_vector_t *)), entry))
            return 1;
    }
    return 0;
}

/*
 * The settings that neither the server nor a <Proxy> section has set, but perhaps an <If> in one. All empty values are one string
 * for mod_env; where all sections are merged already, such a one is the last word, whoever has set it.
 */
static void find_around(search *found)
{
    int i;

    found->around = apr_array_make(found->asked->r->pool, 4, sizeof(apr_table_entry_t));
    for (i = 0; found->merged && i < found->merged->nelts; i++) {
        const apr_table_entry_t *entry = &APR_ARRAY_IDX(found->merged, i, apr_table_entry_t);
        int is_last_word = !*entry->val && found->asked->is_mapped;

        if (usp_s3_may_be_setting(entry)
            && (is_last_word
                || (!usp_s3_holds(found->server, entry) && !is_of_one(found->applied, entry) && !is_of_one(found->ignored, entry))))
            APR_ARRAY_PUSH(found->around, apr_table_entry_t) = *entry;
    }
}

/* Take away what a section, or one in it, has set. */
static void take_away(apr_array_header_t *variables, ap_conf_vector_t *section, int with_inner)
{
    int i, kept = 0;

    for (i = 0; i < variables->nelts; i++) {
        const apr_table_entry_t *entry = &APR_ARRAY_IDX(variables, i, apr_table_entry_t);

        if (!(with_inner ? usp_s3_any(section, usp_s3_has_entry, entry) : usp_s3_has_entry(section, entry)))
            APR_ARRAY_IDX(variables, kept++, apr_table_entry_t) = *entry;
    }
    variables->nelts = kept;
}

/*
 * Below a ProxyPass: a <Location> of its own makes the request ours, and one around it does not count, unless its S3BucketURL
 * says so. Of those that count, their own variables are taken: a later one that does not count may have taken their place in
 * what is merged. What is left of that then are variables of <If> sections.
 */
static void add_locations(search *found)
{
    const proxied_url *asked = found->asked;
    core_server_config *server = ap_get_core_module_config(asked->r->server->module_config);
    apr_array_header_t *counting = apr_array_make(asked->r->pool, 4, sizeof(apr_table_entry_t));
    char *path = apr_pstrdup(asked->r->pool, asked->r->uri);
    int i;

    ap_no2slash(path);
    for (i = 0; i < server->sec_url->nelts; i++) {
        ap_conf_vector_t *section = APR_ARRAY_IDX(server->sec_url, i, ap_conf_vector_t *);
        const core_dir_config *location = ap_get_core_module_config(section);
        const apr_array_header_t *all = usp_s3_variables(section);
        const char *bucket = value_of(all, BUCKET);
        int is_own;

        if ((!all && !location->sec_if && !location->sec_file) || !is_location_of(location, path))
            continue;
        is_own = holds_mount(section, &found->from)
                 || (bucket ? is_in_bucket(asked, bucket) : is_at_mount(asked, section, &found->from));
        if (is_own || (is_pattern(location) && !bucket)) {
            found->is_claimed |= is_own && usp_s3_any(section, has_any_setting, NULL) && first_setting(found->merged, 0);
            take_away(found->around, section, 0);
            if (all)
                apr_array_cat(counting, all);
        }
        else
            take_away(found->around, section, 1);
    }
    apr_array_cat(counting, found->around);
    found->around = counting;
    if (found->is_claimed && !found->url && usp_s3_is_http(found->from.alias->real) && !strchr(found->from.alias->real, '$'))
        found->url = behind_socket(found->from.alias->real);
}

/* What is around says by S3BucketURL, set or computed, whether it is about the URL; keys that say nothing are refused. */
static void judge_around(search *found, const usp_s3_operator *operator)
{
    const char *bucket = value_of(found->around, BUCKET);

    if (!bucket)
        bucket = value_of(operator->computed, BUCKET);
    if (bucket && is_in_bucket(found->asked, bucket))
        found->is_claimed = 1;
    else if (bucket && !(found->from.alias && found->is_claimed))
        found->around->nelts = 0;
    else if (!bucket && !found->is_claimed && holds_identity(found->around))
        found->refusal = "the section around holds keys, but nothing says that they are for this URL: a <Proxy> section of it "
                         "or S3BucketURL";
}

/* How mod_proxy would apply a section of a URL that it does not apply now, NULL where that is none of the request's. */
static const char *spelling_of(const proxied_url *asked, const proxy_dir_conf *proxy)
{
    apr_pool_t *pool = asked->r->pool;
    const char *written = usp_s3_is_balancer(asked->as_written) ? asked->url : asked->as_written, *end;
    apr_uri_t section;

    if (!is_below(pool, asked->url, proxy->p) || !parse(pool, proxy->p, &section))
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
    const apr_array_header_t *sections = apr_hash_get(found->asked->index->by_host, found->asked->host, APR_HASH_KEY_STRING);
    apr_pool_t *pool = found->asked->r->pool;
    int i;

    for (i = 0; sections && i < sections->nelts; i++) {
        ap_conf_vector_t *section = APR_ARRAY_IDX(sections, i, indexed).section;
        const char *name = proxy_of(section)->p;
        const char *right = is_applied(found->asked, section) ? NULL : spelling_of(found->asked, proxy_of(section));

        if (!right || !usp_s3_any(section, has_any_setting, NULL))
            continue;
        found->refusal = apr_psprintf(pool, "mod_proxy does not apply <Proxy \"%s\"> to this request: write %s", name, right);
        if (strcmp(right, apr_psprintf(pool, "<Proxy \"%s\">", name)) == 0)
            found->refusal = apr_psprintf(pool, "mod_proxy does not apply <Proxy \"%s\"> to this request, whose path is encoded "
                                          "otherwise", name);
    }
}

/*
 * What is not the operator's, and what rules have computed: mod_proxy's hooks come at another time than rules, so that these
 * would count now and then. Keys that were computed are refused wherever they may be meant.
 */
static void refuse_others(search *found, const usp_s3_operator *operator)
{
    const apr_table_entry_t *setting = first_setting(operator->computed, 0);
    const char *bucket = value_of(operator->computed, BUCKET), *author = found->is_claimed ? usp_s3_author(found->asked->r) : NULL;
    apr_pool_t *pool = found->asked->r->pool;

    if (!bucket)
        bucket = value_of(found->merged, BUCKET);
    if (bucket && !is_in_bucket(found->asked, bucket))
        setting = NULL;
    if (operator->refusal)
        found->refusal = operator->refusal;
    else if (found->is_claimed && operator->doubt)
        found->refusal = operator->doubt;
    else if (author)
        found->refusal = author;
    else if (found->computing)
        found->refusal = apr_psprintf(pool, "<Proxy \"%s\"> computes settings by SetEnvIf or a RewriteRule, which count for the "
                                      "gateway alone: where mod_proxy sends, settings are SetEnv lines", found->computing);
    else if (setting && (found->is_claimed || bucket || holds_identity(operator->computed)))
        found->refusal = apr_psprintf(pool, "%s is set by SetEnvIf or a RewriteRule, which count for the gateway alone: where "
                                      "mod_proxy sends, settings are SetEnv lines", setting->key);
}

/* ---------------------------------------------------------------- the settings of a request */

static int is_merged(const search *found, const char *name)
{
    int i;

    for (i = 0; found->merged && i < found->merged->nelts; i++) {
        if (ap_cstr_casecmp(APR_ARRAY_IDX(found->merged, i, apr_table_entry_t).key, name) == 0)
            return 1;
    }
    return 0;
}

/* ``if_merged``: but what a section around has unset (UnsetEnv). The last one's spelling counts: tables keep the first one's. */
static void set_all(const search *found, apr_table_t *to, const apr_array_header_t *all, int if_merged)
{
    int i;

    for (i = 0; all && i < all->nelts; i++) {
        const apr_table_entry_t *entry = &APR_ARRAY_IDX(all, i, apr_table_entry_t);

        if (usp_s3_may_be_setting(entry) && (!if_merged || is_merged(found, entry->key))) {
            apr_table_unset(to, entry->key);
            apr_table_addn(to, entry->key, entry->val);
        }
    }
}

/* In httpd's order: the server's lines, <Proxy> sections, sections around. */
static apr_table_t *settings_of(const search *found)
{
    apr_table_t *settings = apr_table_make(found->asked->r->pool, 8);
    const char *bucket = value_of(found->server, BUCKET);
    int i, j;

    set_all(found, settings, found->server, 1);
    if (bucket && !is_in_bucket(found->asked, bucket))
        apr_table_unset(settings, BUCKET); /* a gateway's */
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

/* The URL as the configuration led to it; of a socket, its name is in a note already. */
static const char *as_written(request_rec *r, const char *unchosen, const char *mapped_url)
{
    const char *socket = apr_table_get(r->notes, "uds_path");

    if (mapped_url)
        return mapped_url;
    return socket ? apr_pstrcat(r->pool, "unix:", socket, "|", unchosen, NULL) : unchosen;
}

int usp_s3_find_place(request_rec *r, proxy_server_conf *conf, const char *url, const char *unchosen, usp_s3_place *place)
{
    usp_s3_request *request = ap_get_module_config(r->request_config, &usp_s3_module);
    const char *mapped_url = request ? request->mapped_url : NULL;
    proxied_url asked = {.r = r, .url = url, .index = apr_hash_get(indexes, &conf, sizeof(conf)), .as_written = as_written(r, unchosen, mapped_url),
                         .is_mapped = mapped_url != NULL, .is_socket = apr_table_get(r->notes, "uds_path") != NULL};
    const usp_s3_operator *operator = usp_s3_operator_of(r);
    search found = {.asked = &asked,
                    .server = usp_s3_variables(r->server->lookup_defaults),
                    .merged = usp_s3_variables(r->per_dir_config)};
    apr_uri_t uri;

    if (!asked.index)
        return 0;
    asked.path_end = strcspn(asked.as_written, "?");
    asked.host = parse(r->pool, url, &uri) ? lowercase(r->pool, uri.hostname) : "";
    asked.written_host = parse(r->pool, asked.as_written, &uri) ? lowercase(r->pool, uri.hostname) : "";
    find_proxy_sections(&found);
    find_around(&found);
    if (found.around->nelts) {
        found.from = mount_of(&asked);
        if (found.from.alias)
            add_locations(&found);
        judge_around(&found, operator);
    }
    if (found.is_claimed)
        found.refusal = NULL;
    else
        refuse_spelling(&found);
    refuse_others(&found, operator);
    if (!found.is_claimed && !found.refusal)
        return 0;
    place->settings = apr_table_elts(settings_of(&found));
    place->url = found.url;
    place->refusal = found.refusal;
    return 1;
}
