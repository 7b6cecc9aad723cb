/*
 * Which of the requests that mod_proxy sends go to a bucket, and which settings apply to each. The rule is the same for
 * ProxyPass, RewriteRule [P], SetHandler, balancers and subrequests; docs/security.md explains it to operators.
 *
 * A request is signed if one of its sections contains a setting. Its sections are:
 *   - <Proxy> sections of its URL, as mod_proxy applies them;
 *   - the <Location> with the ProxyPass that made the URL, and those at or below that ProxyPass's path;
 *   - other enclosing sections whose S3BucketURL the URL is below.
 * So no signature is sent to a URL that the operator has not named. Settings outside of sections are defaults.
 */

#include "sections.h"

#include "apr_fnmatch.h"

/* ---------------------------------------------------------------- the URL */

/* The URL that mod_proxy is about to send a request to. */
typedef struct {
    request_rec *r;
    const usp_s3_section_index *index;
    const char *url;           /* in mod_proxy's spelling, without a socket; the member's if there is a balancer */
    const char *written_url;   /* as written in the configuration, by which mod_proxy looks for sections */
    size_t path_end;           /* where the query of written_url begins */
    int is_known_before_merge; /* a ProxyPass or RewriteRule of the server made it, before mod_proxy merged sections */
    int is_socket;             /* the request goes to a Unix domain socket, whatever the host is */
    const char *host;          /* of url, in lowercase */
    const char *written_host;  /* of written_url, in lowercase */
} proxy_target;

/* Whether the URL is in the bucket of S3BucketURL. A deeper S3BucketURL matches too if the first segment is the same. */
static int is_in_bucket(const proxy_target *target, const char *bucket_url)
{
    apr_pool_t *pool = target->r->pool;
    apr_uri_t parsed, bucket;
    const char *path;

    if (!usp_s3_parse_url(pool, bucket_url, &bucket))
        return 1; /* Python reports the error */
    if (target->is_socket || !usp_s3_parse_url(pool, target->url, &parsed) || !usp_s3_is_same_origin(&parsed, &bucket))
        return 0;
    path = usp_s3_decoded_directory(pool, &bucket);
    return strncmp(usp_s3_decoded_directory(pool, &parsed), path, 1 + strcspn(path + 1, "/") + (path[1] != '\0')) == 0;
}

/* Whether a <Proxy> section matches the URL, or that of a balancer's member. */
static int section_matches(const proxy_target *target, ap_conf_vector_t *section)
{
    const proxy_dir_conf *proxy = usp_s3_get_proxy_config(section);

    return usp_s3_section_matches(proxy, target->written_url, target->path_end)
           || (usp_s3_is_balancer_url(target->written_url)
               && usp_s3_section_matches(proxy, target->url, strcspn(target->url, "?")));
}

/* Whether mod_proxy has merged a <Proxy> section into the request's configuration, whether its settings apply or not. */
static int is_merged_section(const proxy_target *target, ap_conf_vector_t *section)
{
    return target->is_known_before_merge && usp_s3_mod_proxy_applies(usp_s3_get_proxy_config(section), target->written_url);
}

/* ---------------------------------------------------------------- ProxyPass and <Location> sections */

/* The ProxyPass that made the URL. */
typedef struct {
    const struct proxy_alias *alias; /* NULL if another rule made the URL */
    const char *path;                /* its path; of a ProxyPassMatch the literal prefix of the pattern, NULL if empty */
} proxy_pass_match;

/* The literal prefix of a pattern, without a character before "?" or "*"; NULL if it is only a slash. */
static const char *literal_prefix(apr_pool_t *pool, const char *pattern)
{
    const char *literal = pattern + (*pattern == '^');
    size_t length = strcspn(literal, ".[]()$*+?{}|\\^");

    if (length && literal[length] && strchr("*?{", literal[length]))
        length--;
    return length > 1 ? apr_pstrmemdup(pool, literal, length) : NULL;
}

/* Whether a path is another path or below it, as for mod_proxy. httpd has merged slashes already. */
static int is_path_below(const char *path, const char *above)
{
    size_t length = strlen(above);

    while (length && above[length - 1] == '/')
        length--;
    return strncmp(path, above, length) == 0 && (path[length] == '/' || !path[length]);
}

static int alias_matches(const struct proxy_alias *alias, request_rec *r)
{
    const char *rest;

    if (alias->regex)
        return ap_regexec(alias->regex, r->uri, 0, NULL, 0) == 0;
    rest = usp_s3_skip_prefix(r->uri, alias->fake);
    return rest && rest != r->uri && (rest[-1] == '/' || *rest == '/' || !*rest);
}

