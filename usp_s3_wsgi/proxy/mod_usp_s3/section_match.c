/*
 * The rule: which of the requests that mod_proxy sends are ours, and which settings count for one. It is the same for
 * ProxyPass, RewriteRule [P], SetHandler, balancers and subrequests; docs/security.md has it in an operator's words.
 *
 * A request is ours where a section of it holds a setting, and these are its sections:
 *   - a <Proxy> section of its URL, as mod_proxy applies it;
 *   - the <Location> that holds the ProxyPass which led to the URL, or is at or below the path of that;
 *   - another section around, whose S3BucketURL the URL is below.
 * A signature goes to no URL that the operator has not named so. The lines of the server are defaults.
 */

#include "sections.h"

#include "apr_fnmatch.h"

/* ---------------------------------------------------------------- what is asked */

typedef struct {
    request_rec *r;
    const usp_s3_index *index;
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

    if (!usp_s3_parse_url(pool, bucket_url, &bucket))
        return 1; /* Python says what is wrong with it */
    if (asked->is_socket || !usp_s3_parse_url(pool, asked->url, &one) || !usp_s3_is_same_origin(&one, &bucket))
        return 0;
    path = usp_s3_folder_of(pool, &bucket);
    return strncmp(usp_s3_folder_of(pool, &one), path, 1 + strcspn(path + 1, "/") + (path[1] != '\0')) == 0;
}

/* Whether a section counts, for the request or for the balancer's member. */
static int is_applied(const proxied_url *asked, ap_conf_vector_t *section)
{
    const proxy_dir_conf *proxy = usp_s3_proxy_of(section);

    return usp_s3_is_section_of(proxy, asked->as_written, asked->path_end)
           || (usp_s3_is_balancer(asked->as_written) && usp_s3_is_section_of(proxy, asked->url, strcspn(asked->url, "?")));
}

/* Whether mod_proxy has merged a section before it asks, whether it counts or not. */
static int is_walked(const proxied_url *asked, ap_conf_vector_t *section)
{
    return asked->is_mapped && usp_s3_is_applied_to(usp_s3_proxy_of(section), asked->as_written);
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
    rest = usp_s3_after(r->uri, alias->fake);
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
    const char *host = strstr(usp_s3_behind_socket(alias->real), "://"), *rest;
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
    return usp_s3_parse_url(pool, apr_pstrcat(pool, apr_pstrmemdup(pool, alias->real, length), "/", NULL), &one)
           && usp_s3_parse_url(pool, asked->url, &other) && usp_s3_is_same_origin(&one, &other);
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
    rest = usp_s3_after(path, location->d);
    return rest && (rest == path || rest[-1] == '/' || *rest == '/' || !*rest);
}

/* Whether a <Location> holds the ProxyPass that led to the URL. */
static int holds_mount(ap_conf_vector_t *section, const mount *from)
{
    const proxy_dir_conf *proxy = usp_s3_proxy_of(section);

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
    apr_array_header_t *applied;               /* ap_conf_vector_t *: <Proxy> sections that count */
    apr_array_header_t *ignored;               /* the same: those that mod_proxy alone applies */
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
    const apr_array_header_t *sections = usp_s3_candidates(asked->r->pool, asked->index, asked->host, asked->written_host);

    found->applied = apr_array_make(asked->r->pool, 2, sizeof(ap_conf_vector_t *));
    found->ignored = apr_array_make(asked->r->pool, 2, sizeof(ap_conf_vector_t *));
    for (i = 0; i < sections->nelts; i++) {
        ap_conf_vector_t *section = APR_ARRAY_IDX(sections, i, usp_s3_indexed).section;
        const proxy_dir_conf *proxy = usp_s3_proxy_of(section);
        const apr_array_header_t *all;
        const char *bucket;

        if (i && section == APR_ARRAY_IDX(sections, i - 1, usp_s3_indexed).section)
            continue; /* it is in two of the arrays */
        if (!is_applied(asked, section)) {
            if (is_walked(asked, section))
                APR_ARRAY_PUSH(found->ignored, ap_conf_vector_t *) = section;
            continue;
        }
        APR_ARRAY_PUSH(found->applied, ap_conf_vector_t *) = section;
        if (usp_s3_is_computing(section)) {
            found->is_claimed = 1;
            found->computing = usp_s3_shown_url(asked->r->pool, proxy->p);
        }
        if (!usp_s3_any(section, usp_s3_has_any_setting, NULL))
            continue;
        all = usp_s3_variables(section);
        bucket = usp_s3_value_of(all, BUCKET);
        if (!usp_s3_is_section_of_any(proxy) || (bucket && is_in_bucket(asked, bucket)))
            found->is_claimed = 1;
        else if (!bucket && usp_s3_holds_identity(all))
            found->refusal = apr_psprintf(asked->r->pool, "<Proxy \"%s\"> is one of any host: it needs S3BucketURL",
                                          usp_s3_shown_url(asked->r->pool, proxy->p));
        if (usp_s3_is_literal(proxy) && usp_s3_is_http(proxy->p))
            found->url = usp_s3_behind_socket(proxy->p);
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
 * The settings that neither the server nor a <Proxy> section has set, but perhaps an <If> in one. All empty values are one
 * string for mod_env; where all sections are merged already, such a one is the last word, whoever has set it.
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
                || (!usp_s3_holds(found->server, entry) && !is_of_one(found->applied, entry)
                    && !is_of_one(found->ignored, entry))))
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
        const char *bucket = usp_s3_value_of(all, BUCKET);
        int is_own;

        if ((!all && !location->sec_if && !location->sec_file) || !is_location_of(location, path))
            continue;
        is_own = holds_mount(section, &found->from)
                 || (bucket ? is_in_bucket(asked, bucket) : is_at_mount(asked, section, &found->from));
        if (is_own || (is_pattern(location) && !bucket)) {
            found->is_claimed |= is_own && usp_s3_any(section, usp_s3_has_any_setting, NULL)
                                 && usp_s3_first_setting(found->merged, 0);
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
        found->url = usp_s3_behind_socket(found->from.alias->real);
}