static const struct proxy_alias *find_alias(request_rec *r)
{
    proxy_server_conf *conf = ap_get_module_config(r->server->module_config, &proxy_module);
    proxy_dir_conf *section = ap_get_module_config(r->per_dir_config, &proxy_module);
    int i;

    if (section->alias && alias_matches(section->alias, r))
        return section->alias;
    for (i = 0; i < conf->aliases->nelts; i++) {
        const struct proxy_alias *alias = &APR_ARRAY_IDX(conf->aliases, i, struct proxy_alias);

        if (alias_matches(alias, r))
            return alias;
    }
    return NULL;
}

const char *usp_s3_proxy_pass_path(request_rec *r)
{
    const struct proxy_alias *alias = find_alias(r);

    return alias && !alias->regex && strcmp(alias->real, "!") != 0 ? alias->fake : NULL;
}

/* Whether a ProxyPass has the host of the URL. False if its host contains $1 or ${variable}. */
static int alias_has_host(const proxy_target *target, const struct proxy_alias *alias)
{
    apr_pool_t *pool = target->r->pool;
    const char *host = strstr(usp_s3_skip_socket(alias->real), "://"), *rest;
    apr_uri_t alias_host, parsed;
    size_t length;

    if (!host)
        return 0;
    length = (size_t)(host - alias->real) + 3;
    length += strcspn(alias->real + length, "/$");
    if (alias->real[length] == '$')
        return 0;
    if (usp_s3_is_balancer_url(alias->real) || target->is_socket) {
        rest = target->written_url + length;
        return ap_cstr_casecmpn(alias->real, target->written_url, length) == 0 && (*rest == '/' || !*rest);
    }
    return usp_s3_parse_url(pool, apr_pstrcat(pool, apr_pstrmemdup(pool, alias->real, length), "/", NULL), &alias_host)
           && usp_s3_parse_url(pool, target->url, &parsed) && usp_s3_is_same_origin(&alias_host, &parsed);
}

static proxy_pass_match find_proxy_pass(const proxy_target *target)
{
    proxy_pass_match proxy_pass = {find_alias(target->r), NULL};
    const struct proxy_alias *alias = proxy_pass.alias;

    if (alias && !alias_has_host(target, alias))
        proxy_pass.alias = alias = NULL;
    if (alias)
        proxy_pass.path = alias->regex ? literal_prefix(target->r->pool, alias->fake) : alias->fake;
    return proxy_pass;
}

static int is_pattern(const core_dir_config *location)
{
    return location->r || location->d_is_fnmatch;
}

/* Whether httpd applies a <Location> to a path. */
static int location_matches(const core_dir_config *location, const char *path)
{
    const char *rest;

    if (location->r)
        return ap_regexec(location->r, path, 0, NULL, 0) == 0;
    if (location->d_is_fnmatch)
        return apr_fnmatch(location->d, path, APR_FNM_PATHNAME) == 0;
    rest = usp_s3_skip_prefix(path, location->d);
    return rest && (rest == path || rest[-1] == '/' || *rest == '/' || !*rest);
}

/* Whether a <Location> contains the ProxyPass that made the URL. */
static int location_has_proxy_pass(ap_conf_vector_t *section, const proxy_pass_match *proxy_pass)
{
    const proxy_dir_conf *proxy = usp_s3_get_proxy_config(section);

    return proxy && proxy->alias == proxy_pass->alias;
}

/* Whether a <Location> is at or below the path of that ProxyPass. */
static int is_below_proxy_pass(const proxy_target *target, ap_conf_vector_t *section, const proxy_pass_match *proxy_pass)
{
    const core_dir_config *location = ap_get_core_module_config(section);
    const char *path = is_pattern(location) ? literal_prefix(target->r->pool, location->d) : location->d;

    return path && proxy_pass->path && is_path_below(path, proxy_pass->path);
}

/* ---------------------------------------------------------------- the sections of a request */

/* The state while the sections of a request are matched. Sections are arrays of ap_conf_vector_t *. */
typedef struct {
    const proxy_target *target;
    proxy_pass_match proxy_pass;
    const apr_array_header_t *default_variables; /* of SetEnv outside of sections */
    const apr_array_header_t *merged_variables; /* of all sections that httpd has merged */
    apr_array_header_t *matched;                /* <Proxy> sections whose settings apply */
    apr_array_header_t *unmatched;              /* <Proxy> sections that mod_proxy has merged, but that do not match */
    apr_array_header_t *enclosing_variables;    /* of <Location>, <Directory> and <If> sections that apply */
    const char *rule_section;                   /* the name of a <Proxy> section whose rules set settings */
    int must_sign;                              /* a section of the request contains a setting */
    const char *section_url;                    /* the URL of the section that names the bucket */
} section_match;

/*
 * Match <Proxy> sections. Returns an error message if one with credentials matches any host and has no S3BucketURL, else NULL.
 */
static const char *match_proxy_sections(section_match *match)
{
    const proxy_target *target = match->target;
    const apr_array_header_t *sections = usp_s3_find_candidates(target->r->pool, target->index, target->host,
                                                                target->written_host);
    const char *error = NULL;
    int i;

    match->matched = apr_array_make(target->r->pool, 2, sizeof(ap_conf_vector_t *));
    match->unmatched = apr_array_make(target->r->pool, 2, sizeof(ap_conf_vector_t *));
    for (i = 0; i < sections->nelts; i++) {
        ap_conf_vector_t *section = APR_ARRAY_IDX(sections, i, usp_s3_indexed_section).section;
        const proxy_dir_conf *proxy = usp_s3_get_proxy_config(section);
        const apr_array_header_t *all;
        const char *bucket;

        if (i && section == APR_ARRAY_IDX(sections, i - 1, usp_s3_indexed_section).section)
            continue; /* it is in two arrays of the index */
        if (!section_matches(target, section)) {
            if (is_merged_section(target, section))
                APR_ARRAY_PUSH(match->unmatched, ap_conf_vector_t *) = section;
            continue;
        }
        APR_ARRAY_PUSH(match->matched, ap_conf_vector_t *) = section;
        if (usp_s3_section_has_setting_rules(section)) {
            match->must_sign = 1;
            match->rule_section = usp_s3_url_for_log(target->r->pool, proxy->p);
        }
        if (!usp_s3_any_section(section, usp_s3_section_has_setting, NULL))
            continue;
        all = usp_s3_setenv_variables(section);
        bucket = usp_s3_get_value(all, BUCKET_URL);
        if (!usp_s3_section_matches_any_host(proxy) || (bucket && is_in_bucket(target, bucket)))
            match->must_sign = 1;
        else if (!bucket && usp_s3_has_credentials(all))
            error = apr_psprintf(target->r->pool, "<Proxy \"%s\"> matches any host: it needs S3BucketURL",
                                 usp_s3_url_for_log(target->r->pool, proxy->p));
        if (usp_s3_is_literal_section(proxy) && usp_s3_is_http_url(proxy->p))
            match->section_url = usp_s3_skip_socket(proxy->p);
    }
    return error;
}

static int any_sets_same_entry(const apr_array_header_t *sections, const apr_table_entry_t *entry)
{
    int i;

    for (i = 0; i < sections->nelts; i++) {
        if (usp_s3_contains_same_entry(usp_s3_setenv_variables(APR_ARRAY_IDX(sections, i, ap_conf_vector_t *)), entry))
            return 1;
    }
    return 0;
}

/*
 * Find the settings that neither the server nor a <Proxy> section has set; an <If> in a <Proxy> section may have. mod_env uses
 * the same pointer for all empty values, so it is unknown which section has set one: if all sections are merged, it
 * overrides the others.
 */
static void find_enclosing_variables(section_match *match)
{
    int i;

    match->enclosing_variables = apr_array_make(match->target->r->pool, 4, sizeof(apr_table_entry_t));
    for (i = 0; match->merged_variables && i < match->merged_variables->nelts; i++) {
        const apr_table_entry_t *entry = &APR_ARRAY_IDX(match->merged_variables, i, apr_table_entry_t);
        int overrides = !*entry->val && match->target->is_known_before_merge;

        if (usp_s3_has_setting_prefix(entry)
            && (overrides
                || (!usp_s3_contains_same_entry(match->default_variables, entry) && !any_sets_same_entry(match->matched, entry)
                    && !any_sets_same_entry(match->unmatched, entry))))
            APR_ARRAY_PUSH(match->enclosing_variables, apr_table_entry_t) = *entry;
    }
}

static void remove_variables_if(apr_array_header_t *variables, ap_conf_vector_t *section, usp_s3_section_test *sets)
{
    int i, kept = 0;

    for (i = 0; i < variables->nelts; i++) {
        const apr_table_entry_t *entry = &APR_ARRAY_IDX(variables, i, apr_table_entry_t);

        if (!sets(section, entry))
            APR_ARRAY_IDX(variables, kept++, apr_table_entry_t) = *entry;
    }
    variables->nelts = kept;
}