/* What is around says by S3BucketURL, set or computed, whether it is about the URL; keys that say nothing are refused. */
static void judge_around(search *found, const usp_s3_operator *operator)
{
    const char *bucket = usp_s3_value_of(found->around, BUCKET);

    if (!bucket)
        bucket = usp_s3_value_of(operator->computed, BUCKET);
    if (bucket && is_in_bucket(found->asked, bucket))
        found->is_claimed = 1;
    else if (bucket && !(found->from.alias && found->is_claimed))
        found->around->nelts = 0;
    else if (!bucket && !found->is_claimed && usp_s3_holds_identity(found->around))
        found->refusal = "the section around holds keys, but nothing says that they are for this URL: a <Proxy> section of it "
                         "or S3BucketURL";
}

/* How mod_proxy would apply a section of a URL that it does not apply now, NULL where that is none of the request's. */
static const char *spelling_of(const proxied_url *asked, const proxy_dir_conf *proxy)
{
    apr_pool_t *pool = asked->r->pool;
    const char *written = usp_s3_is_balancer(asked->as_written) ? asked->url : asked->as_written, *end;
    apr_uri_t section;

    if (!usp_s3_is_below(pool, asked->url, proxy->p) || !usp_s3_parse_url(pool, proxy->p, &section))
        return NULL;
    if (!(end = strstr(usp_s3_behind_socket(written), "://")))
        return NULL;
    end += 3 + strcspn(end + 3, "/");
    written = usp_s3_shown_url(pool, apr_pstrmemdup(pool, written, (apr_size_t)(end - written)));
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
        ap_conf_vector_t *section = APR_ARRAY_IDX(sections, i, usp_s3_indexed).section;
        const char *name = usp_s3_shown_url(pool, usp_s3_proxy_of(section)->p);
        const char *right = is_applied(found->asked, section) ? NULL : spelling_of(found->asked, usp_s3_proxy_of(section));

        if (!right || !usp_s3_any(section, usp_s3_has_any_setting, NULL))
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
    const apr_table_entry_t *setting = usp_s3_first_setting(operator->computed, 0);
    const char *bucket = usp_s3_value_of(operator->computed, BUCKET);
    const char *author = found->is_claimed ? usp_s3_author(found->asked->r) : NULL;
    apr_pool_t *pool = found->asked->r->pool;

    if (!bucket)
        bucket = usp_s3_value_of(found->merged, BUCKET);
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
    else if (setting && (found->is_claimed || bucket || usp_s3_holds_identity(operator->computed)))
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

/* if_merged: but what a section around has unset (UnsetEnv). The last one's spelling counts: tables keep the first one's. */
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
    const char *bucket = usp_s3_value_of(found->server, BUCKET);
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
    const char *mapped_url = usp_s3_mapped_url(r);
    proxied_url asked = {.r = r, .url = url, .index = usp_s3_index_of(r->pool, conf),
                         .as_written = as_written(r, unchosen, mapped_url),
                         .is_mapped = mapped_url != NULL, .is_socket = apr_table_get(r->notes, "uds_path") != NULL};
    const usp_s3_operator *operator = usp_s3_operator_of(r);
    search found = {.asked = &asked,
                    .server = usp_s3_variables(r->server->lookup_defaults),
                    .merged = usp_s3_variables(r->per_dir_config)};
    apr_uri_t uri;

    asked.path_end = strcspn(asked.as_written, "?");
    asked.host = usp_s3_parse_url(r->pool, url, &uri) ? usp_s3_lowercase(r->pool, uri.hostname) : "";
    asked.written_host = usp_s3_parse_url(r->pool, asked.as_written, &uri) ? usp_s3_lowercase(r->pool, uri.hostname) : "";
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