/* Remove the variables that a section itself has set. */
static void remove_variables(apr_array_header_t *variables, ap_conf_vector_t *section)
{
    remove_variables_if(variables, section, usp_s3_sets_same_entry);
}

static int section_or_inner_sets_entry(ap_conf_vector_t *section, const void *entry)
{
    return usp_s3_any_section(section, usp_s3_sets_same_entry, entry);
}

/* Remove the variables that a section has set, or an <If> or <Files> section in it. */
static void remove_variables_with_inner(apr_array_header_t *variables, ap_conf_vector_t *section)
{
    remove_variables_if(variables, section, section_or_inner_sets_entry);
}

/*
 * Match <Location> sections if a ProxyPass made the URL:
 *
 *   section                                                  its settings apply   the request must be signed
 *   own: it contains the ProxyPass, or its S3BucketURL is
 *     the URL's; without S3BucketURL also if it is at or
 *     below the path of the ProxyPass                        yes                  if it contains a setting
 *   pattern: another pattern without S3BucketURL             yes                  not because of it
 *   other                                                    no                   not because of it
 *
 * The variables of sections that apply are read from the sections themselves: in the merged variables a later section, which
 * does not apply, may have replaced them. What is left of the merged variables then are those of <If> sections.
 */
static void match_locations(section_match *match)
{
    const proxy_target *target = match->target;
    core_server_config *server = ap_get_core_module_config(target->r->server->module_config);
    apr_array_header_t *variables = apr_array_make(target->r->pool, 4, sizeof(apr_table_entry_t));
    const char *real = match->proxy_pass.alias->real;
    char *path = apr_pstrdup(target->r->pool, target->r->uri);
    int i;

    ap_no2slash(path);
    for (i = 0; i < server->sec_url->nelts; i++) {
        ap_conf_vector_t *section = APR_ARRAY_IDX(server->sec_url, i, ap_conf_vector_t *);
        const core_dir_config *location = ap_get_core_module_config(section);
        const apr_array_header_t *all = usp_s3_setenv_variables(section);
        const char *bucket = usp_s3_get_value(all, BUCKET_URL);
        int belongs_to_proxy_pass;

        if ((!all && !location->sec_if && !location->sec_file) || !location_matches(location, path))
            continue;
        belongs_to_proxy_pass = location_has_proxy_pass(section, &match->proxy_pass)
                                || (bucket ? is_in_bucket(target, bucket)
                                           : is_below_proxy_pass(target, section, &match->proxy_pass));
        if (belongs_to_proxy_pass || (is_pattern(location) && !bucket)) {
            match->must_sign |= belongs_to_proxy_pass && usp_s3_any_section(section, usp_s3_section_has_setting, NULL)
                                && usp_s3_first_setting(match->merged_variables, 0);
            remove_variables(match->enclosing_variables, section);
            if (all)
                apr_array_cat(variables, all);
        }
        else
            remove_variables_with_inner(match->enclosing_variables, section);
    }
    apr_array_cat(variables, match->enclosing_variables);
    match->enclosing_variables = variables;
    if (match->must_sign && !match->section_url && usp_s3_is_http_url(real) && !strchr(real, '$'))
        match->section_url = usp_s3_skip_socket(real);
}

/*
 * Enclosing sections apply if their S3BucketURL is the URL's, whether SetEnv or a rule sets it. Returns an error message if
 * there are credentials without S3BucketURL, else NULL.
 */
static const char *check_enclosing_bucket(section_match *match, const usp_s3_trusted_variables *trusted)
{
    const char *bucket = usp_s3_get_value(match->enclosing_variables, BUCKET_URL);

    if (!bucket)
        bucket = usp_s3_get_value(trusted->rule_variables, BUCKET_URL);
    if (bucket && is_in_bucket(match->target, bucket))
        match->must_sign = 1;
    else if (bucket && !(match->proxy_pass.alias && match->must_sign))
        apr_array_clear(match->enclosing_variables);
    else if (!bucket && !match->must_sign && usp_s3_has_credentials(match->enclosing_variables))
        return "the enclosing section contains credentials, but nothing says that they are for this URL: add a <Proxy> "
               "section of it, or S3BucketURL";
    return NULL;
}

/* ---------------------------------------------------------------- requests that are rejected */

/* How a section of the URL must be written for mod_proxy to apply it; NULL if it is not a section of the URL. */
static const char *applied_spelling(const proxy_target *target, const proxy_dir_conf *proxy)
{
    apr_pool_t *pool = target->r->pool;
    const char *written = usp_s3_is_balancer_url(target->written_url) ? target->url : target->written_url, *end;
    apr_uri_t section;

    if (!usp_s3_is_url_below(pool, target->url, proxy->p) || !usp_s3_parse_url(pool, proxy->p, &section))
        return NULL;
    if (!(end = strstr(usp_s3_skip_socket(written), "://")))
        return NULL;
    end += 3 + strcspn(end + 3, "/");
    written = usp_s3_url_for_log(pool, apr_pstrmemdup(pool, written, (apr_size_t)(end - written)));
    if ((end = strchr(written, '['))) /* an IPv6 address is a pattern for httpd; "[[]" as the log would double a backslash */
        return apr_psprintf(pool, "<ProxyMatch \"^%.*s[[]%s%s\">", (int)(end - written), written, end + 1,
                            section.path ? section.path : "/");
    return apr_psprintf(pool, "<Proxy \"%s%s\">", written, section.path ? section.path : "/");
}

/*
 * Error message if there is a section of the URL in another spelling, else NULL: mod_proxy does not apply the other directives
 * in that section, such as SSLProxyVerify and Require.
 */
static const char *check_spelling(const section_match *match)
{
    const proxy_target *target = match->target;
    const apr_array_header_t *sections = apr_hash_get(target->index->by_host, target->host, APR_HASH_KEY_STRING);
    apr_pool_t *pool = target->r->pool;
    const char *error = NULL;
    int i;

    for (i = 0; sections && i < sections->nelts; i++) {
        ap_conf_vector_t *section = APR_ARRAY_IDX(sections, i, usp_s3_indexed_section).section;
        const proxy_dir_conf *proxy = usp_s3_get_proxy_config(section);
        const char *name = usp_s3_url_for_log(pool, proxy->p);
        const char *spelling = section_matches(target, section) ? NULL : applied_spelling(target, proxy);

        if (!spelling || !usp_s3_any_section(section, usp_s3_section_has_setting, NULL))
            continue;
        if (strcmp(spelling, apr_psprintf(pool, "<Proxy \"%s\">", name)) == 0)
            error = apr_psprintf(pool,
                                 "mod_proxy does not apply <Proxy \"%s\"> to this request: its path is "
                                 "percent-encoded differently",
                                 name);
        else
            error = apr_psprintf(pool, "mod_proxy does not apply <Proxy \"%s\"> to this request: write %s", name, spelling);
    }
    return error;
}

/*
 * Error message for settings that are not the operator's, and for those that rules set, else NULL: mod_proxy's hooks and rules
 * run at different times, so such settings would apply sometimes only. Credentials that a rule sets are an error for any URL.
 */
static const char *check_settings(const section_match *match, const usp_s3_trusted_variables *trusted)
{
    const apr_table_entry_t *setting = usp_s3_first_setting(trusted->rule_variables, 0);
    const char *bucket = usp_s3_get_value(trusted->rule_variables, BUCKET_URL);
    const char *url_error = match->must_sign ? usp_s3_get_url_error(match->target->r) : NULL;
    apr_pool_t *pool = match->target->r->pool;

    if (!bucket)
        bucket = usp_s3_get_value(match->merged_variables, BUCKET_URL);
    if (bucket && !is_in_bucket(match->target, bucket))
        setting = NULL;
    if (trusted->htaccess_error)
        return trusted->htaccess_error;
    if (match->must_sign && trusted->ambiguity_error)
        return trusted->ambiguity_error;
    if (url_error)
        return url_error;
    if (match->rule_section)
        return apr_psprintf(pool,
                            "SetEnvIf or RewriteRule sets settings in <Proxy \"%s\">, which only the gateway supports: "
                            "use SetEnv",
                            match->rule_section);
    if (setting && (match->must_sign || bucket || usp_s3_has_credentials(trusted->rule_variables)))
        return apr_psprintf(pool,
                            "SetEnvIf or RewriteRule sets %s, which only the gateway supports: use SetEnv for requests "
                            "through mod_proxy",
                            setting->key);
    return NULL;
}

/* ---------------------------------------------------------------- the settings of a request */

static int is_merged(const section_match *match, const char *name)
{
    int i;

    for (i = 0; match->merged_variables && i < match->merged_variables->nelts; i++) {
        if (ap_cstr_casecmp(APR_ARRAY_IDX(match->merged_variables, i, apr_table_entry_t).key, name) == 0)
            return 1;
    }
    return 0;
}

/*
 * Copy settings to a table, with the last spelling of the name: tables keep the first one. only_merged: not those that an
 * enclosing section has unset (UnsetEnv).
 */
static void copy_settings(const section_match *match, apr_table_t *to, const apr_array_header_t *all, int only_merged)
{
    int i;

    for (i = 0; all && i < all->nelts; i++) {
        const apr_table_entry_t *entry = &APR_ARRAY_IDX(all, i, apr_table_entry_t);

        if (usp_s3_has_setting_prefix(entry) && (!only_merged || is_merged(match, entry->key))) {
            apr_table_unset(to, entry->key);
            apr_table_addn(to, entry->key, entry->val);
        }
    }
}

/* Merge settings in httpd's order: the server's, <Proxy> sections, enclosing sections. */
static apr_table_t *merge_settings(const section_match *match)
{
    apr_table_t *settings = apr_table_make(match->target->r->pool, 8);
    const char *bucket = usp_s3_get_value(match->default_variables, BUCKET_URL);
    int i, j;

    copy_settings(match, settings, match->default_variables, 1);
    if (bucket && !is_in_bucket(match->target, bucket))
        apr_table_unset(settings, BUCKET_URL); /* it is for the gateway */
    for (i = 0; i < match->matched->nelts; i++) {
        ap_conf_vector_t *section = APR_ARRAY_IDX(match->matched, i, ap_conf_vector_t *);
        const apr_array_header_t *unset = usp_s3_unsetenv_variables(section);

        for (j = 0; unset && j < unset->nelts; j++)
            apr_table_unset(settings, APR_ARRAY_IDX(unset, j, apr_table_entry_t).key);
        copy_settings(match, settings, usp_s3_setenv_variables(section), is_merged_section(match->target, section));
    }
    copy_settings(match, settings, match->enclosing_variables, 0);
    return settings;
}

/* The URL as written in the configuration. mod_proxy has moved the name of a socket to r->notes. */
static const char *get_written_url(request_rec *r, const char *balancer_url, const char *mapped_url)
{
    const char *socket = apr_table_get(r->notes, "uds_path");

    if (mapped_url)
        return mapped_url;
    return socket ? apr_pstrcat(r->pool, "unix:", socket, "|", balancer_url, NULL) : balancer_url;
}

int usp_s3_find_settings(request_rec *r, proxy_server_conf *conf, const char *url, const char *balancer_url,
                         usp_s3_settings *settings)
{
    const char *mapped_url = usp_s3_get_mapped_url(r);
    proxy_target target = {.r = r,
                           .url = url,
                           .index = usp_s3_get_section_index(r->pool, conf),
                           .written_url = get_written_url(r, balancer_url, mapped_url),
                           .is_known_before_merge = mapped_url != NULL,
                           .is_socket = apr_table_get(r->notes, "uds_path") != NULL};
    const usp_s3_trusted_variables *trusted = usp_s3_ensure_trusted_variables(r);
    section_match match = {.target = &target,
                           .default_variables = usp_s3_setenv_variables(r->server->lookup_defaults),
                           .merged_variables = usp_s3_setenv_variables(r->per_dir_config)};
    const char *error, *any_host_error, *enclosing_error = NULL;
    apr_uri_t uri;

    target.path_end = strcspn(target.written_url, "?");
    target.host = usp_s3_parse_url(r->pool, url, &uri) ? usp_s3_lowercase(r->pool, uri.hostname) : "";
    target.written_host = usp_s3_parse_url(r->pool, target.written_url, &uri) ? usp_s3_lowercase(r->pool, uri.hostname) : "";
    any_host_error = match_proxy_sections(&match);
    find_enclosing_variables(&match);
    if (match.enclosing_variables->nelts) {
        match.proxy_pass = find_proxy_pass(&target);
        if (match.proxy_pass.alias)
            match_locations(&match);
        enclosing_error = check_enclosing_bucket(&match, trusted);
    }
    error = check_settings(&match, trusted);
    /* The other errors are of sections that may be meant for this URL: a section that is for it decides. */
    if (!error && !match.must_sign && !(error = check_spelling(&match)))
        error = enclosing_error ? enclosing_error : any_host_error;
    if (!match.must_sign && !error)
        return 0;
    settings->variables = apr_table_elts(merge_settings(&match));
    settings->section_url = match.section_url;
    settings->rejection = error;
    return 1;
}
